//! The end of what a child wrote.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of a child's output that are kept, the last ones.
const TAIL_BYTES_MAX: usize = 4 * 1024;

/// Reads to the end and keeps the last [`TAIL_BYTES_MAX`] bytes, as text on one line.
pub(crate) async fn read_tail(mut stream: impl AsyncRead + Unpin) -> String {
    let mut tail = Vec::new();
    let mut chunk = [0; 1024];
    // An error ends the text like an end of file does: what came before is still worth showing.
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        tail.extend_from_slice(&chunk[..read]);
        let surplus = tail.len().saturating_sub(TAIL_BYTES_MAX);
        tail.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&tail);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_end_is_kept() {
        let flood = format!("{}\nthe reason\n", "x".repeat(100_000));
        let tail = read_tail(flood.as_bytes()).await;
        assert!(tail.ends_with("; the reason") && tail.len() <= TAIL_BYTES_MAX + 1);
    }
}
