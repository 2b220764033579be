//! A finished video that goes on: its last frames for the one that continues it, and both as one.

use crate::child::{QUIET, REPORT, answer, encoded, file, no_pipe, within, words};
use crate::error::MediaError;
use crate::ffmpeg::Ffmpeg;
use crate::footage::{COLOURS, Footage, READ_MP4, seconds};
use reel_domain::Shape;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;

/// Longest time that reading the last frames of a video may take, once it is their turn.
pub const LAST_FRAMES_DEADLINE: Duration = Duration::from_secs(60);
/// Longest time that joining two videos may take, once it is their turn.
pub const APPEND_DEADLINE: Duration = Duration::from_secs(120);

/// How 4:2:0 becomes RGB again: no corner is cut.
const EXACT: &str = "flags=bicubic+accurate_rnd+full_chroma_int";

impl Ffmpeg {
    /// The last frames of a video that we made, in the order in which they are shown: RGB, 8 bit,
    /// `[count, height, width, 3]`. Of the shape only the sides matter; they have to be those of the video.
    ///
    /// It is for requests, and has the places of stills: no number of them takes one from a job's encoding. The wait for
    /// one counts. Dropping the future kills the child.
    ///
    /// # Errors
    /// [`MediaError::TooShort`], [`MediaError::OtherSize`], or what else [`MediaError`] tells.
    pub async fn last_frames(
        &self,
        video: &Path,
        count: u32,
        shape: Shape,
    ) -> Result<Vec<u8>, MediaError> {
        within(LAST_FRAMES_DEADLINE, async {
            let _place = self.still_place().await?;
            let footage = self.footage(video).await?;
            refuse_other_size(&footage, shape)?;
            refuse_short(&footage, count)?;
            self.decode_last(video, &footage, count, shape).await
        })
        .await
    }

    async fn decode_last(
        &self,
        video: &Path,
        footage: &Footage,
        count: u32,
        shape: Shape,
    ) -> Result<Vec<u8>, MediaError> {
        let expected = shape.frame_bytes() * u64::from(count);
        let child = self.spawn(last_arguments(video, footage, count), Stdio::null())?;
        let read = answer(child, |stdout| read_at_most(stdout, expected + 1)).await?;
        let pixels = read?;
        match pixels.len() as u64 {
            got if got == expected => Ok(pixels),
            got => Err(MediaError::DecodedBytes { expected, got }),
        }
    }

    /// One MP4 at `output` that plays two videos that we made, one after the other, each as it is: nothing is encoded
    /// again. Nothing of value is at `output` after an error. Gives the frames of the whole.
    ///
    /// Waits for a place like [`Ffmpeg::encode`]. Dropping the future kills the child.
    ///
    /// # Errors
    /// [`MediaError::Unlike`] if their sizes or rates differ, or what else [`MediaError`] tells.
    pub async fn append(
        &self,
        first: &Path,
        second: &Path,
        output: &Path,
    ) -> Result<u32, MediaError> {
        let _place = self.places.acquire().await.map_err(io::Error::other)?;
        within(APPEND_DEADLINE, async {
            let parts = [
                (first, self.footage(first).await?),
                (second, self.footage(second).await?),
            ];
            self.join(parts, output).await
        })
        .await
    }

    async fn join(&self, parts: [(&Path, Footage); 2], output: &Path) -> Result<u32, MediaError> {
        let [(_, first), (_, second)] = &parts;
        if !first.is_like(second) {
            return Err(MediaError::Unlike {
                first: first.to_string(),
                second: second.to_string(),
            });
        }
        let frames = first.frames.saturating_add(second.frames);
        let list = list(&parts)?;
        let mut child = self.spawn(join_arguments(first, second, output), Stdio::piped())?;
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let (told, joined) = tokio::join!(tell(stdin, &list), encoded(child, frames));
        // A child that gives up says why; that it also stopped reading is only a consequence.
        joined?;
        told?;
        Ok(frames)
    }
}

fn refuse_short(footage: &Footage, count: u32) -> Result<(), MediaError> {
    if count > footage.frames {
        return Err(MediaError::TooShort {
            asked: count,
            there: footage.frames,
        });
    }
    Ok(())
}

fn refuse_other_size(footage: &Footage, shape: Shape) -> Result<(), MediaError> {
    let (expected, got) = ([shape.width(), shape.height()], footage.size);
    if got != expected {
        return Err(MediaError::OtherSize { expected, got });
    }
    Ok(())
}

fn last_arguments(video: &Path, footage: &Footage, count: u32) -> Vec<OsString> {
    let before = seconds(footage.micros_before(footage.frames - count));
    let mut arguments = words(&[QUIET, READ_MP4, "-ss", &before, "-i"]);
    arguments.push(file(video));
    let count = count.to_string();
    arguments.extend(words(&[
        "-map 0:v:0 -frames:v",
        &count,
        // Numbered anew: half a frame is left of the seek, and must not become a whole one.
        &format!("-vf setpts=N/FRAME_RATE/TB,scale={COLOURS}:{EXACT},format=rgb24"),
        "-f rawvideo pipe:1",
    ]));
    arguments
}

async fn read_at_most(stdout: impl AsyncRead + Unpin, bytes: u64) -> io::Result<Vec<u8>> {
    let mut pixels = Vec::new();
    stdout.take(bytes).read_to_end(&mut pixels).await?;
    Ok(pixels)
}

fn join_arguments(first: &Footage, second: &Footage, output: &Path) -> Vec<OsString> {
    // One frame alone is decoded when it is shown, others begin earlier: the whole begins as early as the earlier of
    // the two, and from there each frame is decoded one after the other.
    let (ticks, delay) = (first.frame_ticks, first.delay_ticks.max(second.delay_ticks));
    let times = format!("setts=pts=PTS:dts=N*{ticks}-{delay}:duration={ticks}");
    let mut arguments = words(&[
        QUIET,
        REPORT,
        "-f concat -safe 0 -protocol_whitelist file,pipe -i pipe:0",
        "-map 0:v:0 -c copy -bsf:v",
        &times,
        "-f mp4 -movflags +faststart",
    ]);
    arguments.push(file(output));
    arguments
}

/// The list of a concatenation. Each part says how long it is: the header of a video rounds to milliseconds.
fn list(parts: &[(&Path, Footage)]) -> Result<Vec<u8>, MediaError> {
    let mut list = Vec::new();
    for (path, footage) in parts {
        list.extend_from_slice(b"file ");
        list.extend(quoted(path)?);
        let duration = seconds(footage.micros());
        list.extend_from_slice(format!("\nduration {duration}\n").as_bytes());
    }
    Ok(list)
}

/// Between quotes everything is itself but for a quote, and for the end of a line, which nothing can hold.
fn quoted(path: &Path) -> Result<Vec<u8>, MediaError> {
    let name = file(path);
    let name = name.as_bytes();
    if name.contains(&b'\n') || name.contains(&b'\r') {
        return Err(MediaError::LineBreak(path.to_owned()));
    }
    let mut quoted = vec![b'\''];
    for &byte in name {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    Ok(quoted)
}

async fn tell(mut stdin: ChildStdin, list: &[u8]) -> io::Result<()> {
    stdin.write_all(list).await?;
    stdin.shutdown().await
}
