//! What there is in a video that we made: its size, its frames, and when each is shown.
//!
//! It is read from the packets themselves, which are neither decoded nor kept: a header may round.

use crate::child::{QUIET, answer, file, words};
use crate::error::MediaError;
use crate::ffmpeg::Ffmpeg;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// Most of a description that is read: some 60 bytes for each frame.
const DESCRIPTION_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Says how to read a video of ours, and nothing else: no other format, no network, one picture stream.
pub(crate) const READ_MP4: &str = "-protocol_whitelist file -f mov -threads 1";

/// The colours of a video of ours, for whatever scales its frames.
pub(crate) const COLOURS: &str = "in_color_matrix=bt709:in_range=tv";

/// A video of frames that are all shown for the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footage {
    /// Width and height, in pixels.
    pub(crate) size: [u32; 2],
    /// How many there are.
    pub(crate) frames: u32,
    /// How long each is shown, in ticks.
    pub(crate) frame_ticks: u32,
    /// A tick is this part of a second.
    ticks_per_second: u32,
    /// How long before the first frame is shown its decoding begins, in ticks: frames are not stored in the order
    /// in which they are shown.
    pub(crate) delay_ticks: u32,
}

impl Footage {
    /// Both can be played as one video without being encoded again.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let kind = |footage: &Self| (footage.size, footage.frame_ticks, footage.ticks_per_second);
        kind(self) == kind(other)
    }

    /// How long it plays, in microseconds.
    pub(crate) fn micros(&self) -> u64 {
        self.half_frames_micros(2 * u64::from(self.frames))
    }

    /// A time between a frame and the one before, in microseconds: whoever seeks it finds this frame, whichever
    /// way times are rounded.
    pub(crate) fn micros_before(&self, frame: u32) -> u64 {
        self.half_frames_micros((2 * u64::from(frame)).saturating_sub(1))
    }

    /// Rounded to the nearest.
    fn half_frames_micros(&self, half_frames: u64) -> u64 {
        let (ticks, rate) = (self.frame_ticks, self.ticks_per_second);
        let micros = u128::from(half_frames) * u128::from(ticks) * 500_000;
        let nearest = (micros + u128::from(rate) / 2) / u128::from(rate);
        u64::try_from(nearest).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Footage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [width, height] = self.size;
        let (ticks, rate) = (self.frame_ticks, self.ticks_per_second);
        write!(f, "{width}x{height} at {rate}/{ticks} frames a second")
    }
}

/// Microseconds as the program reads seconds.
pub(crate) fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

impl Ffmpeg {
    /// What there is in a video. Waits as long as it takes: a deadline is the caller's.
    pub(crate) async fn footage(&self, video: &Path) -> Result<Footage, MediaError> {
        let child = self.spawn(describe_arguments(video), Stdio::null())?;
        let lines = answer(child, describe).await?;
        lines.footage()
    }
}

fn describe_arguments(video: &Path) -> Vec<OsString> {
    let mut arguments = words(&[QUIET, READ_MP4, "-i"]);
    arguments.push(file(video));
    arguments.extend(words(&["-map 0:v:0 -c copy -f framecrc pipe:1"]));
    arguments
}

/// The lines of a description that matter.
#[derive(Debug, Default)]
struct Description {
    /// `1/12288`
    time_base: Option<String>,
    /// `768x512`
    dimensions: Option<String>,
    /// `stream, decoding time, showing time, duration, size, checksum`
    first_packet: Option<String>,
    packets: u32,
}

async fn describe(stdout: impl AsyncRead + Unpin) -> Description {
    let mut lines = BufReader::new(stdout.take(DESCRIPTION_BYTES_MAX)).lines();
    let mut description = Description::default();
    // A line that cannot be read ends the description like an end of file does; it is then found wanting.
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(value) = line.strip_prefix("#tb 0: ") {
            description.time_base = Some(value.to_owned());
        } else if let Some(value) = line.strip_prefix("#dimensions 0: ") {
            description.dimensions = Some(value.to_owned());
        } else if !line.starts_with('#') {
            description.packets += 1;
            description.first_packet.get_or_insert(line);
        }
    }
    description
}

impl Description {
    fn footage(&self) -> Result<Footage, MediaError> {
        self.understood()
            .ok_or_else(|| MediaError::NotDescribed(format!("{self:?}")))
    }

    fn understood(&self) -> Option<Footage> {
        let ticks_per_second: u32 = self.time_base.as_ref()?.strip_prefix("1/")?.parse().ok()?;
        let (width, height) = self.dimensions.as_ref()?.split_once('x')?;
        let mut fields = self
            .first_packet
            .as_ref()?
            .split(',')
            .map(str::trim)
            .skip(1);
        let decoded_at: i64 = fields.next()?.parse().ok()?;
        let frame_ticks: u32 = fields.nth(1)?.parse().ok()?;
        (ticks_per_second > 0 && frame_ticks > 0).then_some(Footage {
            size: [width.parse().ok()?, height.parse().ok()?],
            frames: self.packets,
            frame_ticks,
            ticks_per_second,
            delay_ticks: u32::try_from(decoded_at.checked_neg()?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#software: Lavf\n#tb 0: 1/12288\n#dimensions 0: 96x64\n\
        0,      -1024,          0,      512,     1674, 0xd4abd5df\n\
        0,       -512,       2048,      512,       97, 0x24da2f45, F=0x0\n";

    async fn footage(text: &str) -> Result<Footage, MediaError> {
        describe(text.as_bytes()).await.footage()
    }

    #[tokio::test]
    async fn a_description_is_understood() {
        let footage = footage(TEXT).await.unwrap();
        assert_eq!((footage.size, footage.frames), ([96, 64], 2));
        assert_eq!((footage.frame_ticks, footage.delay_ticks), (512, 1024));
        assert_eq!(footage.micros(), 83_333);
        assert_eq!(footage.to_string(), "96x64 at 12288/512 frames a second");
    }

    #[tokio::test]
    async fn half_a_description_is_none() {
        for missing in [
            "",
            "#tb 0: 1/12288\n",
            &TEXT.replace("-1024", "NOPTS"),
            &TEXT[..60],
        ] {
            let refused = footage(missing).await;
            assert!(
                matches!(refused, Err(MediaError::NotDescribed(_))),
                "{missing}"
            );
        }
    }

    #[tokio::test]
    async fn the_time_before_a_frame_is_after_the_one_before() {
        let footage = footage(TEXT).await.unwrap();
        assert_eq!(footage.micros_before(0), 0);
        assert_eq!(footage.micros_before(1), 20_833);
        assert_eq!(seconds(footage.micros_before(9_999)), "416.604167");
    }
}
