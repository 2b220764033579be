//! Shapes: width x height @ frames.

use crate::limits::{FRAMES_MAX, SIDE_PIXELS_MAX};
use std::fmt;
use std::str::FromStr;

/// The size of a video. Its key is `768x512@121f`: width, height, frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    width: u32,
    height: u32,
    frames: u32,
}

/// Why a shape was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The text is not of the form `768x512@121f`.
    #[error("`{0}` is not a shape (expected WIDTHxHEIGHT@FRAMESf, like 768x512@121f)")]
    Malformed(String),
    /// A number is zero or beyond its limit.
    #[error("{what} {value} is outside 1..={max}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// What it was.
        value: u32,
        /// Its largest allowed value.
        max: u32,
    },
}

impl Shape {
    /// A shape of `width` x `height` pixels and `frames` frames.
    ///
    /// # Errors
    /// [`ShapeError::OutOfRange`] for a zero or a value beyond [`SIDE_PIXELS_MAX`] or [`FRAMES_MAX`].
    pub fn new(width: u32, height: u32, frames: u32) -> Result<Self, ShapeError> {
        for (what, value, max) in [
            ("width", width, SIDE_PIXELS_MAX),
            ("height", height, SIDE_PIXELS_MAX),
            ("frames", frames, FRAMES_MAX),
        ] {
            if value == 0 || value > max {
                return Err(ShapeError::OutOfRange { what, value, max });
            }
        }
        Ok(Self {
            width,
            height,
            frames,
        })
    }

    /// Width in pixels.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub const fn height(self) -> u32 {
        self.height
    }

    /// Number of frames.
    #[must_use]
    pub const fn frames(self) -> u32 {
        self.frames
    }

    /// Bytes of one frame as 8-bit RGB.
    #[must_use]
    pub const fn frame_bytes(self) -> u64 {
        self.width as u64 * self.height as u64 * 3
    }

    /// Bytes of the whole video as 8-bit RGB, frame after frame.
    #[must_use]
    pub const fn video_bytes(self) -> u64 {
        self.frame_bytes() * self.frames as u64
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}@{}f", self.width, self.height, self.frames)
    }
}

impl FromStr for Shape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        let malformed = || ShapeError::Malformed(text.chars().take(64).collect());
        let (width, rest) = text.split_once('x').ok_or_else(malformed)?;
        let (height, rest) = rest.split_once('@').ok_or_else(malformed)?;
        let frames = rest.strip_suffix('f').ok_or_else(malformed)?;
        let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse().map_err(|_| malformed()),
            false => Err(malformed()),
        };
        Self::new(number(width)?, number(height)?, number(frames)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_survives_its_key() {
        let shape = Shape::new(768, 512, 121).unwrap();
        assert_eq!(shape.to_string(), "768x512@121f");
        assert_eq!("768x512@121f".parse(), Ok(shape));
    }

    #[test]
    fn malformed_and_absurd_shapes_are_refused() {
        for text in [
            "",
            "64x64",
            "64x64@17",
            "+64x64@17f",
            "64x64@f",
            "64 x64@17f",
            "-1x64@17f",
            "99999999999x1@1f",
        ] {
            assert!(
                matches!(text.parse::<Shape>(), Err(ShapeError::Malformed(_))),
                "{text}"
            );
        }
        for text in ["0x64@17f", "64x0@17f", "64x64@0f", "8193x64@17f"] {
            assert!(
                matches!(text.parse::<Shape>(), Err(ShapeError::OutOfRange { .. })),
                "{text}"
            );
        }
    }
}
