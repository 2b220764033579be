//! Modes: what the first frames come from.

use std::fmt;
use std::str::FromStr;

/// What a video starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Text to video: everything is generated.
    T2v,
    /// Image to video: the first frame is given.
    I2v,
    /// Continue from the last frames of an earlier video.
    Extend,
}

impl Mode {
    /// Every mode, in a fixed order.
    pub const ALL: [Self; 3] = [Self::T2v, Self::I2v, Self::Extend];

    /// The name on wires and in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::T2v => "t2v",
            Self::I2v => "i2v",
            Self::Extend => "extend",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a mode (t2v, i2v, extend)")]
pub struct ModeError(String);

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| ModeError(text.chars().take(64).collect()))
    }
}
