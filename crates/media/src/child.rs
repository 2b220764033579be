//! One run of the program: what it is told, and what it answers before its time is up.

use crate::error::MediaError;
use crate::tail::read_tail;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::process::{Child, ChildStdout};

/// What every child is told: it asks nobody, and says nothing but what went wrong.
pub(crate) const QUIET: &str = "-hide_banner -nostdin -nostats -loglevel error";

/// Reports progress on the standard output and replaces what is there.
pub(crate) const REPORT: &str = "-progress pipe:1 -y";

/// The words of some lines.
pub(crate) fn words(lines: &[&str]) -> Vec<OsString> {
    let words = lines.iter().flat_map(|line| line.split(' '));
    words.map(OsString::from).collect()
}

/// A name may look like an option or a protocol: `file:` makes it a file.
pub(crate) fn file(path: &Path) -> OsString {
    let mut name = OsString::from("file:");
    name.push(path);
    name
}

/// Work that ends, one way or the other. Children of work that ran too long are killed.
pub(crate) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, MediaError>>,
) -> Result<T, MediaError> {
    tokio::time::timeout(deadline, work)
        .await
        .map_err(|_| MediaError::Deadline(deadline))?
}

/// Waits for a child that encodes (or copies) this many frames.
pub(crate) async fn encoded(child: Child, frames: u32) -> Result<(), MediaError> {
    match frames_encoded(&answer(child, read_tail).await?) {
        Some(count) if count == frames => Ok(()),
        got => Err(MediaError::FrameCount {
            expected: frames,
            got,
        }),
    }
}

/// What was read from the standard output of a child that ended well.
pub(crate) async fn answer<T, F: Future<Output = T>>(
    mut child: Child,
    read: impl FnOnce(ChildStdout) -> F,
) -> Result<T, MediaError> {
    let stdout = child.stdout.take().ok_or_else(no_pipe)?;
    let stderr = child.stderr.take().ok_or_else(no_pipe)?;
    let (answer, stderr, status) = tokio::join!(read(stdout), read_tail(stderr), child.wait());
    let status = status?;
    if status.success() {
        Ok(answer)
    } else {
        Err(MediaError::Failed { status, stderr })
    }
}

pub(crate) fn no_pipe() -> io::Error {
    io::Error::other("the child has no pipes")
}

/// The last `frame=N` of a progress report.
fn frames_encoded(report: &str) -> Option<u32> {
    let mut counts = report
        .rsplit("; ")
        .filter_map(|line| line.strip_prefix("frame="));
    counts.next()?.trim().parse().ok()
}
