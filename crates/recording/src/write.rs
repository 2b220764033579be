//! The recorder. Whoever records must not wait for a disk: what the writing thread cannot take is not waited
//! for, and a recording with a hole is ended there, because it could not be replayed past it.

use crate::form::{Header, HeaderForm, Message};
use reel_scheduler::{Command, DecisionHash, Input};
use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SendError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// The first line of every recording.
pub(crate) const MAGIC: &[u8] = b"reel recording 3\n";
/// Bytes that are collected before they are handed to the writing thread.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that may wait for the disk; after that the recording ends.
const CHUNKS_MAX: usize = 64;
/// Inputs between two checks of the decisions.
const CHECK_EVERY: u64 = 1_000;

/// Records one run of a scheduler.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    chunk: Vec<u8>,
    chunks: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<io::Result<()>>>,
    bytes_left: u64,
    /// Nobody is served meanwhile: it may wait for the disk.
    waits: bool,
    inputs: u64,
    decisions: DecisionHash,
    ended: Option<&'static str>,
}

impl Recorder {
    /// Begins a recording of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub fn create(
        path: &Path,
        header: &Header,
        started: Instant,
        bytes_max: u64,
    ) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let (chunks, inbox) = sync_channel(CHUNKS_MAX);
        let writer = std::thread::Builder::new()
            .name("recording".into())
            .spawn(move || write_all(file, &inbox))?;
        let mut recorder = Self {
            started,
            chunk: MAGIC.to_vec(),
            chunks: Some(chunks),
            writer: Some(writer),
            bytes_left: bytes_max,
            waits: false,
            inputs: 0,
            decisions: DecisionHash::default(),
            ended: None,
        };
        recorder.add(&Message::Header(Box::new(HeaderForm::from(header))));
        Ok(recorder)
    }

    /// The same, of a run that nobody waits for: nothing is lost to a slow disk.
    #[must_use]
    pub fn waiting(self) -> Self {
        Self {
            waits: true,
            ..self
        }
    }

    /// Takes down an input, before the scheduler handles it.
    pub fn input(&mut self, input: &Input, now: Instant) {
        if self.chunks.is_none() {
            return;
        }
        if self.inputs > 0 && self.inputs.is_multiple_of(CHECK_EVERY) {
            self.check();
        }
        self.inputs += 1;
        let at = now.saturating_duration_since(self.started).as_nanos();
        let at_ns = u64::try_from(at).unwrap_or(u64::MAX);
        self.add(&Message::Input {
            at_ns,
            input: input.clone(),
        });
    }

    /// Takes in a decision, as it is carried out.
    pub fn decision(&mut self, command: &Command) {
        self.decisions.add(command);
    }

    /// Why nothing more is recorded, once.
    pub const fn take_end(&mut self) -> Option<&'static str> {
        match self.chunks {
            Some(_) => None,
            None => self.ended.take(),
        }
    }

    fn check(&mut self) {
        self.add(&Message::Check {
            inputs: self.inputs,
            decisions: self.decisions.finish(),
        });
    }

    fn add(&mut self, message: &Message) {
        let Ok(body) = postcard::to_stdvec(message) else {
            return self.end("an input could not be written");
        };
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let whole = body.len() as u64 + 4;
        let Some(left) = self.bytes_left.checked_sub(whole) else {
            self.hand_over();
            return self.end("it has its largest size");
        };
        self.bytes_left = left;
        self.chunk.extend_from_slice(&length.to_le_bytes());
        self.chunk.extend_from_slice(&body);
        if self.chunk.len() >= CHUNK_BYTES {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let chunk = std::mem::take(&mut self.chunk);
        let Some(chunks) = &self.chunks else { return };
        let sent = match self.waits {
            true => chunks
                .send(chunk)
                .map_err(|SendError(chunk)| TrySendError::Disconnected(chunk)),
            false => chunks.try_send(chunk),
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.end("the disk is too slow"),
            Err(TrySendError::Disconnected(_)) => self.end("the disk is full or gone"),
        }
    }

    fn end(&mut self, why: &'static str) {
        self.ended = Some(why);
        self.chunks = None;
    }

    /// Writes what is left, with a last check. To be called when every decision was taken in.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn close(mut self) -> io::Result<()> {
        if self.chunks.is_some() {
            self.check();
            let last = std::mem::take(&mut self.chunk);
            if let Some(chunks) = self.chunks.take() {
                // The run is over: now there is time to wait.
                chunks.send(last).map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
        }
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(_)) => Err(io::ErrorKind::Other.into()),
            None => Ok(()),
        }
    }
}

fn write_all(mut file: File, inbox: &Receiver<Vec<u8>>) -> io::Result<()> {
    for chunk in inbox {
        file.write_all(&chunk)?;
    }
    file.sync_all()
}
