//! Standard output of the commands whose answer is text.

use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

/// Writes a line. Whoever has closed the other end (`| head`) has read enough; that is no error.
pub(crate) fn say(line: impl Display) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A table whose first column names the row; the others hold figures, to the right.
pub(crate) fn new_table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_header(heading);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A time for people, in seconds.
pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds < 0.005 => "0 s".into(),
        _ if seconds < 10.0 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.0} s"),
    }
}
