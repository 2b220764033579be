//! How much of what is answered for is on the disk when it is.

use std::fmt;

/// What a power cut may take. The end of the process, however sudden, takes nothing in either case: what was written is
/// the kernel's by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nothing: whatever is answered for was synced before.
    #[default]
    Full,
    /// What the kernel had not written yet: accepted jobs, ends of jobs and videos of the last half minute or so.
    Off,
}

impl Durability {
    /// Files are synced before anybody hears of them.
    #[must_use]
    pub const fn syncs(self) -> bool {
        matches!(self, Self::Full)
    }

    /// The name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
