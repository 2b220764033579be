//! A worker's stdout and stderr: never protocol. Both are drained into the log and into a bounded ring.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Lines kept of a worker, for the day it dies.
pub const TAIL_LINES_MAX: usize = 50;
/// Longest line kept; the rest of it is dropped.
pub const LINE_BYTES_MAX: usize = 1_024;

/// The last lines of a worker's output.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Tail {
    /// The lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Reads a pipe to its end, whatever comes: a flood costs time, never memory.
pub(crate) async fn drain(
    mut pipe: impl AsyncRead + Unpin,
    label: String,
    stream: &'static str,
    tail: Tail,
) {
    let mut buffer = vec![0; 64 * 1_024];
    let mut line = Vec::new();
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let mut rest = &buffer[..read];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            append(&mut line, &rest[..end]);
            keep(&mut line, &label, stream, &tail);
            rest = &rest[end + 1..];
        }
        append(&mut line, rest);
    }
    keep(&mut line, &label, stream, &tail);
}

fn append(line: &mut Vec<u8>, part: &[u8]) {
    let room = LINE_BYTES_MAX - line.len();
    line.extend(&part[..part.len().min(room)]);
}

fn keep(line: &mut Vec<u8>, label: &str, stream: &'static str, tail: &Tail) {
    if !line.is_empty() {
        let text = String::from_utf8_lossy(line).into_owned();
        tracing::debug!(target: "reel::worker", worker = label, stream, "{text}");
        tail.push(text);
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_long_ones_are_cut() {
        let tail = Tail::default();
        let text: String =
            (0..60).map(|n| format!("line {n}\n")).collect::<String>() + &"x".repeat(5_000);
        drain(text.as_bytes(), "w0".into(), "stdout", tail.clone()).await;
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES_MAX);
        assert_eq!(lines[0], "line 11");
        assert_eq!(lines[49].len(), LINE_BYTES_MAX);
    }
}
