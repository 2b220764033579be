//! Reading a recording, and deciding everything in it again.

use crate::form::{Header, Message};
use crate::write::MAGIC;
use reel_scheduler::{Command, DecisionHash, Input, Scheduler};
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest message; a recording is an operator's file, but lengths are not trusted.
const MESSAGE_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file.
    #[error("{path}: {source}")]
    Io {
        /// The recording.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else, or of another version.
    #[error("{0} is not a recording of this version")]
    NotARecording(PathBuf),
    /// A message is not one.
    #[error("{path} is damaged after {inputs} inputs: {reason}")]
    Damaged {
        /// The recording.
        path: PathBuf,
        /// How many inputs could be read.
        inputs: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something else was decided this time.
    #[error(
        "after {inputs} inputs the decisions differ (recorded {recorded:016x}, now {replayed:016x}): this build \
         decides differently, or the recording was changed"
    )]
    Differs {
        /// At the latest.
        inputs: u64,
        /// The hash in the recording.
        recorded: u64,
        /// The hash of this replay.
        replayed: u64,
    },
}

/// A recording that is being read.
#[derive(Debug)]
pub struct Recording {
    messages: Messages,
    header: Header,
    /// When the last input was.
    last: Duration,
}

/// The messages of a file, one after the other.
#[derive(Debug)]
struct Messages {
    path: PathBuf,
    file: BufReader<File>,
    inputs: u64,
}

/// What a recording holds after its header.
#[derive(Debug)]
pub enum Event {
    /// Something that happened, and when, since the beginning.
    Input(Duration, Box<Input>),
    /// The hash of all decisions before the next input.
    Check(u64),
}

/// What came of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// Inputs handled.
    pub inputs: u64,
    /// Checks that agreed.
    pub checks: u64,
    /// Decisions taken.
    pub commands: u64,
    /// Their hash.
    pub decisions: DecisionHash,
    /// Time from the first to the last input.
    pub span: Duration,
}

impl Recording {
    /// Opens a recording and reads its header.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io {
            path: path.into(),
            source,
        };
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)
            .map_err(|_| ReadError::NotARecording(path.into()))?;
        if magic != MAGIC {
            return Err(ReadError::NotARecording(path.into()));
        }
        let mut messages = Messages {
            path: path.into(),
            file,
            inputs: 0,
        };
        match messages.next()? {
            Some(Message::Header(header)) => Ok(Self {
                messages,
                header: (*header).into(),
                last: Duration::ZERO,
            }),
            _ => Err(ReadError::NotARecording(path.into())),
        }
    }

    /// What it began with.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The next thing that happened; `None` at the end.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn next_event(&mut self) -> Result<Option<Event>, ReadError> {
        match self.messages.next()? {
            None => Ok(None),
            Some(Message::Input { at_ns, input }) => {
                self.messages.inputs += 1;
                let at = Duration::from_nanos(at_ns);
                if at < self.last {
                    return Err(self.messages.damaged("time runs backwards"));
                }
                self.last = at;
                Ok(Some(Event::Input(at, Box::new(input))))
            }
            Some(Message::Check { decisions, .. }) => Ok(Some(Event::Check(decisions))),
            Some(Message::Header(_)) => Err(self.messages.damaged("a second header")),
        }
    }

    /// Decides everything again, and compares at every check.
    ///
    /// # Errors
    /// When it cannot be read, or something else is decided.
    pub fn replay(mut self) -> Result<Replay, ReplayError> {
        let Header {
            config,
            devices,
            menu,
            ..
        } = self.header.clone();
        let mut scheduler = Scheduler::new(config, &devices, menu);
        // Only differences of times count.
        let start = Instant::now();
        let mut replay = Replay {
            inputs: 0,
            checks: 0,
            commands: 0,
            decisions: DecisionHash::default(),
            span: Duration::ZERO,
        };
        while let Some(event) = self.next_event()? {
            match event {
                Event::Input(at, input) => {
                    replay.inputs += 1;
                    replay.span = at;
                    scheduler.handle(*input, start + at);
                    while let Some(command) = scheduler.poll_command() {
                        replay.take(&command);
                    }
                }
                Event::Check(recorded) => replay.check(recorded)?,
            }
        }
        Ok(replay)
    }
}

impl Messages {
    /// `None` at the end, which may be in the middle of a message: the process was killed there.
    fn next(&mut self) -> Result<Option<Message>, ReadError> {
        let mut length = [0; 4];
        if !self.fill(&mut length)? {
            return Ok(None);
        }
        let length = u32::from_le_bytes(length);
        if length > MESSAGE_BYTES_MAX {
            return Err(self.damaged(&format!("a message of {length} bytes")));
        }
        let mut body = vec![0; length as usize];
        if !self.fill(&mut body)? {
            return Ok(None);
        }
        postcard::from_bytes(&body)
            .map(Some)
            .map_err(|error| self.damaged(&error.to_string()))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, ReadError> {
        match self.file.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(ReadError::Io {
                path: self.path.clone(),
                source,
            }),
        }
    }

    fn damaged(&self, reason: &str) -> ReadError {
        ReadError::Damaged {
            path: self.path.clone(),
            inputs: self.inputs,
            reason: reason.into(),
        }
    }
}

impl Replay {
    fn take(&mut self, command: &Command) {
        self.commands += 1;
        self.decisions.add(command);
    }

    fn check(&mut self, recorded: u64) -> Result<(), ReplayError> {
        let replayed = self.decisions.finish();
        if replayed != recorded {
            return Err(ReplayError::Differs {
                inputs: self.inputs,
                recorded,
                replayed,
            });
        }
        self.checks += 1;
        Ok(())
    }
}
