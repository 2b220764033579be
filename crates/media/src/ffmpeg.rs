//! Runs of the ffmpeg program.

use crate::tail::read_tail;
use reel_domain::{Fps, Shape};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
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
        /// What the shape demands.
        expected: u32,
        /// What it reported.
        got: Option<u32>,
    },
}

/// The ffmpeg program. Clones share the limit of children that run at once: one for each processor.
#[derive(Debug, Clone)]
pub struct Ffmpeg {
    program: PathBuf,
    places: Arc<Semaphore>,
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
            })
            .map_err(MediaError::NotFound)
    }

    /// Where the program is.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Encodes a file of frames (RGB, 8 bit, `[frames, height, width, 3]`) into an MP4 at `out`: H.264, 4:2:0,
    /// BT.709, index before the data. Nothing of value is at `out` after an error.
    ///
    /// Waits while as many children run as there are processors: more of them would only take each other's time
    /// and memory. Dropping the future kills the child.
    ///
    /// # Errors
    /// See [`MediaError`].
    pub async fn encode(
        &self,
        mut frames: File,
        shape: Shape,
        fps: Fps,
        out: &Path,
    ) -> Result<(), MediaError> {
        check_frames(&frames, shape)?;
        // Whoever wrote the file shares its position.
        frames.rewind()?;
        // The semaphore is never closed.
        let _place = self.places.acquire().await.map_err(io::Error::other)?;
        let child = self.spawn(encode_arguments(shape, fps, out), frames.into())?;
        run(child, shape).await
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
    pub fn prepare(&self, shape: Shape, fps: Fps, out: &Path) -> Result<Encoder, MediaError> {
        refuse_odd(shape)?;
        let child = self.spawn(encode_arguments(shape, fps, out), Stdio::piped())?;
        Ok(Encoder {
            child,
            shape,
            places: Arc::clone(&self.places),
        })
    }

    fn spawn(&self, arguments: Vec<OsString>, stdin: Stdio) -> io::Result<Child> {
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
    shape: Shape,
    places: Arc<Semaphore>,
}

impl Encoder {
    /// Encodes a file of frames, like [`Ffmpeg::encode`].
    ///
    /// # Errors
    /// See [`MediaError`].
    pub async fn encode(mut self, mut frames: File) -> Result<(), MediaError> {
        check_frames(&frames, self.shape)?;
        frames.rewind()?;
        let _place = self.places.acquire().await.map_err(io::Error::other)?;
        let stdin = self.child.stdin.take().ok_or_else(no_pipe)?;
        let (fed, encoded) = tokio::join!(feed(frames, stdin), run(self.child, self.shape));
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

fn check_frames(frames: &File, shape: Shape) -> Result<(), MediaError> {
    refuse_odd(shape)?;
    let (expected, got) = (shape.video_bytes(), frames.metadata()?.len());
    if got != expected {
        return Err(MediaError::FrameBytes {
            shape,
            expected,
            got,
        });
    }
    Ok(())
}

fn encode_arguments(shape: Shape, fps: Fps, out: &Path) -> Vec<OsString> {
    let size = format!("{}x{}", shape.width(), shape.height());
    let fps = fps.value().to_string();
    let count = shape.frames().to_string();
    let text = [
        "-hide_banner -nostdin -nostats -loglevel error -progress pipe:1 -y",
        // The input is described completely: nothing to probe.
        "-probesize 32 -analyzeduration 0 -f rawvideo -pixel_format rgb24",
        &format!("-video_size {size} -framerate {fps} -i pipe:0 -frames:v {count}"),
        // Players assume BT.709 unless told otherwise; converting to and naming it keeps colours true.
        "-vf scale=out_color_matrix=bt709:out_range=tv,format=yuv420p",
        "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv",
        "-c:v libx264 -preset veryfast -crf 16 -f mp4 -movflags +faststart",
    ];
    let words = text.iter().flat_map(|line| line.split(' '));
    let mut arguments: Vec<OsString> = words.map(OsString::from).collect();
    arguments.push("-threads".into());
    arguments.push(threads(shape).into());
    // The name may look like an option or a protocol: `file:` makes it a file.
    let mut target = OsString::from("file:");
    target.push(out);
    arguments.push(target);
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

/// Waits, within the deadline, for a child that encodes every frame of the shape.
async fn run(child: Child, shape: Shape) -> Result<(), MediaError> {
    let report = tokio::time::timeout(ENCODE_DEADLINE, wait(child))
        .await
        .map_err(|_| MediaError::Deadline(ENCODE_DEADLINE))??;
    match frames_encoded(&report) {
        Some(count) if count == shape.frames() => Ok(()),
        got => Err(MediaError::FrameCount {
            expected: shape.frames(),
            got,
        }),
    }
}

/// The progress report of a child that ended well.
async fn wait(mut child: Child) -> Result<String, MediaError> {
    let stdout = child.stdout.take().ok_or_else(no_pipe)?;
    let stderr = child.stderr.take().ok_or_else(no_pipe)?;
    let (report, stderr, status) = tokio::join!(read_tail(stdout), read_tail(stderr), child.wait());
    let status = status?;
    if status.success() {
        Ok(report)
    } else {
        Err(MediaError::Failed { status, stderr })
    }
}

fn no_pipe() -> io::Error {
    io::Error::other("the child has no pipes")
}

/// The last `frame=N` of a progress report.
fn frames_encoded(report: &str) -> Option<u32> {
    let mut counts = report
        .rsplit("; ")
        .filter_map(|line| line.strip_prefix("frame="));
    counts.next()?.trim().parse().ok()
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
