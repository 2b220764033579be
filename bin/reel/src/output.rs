//! Standard output of the commands whose answer is text.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Writes a line. Whoever has closed the other end (`| head`) has read enough; that is no error.
pub(crate) fn say(line: impl Display) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
