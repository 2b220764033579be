//! What a finished job can be looked at as.

use std::fmt;

/// The video, or a still of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// The video itself.
    Video,
    /// One frame.
    Thumbnail,
    /// Many frames, small, side by side.
    Spritesheet,
}

/// What is made of a finished video when somebody asks for it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Still {
    /// One frame.
    Thumbnail,
    /// Many frames, small, side by side.
    Spritesheet,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Video, Self::Thumbnail, Self::Spritesheet];

    /// Its name, in requests and on the disk.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Thumbnail => "thumbnail",
            Self::Spritesheet => "spritesheet",
        }
    }

    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Video => "video/mp4",
            Self::Thumbnail => "image/webp",
            Self::Spritesheet => "image/jpeg",
        }
    }

    /// What names of such files end with, after a dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Video => "mp4",
            Self::Thumbnail => "webp",
            Self::Spritesheet => "jpg",
        }
    }

    /// The still that it is, unless it is the video.
    #[must_use]
    pub const fn still(self) -> Option<Still> {
        match self {
            Self::Video => None,
            Self::Thumbnail => Some(Still::Thumbnail),
            Self::Spritesheet => Some(Still::Spritesheet),
        }
    }
}

impl Still {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Thumbnail, Self::Spritesheet];

    /// The same as a variant.
    #[must_use]
    pub const fn variant(self) -> Variant {
        match self {
            Self::Thumbnail => Variant::Thumbnail,
            Self::Spritesheet => Variant::Spritesheet,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Still {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.variant(), f)
    }
}
