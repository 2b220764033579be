//! What an earlier job has to do with a later one.

use crate::ids::JobId;

/// Where a job that does not stand alone comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Another prompt, with the seed and the settings of that job.
    Remix {
        /// That job.
        of: JobId,
    },
    /// It goes on where that job's video ends; its own video is both, one after the other.
    Extension {
        /// That job.
        of: JobId,
        /// Frames of that video.
        frames: u32,
    },
}

impl Origin {
    /// The name in the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Remix { .. } => "remix",
            Self::Extension { .. } => "extension",
        }
    }

    /// The earlier job.
    #[must_use]
    pub const fn of(self) -> JobId {
        match self {
            Self::Remix { of } | Self::Extension { of, .. } => of,
        }
    }
}
