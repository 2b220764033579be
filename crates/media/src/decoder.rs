//! Images are decoded in a child that can do nothing else.
//!
//! A decoder eats what strangers send. Should one of them be taken over, it finds itself in a process without files,
//! sockets or memory of ours, which can do two things: write a frame or refuse. Neither is believed further than it
//! can be checked: a frame has exactly the bytes of the shape, a refusal is one of those that we know.
//!
//! The child is this very program with the subcommand [`IMAGE_DECODER`], which gives up its rights before it reads
//! a byte and then runs [`serve_decoding`]. It reads the image from its standard input and writes the frame to its
//! standard output, or a refusal to its standard error.

use crate::image::{IMAGE_BYTES_MAX, ImageError, check_size, decode_image};
use crate::refusal::{REFUSAL_BYTES_MAX, from_line, to_line};
use reel_domain::Shape;
use rustix::process::Signal;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

/// Longest life of one decoder, after which it is killed. The largest image that is allowed takes a few seconds.
pub const IMAGE_DECODE_DEADLINE: Duration = Duration::from_secs(20);
/// The subcommand that decodes one image; the key of the shape follows.
pub const IMAGE_DECODER: &str = "image-decoder";

/// How a child that refuses an image ends; its standard error says why.
const REFUSED: u8 = 3;
const SIGXCPU: i32 = Signal::XCPU.as_raw();
const SIGKILL: i32 = Signal::KILL.as_raw();
/// What the allocator of Rust says before it aborts the process.
const OUT_OF_MEMORY: &str = "memory allocation of ";

/// Decodes images in children of a program, one child for each.
#[derive(Debug, Clone)]
pub struct ImageDecoder {
    program: PathBuf,
}

/// What a child left behind.
struct Answer {
    status: ExitStatus,
    frame: Vec<u8>,
    refusal: String,
}

impl ImageDecoder {
    /// `program` knows the subcommand [`IMAGE_DECODER`].
    #[must_use]
    pub const fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Decodes an image as [`decode_image`] does, in a child that lives no longer than [`IMAGE_DECODE_DEADLINE`].
    /// Dropping the future kills it. How many run at once is for the caller to limit.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn decode(
        &self,
        image: impl AsRef<[u8]>,
        shape: Shape,
    ) -> Result<Vec<u8>, ImageError> {
        let image = image.as_ref();
        check_size(image)?;
        let child = self.spawn(shape).map_err(unavailable)?;
        tokio::time::timeout(IMAGE_DECODE_DEADLINE, converse(child, image, shape))
            .await
            .map_err(|_| ImageError::TooExpensive)?
            .map_err(unavailable)?
            .judge(shape)
    }

    fn spawn(&self, shape: Shape) -> io::Result<Child> {
        Command::new(&self.program)
            .arg(IMAGE_DECODER)
            .arg(shape.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // A ctrl-c on the terminal is for the server, which answers its requests.
            .process_group(0)
            .spawn()
    }
}

impl Answer {
    fn judge(self, shape: Shape) -> Result<Vec<u8>, ImageError> {
        if self.status.success() && self.frame.len() as u64 == shape.frame_bytes() {
            return Ok(self.frame);
        }
        if self.status.code() == Some(REFUSED.into()) {
            return Err(from_line(&self.refusal).unwrap_or(ImageError::DecoderFailed));
        }
        Err(match self.status.signal() {
            // The kernel ends who has used up its time with one or the other, and with the second who takes the
            // last memory of the machine.
            Some(SIGXCPU | SIGKILL) => ImageError::TooExpensive,
            Some(_) if self.refusal.starts_with(OUT_OF_MEMORY) => ImageError::TooExpensive,
            _ => ImageError::DecoderFailed,
        })
    }
}

/// Feeds the child and hears what it says, until it has ended.
async fn converse(mut child: Child, image: &[u8], shape: Shape) -> io::Result<Answer> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (fed, frame, refusal) = tokio::join!(
        feed(stdin, image),
        // One byte more than is right tells a frame that is too long.
        read_most(stdout, shape.frame_bytes() + 1),
        read_most(stderr, REFUSAL_BYTES_MAX as u64),
    );
    // A child that has refused an image need not have read all of it.
    fed.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })?;
    Ok(Answer {
        frame: frame?,
        refusal: String::from_utf8_lossy(&refusal?).into_owned(),
        status: child.wait().await?,
    })
}

async fn feed(stdin: Option<ChildStdin>, image: &[u8]) -> io::Result<()> {
    let mut stdin = stdin.ok_or_else(no_pipe)?;
    stdin.write_all(image).await?;
    stdin.shutdown().await
}

/// What there is to read, up to `most` bytes. A writer that goes on meets a closed pipe.
async fn read_most(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let pipe = pipe.ok_or_else(no_pipe)?;
    pipe.take(most).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn no_pipe() -> io::Error {
    io::Error::other("the child has no pipes")
}

fn unavailable(cause: impl Display) -> ImageError {
    ImageError::DecoderUnavailable {
        cause: cause.to_string(),
    }
}

/// The child's side: gives up its rights, and only then reads an image from standard input and answers.
pub fn serve_decoding<E: Display>(
    shape: Shape,
    give_up_rights: impl FnOnce() -> Result<(), E>,
) -> ExitCode {
    let frame = give_up_rights()
        .map_err(unavailable)
        .and_then(|()| read_image().map_err(unavailable))
        .and_then(|image| decode_image(&image, shape));
    let (written, code) = match frame {
        Ok(frame) => (write_frame(&frame), ExitCode::SUCCESS),
        Err(error) => (
            writeln!(io::stderr(), "{}", to_line(&error)),
            ExitCode::from(REFUSED),
        ),
    };
    written.map_or(ExitCode::FAILURE, |()| code)
}

fn read_image() -> io::Result<Vec<u8>> {
    let mut image = Vec::new();
    // One byte more than is allowed tells an image that is too large.
    let most = IMAGE_BYTES_MAX as u64 + 1;
    io::stdin().lock().take(most).read_to_end(&mut image)?;
    Ok(image)
}

fn write_frame(frame: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(frame)?;
    output.flush()
}
