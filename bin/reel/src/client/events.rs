//! Server-sent events, as the HTML standard has them, from any reader.

use std::io::{self, BufRead, ErrorKind, Read};

/// Longest line. A video object with the longest prompt is a tenth of it.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest data of one event.
const DATA_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One event. Its name is of no use here: the object says itself how the job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

/// Events until the stream ends or breaks.
pub(crate) struct Events<R> {
    reader: R,
    id: Option<String>,
}

impl<R: BufRead> Events<R> {
    pub(crate) const fn new(reader: R) -> Self {
        Self { reader, id: None }
    }

    /// A line without its end; `None` at the end of the stream.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let bytes = self
            .reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if bytes == 0 {
            return Ok(None);
        }
        if line.pop_if(|byte| *byte == b'\n').is_none() {
            // Cut off, or endless: half a line is none.
            return match bytes as u64 == LINE_BYTES_MAX {
                true => Err(too_long()),
                false => Ok(None),
            };
        }
        let _ = line.pop_if(|byte| *byte == b'\r');
        String::from_utf8(line)
            .map(Some)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    fn event(&mut self) -> io::Result<Option<Event>> {
        let mut data: Option<String> = None;
        while let Some(line) = self.line()? {
            if line.is_empty() {
                match data.take() {
                    Some(data) => {
                        let id = self.id.clone();
                        return Ok(Some(Event { id, data }));
                    }
                    None => continue,
                }
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => self.id = Some(value.to_owned()),
                "data" => match &mut data {
                    Some(data) if data.len() + value.len() > DATA_BYTES_MAX => {
                        return Err(too_long());
                    }
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => data = Some(value.to_owned()),
                },
                // Comments keep the connection alive; names and pauses are not needed.
                _ => {}
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for Events<R> {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.event().transpose()
    }
}

fn too_long() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "an event that is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<Event> {
        Events::new(text.as_bytes()).map(Result::unwrap).collect()
    }

    fn event(id: Option<&str>, data: &str) -> Event {
        Event {
            id: id.map(str::to_owned),
            data: data.into(),
        }
    }

    #[test]
    fn events_are_told_apart_by_empty_lines() {
        let text = ": hello\n\nevent: video.progress\nid: 1\ndata: {}\n\n\nid:2\ndata:{ }\r\n\r\n";
        assert_eq!(
            events(text),
            [event(Some("1"), "{}"), event(Some("2"), "{ }")]
        );
    }

    #[test]
    fn data_of_many_lines_is_one_text() {
        assert_eq!(
            events("data: a\ndata:\ndata:  b\nwhat: ever\n\n"),
            [event(None, "a\n\n b")]
        );
    }

    #[test]
    fn an_event_that_was_cut_off_is_none() {
        assert_eq!(events("data: a\n\ndata: b"), [event(None, "a")]);
        assert_eq!(events("data: a\n\ndata: b\n"), [event(None, "a")]);
    }

    #[test]
    fn an_endless_line_is_an_error_and_not_endless_memory() {
        let text = "data: ".to_owned() + &"x".repeat(2 * 1024 * 1024);
        let first = Events::new(text.as_bytes()).next().unwrap();
        assert_eq!(first.unwrap_err().kind(), ErrorKind::InvalidData);
        let many = "data: xxxxxxxx\n".repeat(1024 * 1024);
        let first = Events::new(many.as_bytes()).next().unwrap();
        assert_eq!(first.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
