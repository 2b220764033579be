//! The flight recorder: a ring in a memory file, in which a worker notes what it does, and which outlives it.
//!
//! ```text
//! cell i (64 bytes):  sequence u64, little endian; 0: never written | length u8 | one bincode value of that length | padding
//! ```
//!
//! The supervisor makes the file and seals its size before the worker is born; the worker writes cells in turn
//! (`sequence % CELLS`). Whoever is killed in the middle of a cell spoils that one only. The reader takes nothing on
//! trust: at most [`CELLS`] cells, each decoded by itself, whatever they hold.

use crate::codec::{decode, encode};
use crate::message::{Attempt, FailureClass, MemoryUse, Stage};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

/// Notes that are kept; older ones are overwritten.
pub const CELLS: usize = 1_024;
const CELL_BYTES: usize = 64;
const HEADER_BYTES: usize = 9;

/// Something that a worker did, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `CLOCK_MONOTONIC` in microseconds: the supervisor reads the same clock.
    pub at_us: u64,
    /// What.
    pub note: Note,
}

/// What a worker notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// Its start came to this phase.
    Booting(Boot),
    /// It took a message.
    Told(Told, Option<Attempt>),
    /// An attempt came to this step.
    At {
        /// Which one.
        attempt: Attempt,
        /// In which stage.
        stage: Stage,
        /// Steps of the stage that are done.
        step: u32,
        /// Steps of the stage in all.
        of: u32,
    },
    /// It goes into this stage of an attempt.
    Enters(Attempt, Stage),
    /// The memory that it has.
    Memory(MemoryUse),
    /// Something failed.
    Failed(FailureClass),
}

/// The phase of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boot {
    /// The program runs.
    Exec,
    /// The bundle is being loaded.
    Load,
    /// The recorded computation is being reproduced.
    Canary,
    /// It is ready.
    Ready,
}

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// `Generate`.
    Generate,
    /// `Cancel`.
    Cancel,
    /// `Pause`.
    Pause,
    /// `Resume`.
    Resume,
    /// `Ping`.
    Ping,
    /// `Shutdown`.
    Shutdown,
}

/// The ring, as either side holds it.
#[derive(Debug)]
pub struct FlightRecorder {
    file: File,
    /// Notes written so far.
    sequence: u64,
}

impl FlightRecorder {
    /// An empty one, with its size sealed.
    ///
    /// # Errors
    /// When the kernel has no memory for it.
    pub fn create() -> io::Result<Self> {
        let fd = memfd_create(
            "reel-flight",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        ftruncate(&fd, (CELLS * CELL_BYTES) as u64)?;
        // A worker that shrinks it would end whoever maps it, one that grows it would eat memory nobody counts.
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self::inherited(File::from(fd)))
    }

    /// The worker's end: the file that it was born with.
    #[must_use]
    pub const fn inherited(file: File) -> Self {
        Self { file, sequence: 0 }
    }

    /// Writes a note. One that cannot be written is lost: a recorder must never be what a worker dies of.
    pub fn note(&mut self, note: Note) {
        let Ok(value) = encode(&Entry {
            at_us: monotonic_us(),
            note,
        }) else {
            return;
        };
        if value.len() > CELL_BYTES - HEADER_BYTES {
            return;
        }
        let mut cell = [0; CELL_BYTES];
        self.sequence += 1;
        cell[..8].copy_from_slice(&self.sequence.to_le_bytes());
        cell[8] = value.len() as u8;
        cell[HEADER_BYTES..HEADER_BYTES + value.len()].copy_from_slice(&value);
        let place = (self.sequence - 1) % CELLS as u64;
        let _ = self.file.write_all_at(&cell, place * CELL_BYTES as u64);
    }

    /// What was noted, oldest first. Cells that make no sense are left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self) -> io::Result<Vec<Entry>> {
        let mut bytes = vec![0; CELLS * CELL_BYTES];
        self.file.read_exact_at(&mut bytes, 0)?;
        let mut entries: Vec<_> = bytes
            .chunks_exact(CELL_BYTES)
            .filter_map(read_cell)
            .collect();
        entries.sort_by_key(|(sequence, _)| *sequence);
        Ok(entries.into_iter().map(|(_, entry)| entry).collect())
    }
}

fn read_cell(cell: &[u8]) -> Option<(u64, Entry)> {
    let sequence = u64::from_le_bytes(cell[..8].try_into().ok()?);
    let value = cell.get(HEADER_BYTES..HEADER_BYTES + usize::from(cell[8]))?;
    (sequence > 0).then_some(())?;
    Some((sequence, decode(value).ok()?))
}

impl AsFd for FlightRecorder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `CLOCK_MONOTONIC` in microseconds.
#[must_use]
pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Note = Note::At {
        attempt: Attempt {
            job: [0xff; 16],
            number: u32::MAX,
        },
        stage: Stage::Decode,
        step: u32::MAX,
        of: u32::MAX,
    };

    fn worker_end(recorder: &FlightRecorder) -> FlightRecorder {
        FlightRecorder::inherited(recorder.file.try_clone().unwrap())
    }

    #[test]
    fn the_last_notes_are_there_in_their_order() {
        let recorder = FlightRecorder::create().unwrap();
        let mut worker = worker_end(&recorder);
        for step in 0..CELLS as u32 + 7 {
            worker.note(Note::At {
                attempt: Attempt {
                    job: [1; 16],
                    number: 1,
                },
                stage: Stage::Denoise,
                step,
                of: 20,
            });
        }
        let steps: Vec<_> = recorder
            .read()
            .unwrap()
            .into_iter()
            .map(|entry| match entry.note {
                Note::At { step, .. } => step,
                _ => u32::MAX,
            })
            .collect();
        assert_eq!(steps, (7..CELLS as u32 + 7).collect::<Vec<_>>());
    }

    #[test]
    fn the_longest_note_fits_a_cell() {
        let recorder = FlightRecorder::create().unwrap();
        worker_end(&recorder).note(LONGEST);
        assert_eq!(recorder.read().unwrap()[0].note, LONGEST);
    }

    #[test]
    fn whatever_a_worker_writes_can_be_read() {
        let recorder = FlightRecorder::create().unwrap();
        let mut worker = worker_end(&recorder);
        recorder
            .file
            .write_all_at(&[0xff; CELLS * CELL_BYTES], 0)
            .unwrap();
        assert_eq!(recorder.read().unwrap(), []);
        worker.note(Note::Booting(Boot::Load));
        assert_eq!(recorder.read().unwrap().len(), 1);
        assert!(worker.file.set_len(0).is_err(), "its size is sealed");
    }
}
