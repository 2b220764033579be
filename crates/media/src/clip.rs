//! What becomes of a file of frames.

use crate::error::MediaError;
use reel_domain::{Fps, Shape};

/// The frames of a file that become a video, and how fast they play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clip {
    shape: Shape,
    fps: Fps,
    left_out: u32,
}

impl Clip {
    /// All frames of a shape.
    #[must_use]
    pub const fn new(shape: Shape, fps: Fps) -> Self {
        Self {
            shape,
            fps,
            left_out: 0,
        }
    }

    /// The same without its first frames: those that a continuation repeats of what it continues.
    ///
    /// # Errors
    /// [`MediaError::NothingLeft`].
    pub const fn without_first(self, frames: u32) -> Result<Self, MediaError> {
        if frames >= self.shape.frames() {
            return Err(MediaError::NothingLeft {
                shape: self.shape,
                left_out: frames,
            });
        }
        Ok(Self {
            left_out: frames,
            ..self
        })
    }

    /// The shape of the file, with what is left out.
    #[must_use]
    pub const fn shape(self) -> Shape {
        self.shape
    }

    /// How fast it plays.
    #[must_use]
    pub const fn fps(self) -> Fps {
        self.fps
    }

    /// Frames of the video.
    #[must_use]
    pub const fn frames(self) -> u32 {
        self.shape.frames() - self.left_out
    }

    /// Where its first frame begins in the file, in bytes.
    pub(crate) const fn offset(self) -> u64 {
        self.shape.frame_bytes() * self.left_out as u64
    }
}
