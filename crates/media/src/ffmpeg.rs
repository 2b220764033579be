//! Runs of the ffmpeg program.

use crate::child::{QUIET, REPORT, encoded, file, no_pipe, within, words};
use crate::clip::Clip;
use crate::error::MediaError;
use reel_domain::Shape;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Semaphore;

/// Longest run of one encoding, after which the child is killed.
pub const ENCODE_DEADLINE: Duration = Duration::from_secs(300);

/// Variables that a child sees; everything else of our environment stays here.
const ENVIRONMENT_KEPT: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// Stills that are made at once. They are for viewers: however many ask, the jobs keep the processors.
const STILLS_AT_ONCE_MAX: usize = 2;

/// The ffmpeg program. Clones share the limits of children that run at once: one for each processor, and
/// a few for stills.
#[derive(Debug, Clone)]
pub struct Ffmpeg {
    program: PathBuf,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) still_places: Arc<Semaphore>,
}

impl Ffmpeg {
    /// The program at `option`, or else the first `ffmpeg` on `PATH`.
    ///
    /// # Errors
    /// [`MediaError::NotFound`] when there is none that can be executed.
    pub fn locate(option: Option<&Path>) -> Result<Self, MediaError> {
        let found = match option {
            Some(path) if is_program(path) => Ok(path.to_owned()),
            Some(path) => Err(format!("at {}", path.display())),
            None => on_path("ffmpeg").ok_or_else(|| "on PATH".into()),
        };
        let places = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        found
            .map(|program| Self {
                program,
                places: Arc::new(Semaphore::new(places)),
                still_places: Arc::new(Semaphore::new(STILLS_AT_ONCE_MAX)),
            })
            .map_err(MediaError::NotFound)
    }

    /// Where the program is.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Encodes the frames of a clip from their file (RGB, 8 bit, `[frames, height, width, 3]`) into an MP4 at `out`:
    /// H.264, 4:2:0, BT.709, index before the data. Nothing of value is at `out` after an error.
    ///
    /// Waits while as many children run as there are processors: more of them would only take each other's time
    /// and memory. Dropping the future kills the child.
    ///
    /// # Errors
    /// See [`MediaError`].
    pub async fn encode(&self, frames: File, clip: Clip, out: &Path) -> Result<(), MediaError> {
        let frames = first_frame(frames, clip)?;
        // The semaphore is never closed.
        let _place = self.places.acquire().await.map_err(io::Error::other)?;
        let child = self.spawn(encode_arguments(clip, out), frames.into())?;
        within(ENCODE_DEADLINE, encoded(child, clip.frames())).await
    }

    /// Starts the encoding of a video whose frames will come later. Most of the time of a short encoding is the
    /// start of the program (75 ms of processor time, on the machine where this was measured): it can pass while
    /// the frames are still being made.
    ///
    /// A child that waits for its frames does not count as one that runs: whoever prepares has a limit of its own,
    /// the attempts that run. Dropping the [`Encoder`] kills the child. Needs a runtime around it, like every child of tokio.
    ///
    /// # Errors
    /// [`MediaError::OddSide`], or when the child cannot be started.
    pub fn prepare(&self, clip: Clip, out: &Path) -> Result<Encoder, MediaError> {
        refuse_odd(clip.shape())?;
        let child = self.spawn(encode_arguments(clip, out), Stdio::piped())?;
        Ok(Encoder {
            child,
            clip,
            places: Arc::clone(&self.places),
        })
    }

    pub(crate) fn spawn(&self, arguments: Vec<OsString>, stdin: Stdio) -> io::Result<Child> {
        let kept = ENVIRONMENT_KEPT
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .envs(kept)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // A ctrl-c on the terminal is for the server, which lets encodings finish.
            .process_group(0)
            .spawn()
    }
}

/// A program that has started and waits for frames.
#[derive(Debug)]
pub struct Encoder {
    child: Child,
    clip: Clip,
    places: Arc<Semaphore>,
}

impl Encoder {
    /// Encodes a file of frames, like [`Ffmpeg::encode`].
    ///
    /// # Errors
    /// See [`MediaError`].
    pub async fn encode(mut self, frames: File) -> Result<(), MediaError> {
        let frames = first_frame(frames, self.clip)?;
        let _place = self.places.acquire().await.map_err(io::Error::other)?;
        let stdin = self.child.stdin.take().ok_or_else(no_pipe)?;
        let encoding = within(ENCODE_DEADLINE, encoded(self.child, self.clip.frames()));
        let (fed, encoded) = tokio::join!(feed(frames, stdin), encoding);
        // A child that gives up says why; that it also stopped reading is only a consequence.
        encoded?;
        Ok(fed?)
    }

    /// Ends the program. When this returns it writes nothing any more.
    pub async fn abandon(mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill().await;
    }
}

async fn feed(frames: File, mut stdin: ChildStdin) -> io::Result<()> {
    let mut frames = tokio::fs::File::from_std(frames);
    tokio::io::copy(&mut frames, &mut stdin).await?;
    stdin.shutdown().await
}

fn refuse_odd(shape: Shape) -> Result<(), MediaError> {
    if shape.width() % 2 == 1 || shape.height() % 2 == 1 {
        return Err(MediaError::OddSide(shape));
    }
    Ok(())
}

/// The file at the first frame of the clip, if it is a file of the clip's shape.
fn first_frame(mut frames: File, clip: Clip) -> Result<File, MediaError> {
    let shape = clip.shape();
    refuse_odd(shape)?;
    let (expected, got) = (shape.video_bytes(), frames.metadata()?.len());
    if got != expected {
        return Err(MediaError::FrameBytes {
            shape,
            expected,
            got,
        });
    }
    // Whoever wrote the file shares its position.
    frames.seek(SeekFrom::Start(clip.offset()))?;
    Ok(frames)
}

fn encode_arguments(clip: Clip, out: &Path) -> Vec<OsString> {
    let shape = clip.shape();
    let size = format!("{}x{}", shape.width(), shape.height());
    let (fps, count) = (clip.fps().value(), clip.frames());
    let text = [
        QUIET,
        REPORT,
        // The input is described completely: nothing to probe.
        "-probesize 32 -analyzeduration 0 -f rawvideo -pixel_format rgb24",
        &format!("-video_size {size} -framerate {fps} -i pipe:0 -frames:v {count}"),
        // Players assume BT.709 unless told otherwise; converting to and naming it keeps colours true.
        "-vf scale=out_color_matrix=bt709:out_range=tv,format=yuv420p",
        "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv",
        "-c:v libx264 -preset veryfast -crf 16 -f mp4 -movflags +faststart",
    ];
    let mut arguments = words(&text);
    arguments.push("-threads".into());
    arguments.push(threads(shape).into());
    arguments.push(file(out));
    arguments
}

/// Threads pay off only when there is work for them; starting them costs as much as encoding a small clip.
fn threads(shape: Shape) -> &'static str {
    const ONE_THREAD_BYTES_MAX: u64 = 16 * 1024 * 1024;
    if shape.video_bytes() <= ONE_THREAD_BYTES_MAX {
        "1"
    } else {
        "0"
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join(name));
    candidates.find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
