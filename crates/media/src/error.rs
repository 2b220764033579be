//! Why there is no video, no still, no frames.

use reel_domain::Shape;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why there is no video.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// There is no such program.
    #[error("ffmpeg is not {0}: install it (apt-get install ffmpeg) or give its path")]
    NotFound(String),
    /// 4:2:0 video halves both sides.
    #[error("{0} has an odd side, which 4:2:0 video cannot have")]
    OddSide(Shape),
    /// The frames are not those of the shape.
    #[error("the frames have {got} bytes, {shape} needs {expected}")]
    FrameBytes {
        /// The shape.
        shape: Shape,
        /// What it needs.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// A video without frames is none.
    #[error("{shape} without its first {left_out} frames has none left")]
    NothingLeft {
        /// The shape.
        shape: Shape,
        /// What was to be left out.
        left_out: u32,
    },
    /// The child could not be started or waited for.
    #[error("ffmpeg could not be run: {0}")]
    Io(#[from] io::Error),
    /// It ran too long.
    #[error("ffmpeg did not end within {} s", .0.as_secs())]
    Deadline(Duration),
    /// It gave up.
    #[error("ffmpeg ended with {status}: {stderr}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        stderr: String,
    },
    /// It said that all is well, but did not encode every frame.
    #[error("ffmpeg encoded {got:?} frames instead of {expected}")]
    FrameCount {
        /// What was demanded.
        expected: u32,
        /// What it reported.
        got: Option<u32>,
    },
    /// It said that all is well, but nothing that describes a video.
    #[error("ffmpeg's description of the video is not understood: {0}")]
    NotDescribed(String),
    /// A video is shorter than what was asked of it.
    #[error("the video has {there} frames, {asked} were asked for")]
    TooShort {
        /// Frames that were asked for.
        asked: u32,
        /// Frames of the video.
        there: u32,
    },
    /// A video has another size than whoever asked thinks.
    #[error("the video is {}x{}, its frames were asked for as {}x{}", .got[0], .got[1], .expected[0], .expected[1])]
    OtherSize {
        /// Width and height that were asked for.
        expected: [u32; 2],
        /// Width and height of the video.
        got: [u32; 2],
    },
    /// It said that all is well, but did not decode every frame.
    #[error("ffmpeg decoded {got} bytes instead of {expected}")]
    DecodedBytes {
        /// What the frames have.
        expected: u64,
        /// What came; no more than one byte beyond is read.
        got: u64,
    },
    /// Two videos cannot become one without being encoded again.
    #[error("a video of {first} cannot go on with one of {second}")]
    Unlike {
        /// What the first one is.
        first: String,
        /// What the second one is.
        second: String,
    },
    /// The list of what is to be joined has a line for each name.
    #[error("{0:?} has a line break in its name")]
    LineBreak(PathBuf),
}
