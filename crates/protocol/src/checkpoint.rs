//! Where an attempt stands, in a memory file that outlives its worker: another worker can go on from there.
//!
//! ```text
//! header 0 | header 1 | state 0 | state 1      header: sequence u64, step u32, length u32, CRC-32 of the state u32
//! ```
//!
//! The two halves are written in turn, the header after its state: whoever is killed while writing spoils the half that
//! was older anyway. What the state means only the engine knows; the checksum says whether it is whole.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Largest state of an attempt, in bytes.
pub const CHECKPOINT_BYTES_MAX: u64 = 256 * 1024 * 1024;

const HEADER_BYTES: usize = 20;
const STATES_AT: u64 = 2 * HEADER_BYTES as u64;

/// A checkpoint, as either side holds it.
#[derive(Debug)]
pub struct Checkpoint {
    file: File,
    /// Bytes of one half.
    capacity: u64,
    sequence: u64,
}

/// The state of an attempt after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Denoising steps that were done.
    pub step: u32,
    /// What the engine wrote.
    pub state: Vec<u8>,
}

/// A descriptor is no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The kernel refused.
    #[error("memory file: {0}")]
    Io(#[from] io::Error),
    /// It is too small, or too large.
    #[error("a checkpoint of {0} bytes")]
    Size(u64),
    /// Somebody could still resize it.
    #[error("memory file is not sealed against resizing")]
    Unsealed,
}

struct Header {
    sequence: u64,
    step: u32,
    length: u32,
    crc: u32,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.step.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(word)
        };
        Self {
            sequence: u64::from(word(0)) | u64::from(word(4)) << 32,
            step: word(8),
            length: word(12),
            crc: word(16),
        }
    }
}

impl Checkpoint {
    /// Room for states of at most `capacity` bytes. Pages are taken when they are written.
    ///
    /// # Errors
    /// When the kernel refuses, or the capacity is beyond [`CHECKPOINT_BYTES_MAX`].
    pub fn create(capacity: u64) -> Result<Self, CheckpointError> {
        if capacity > CHECKPOINT_BYTES_MAX {
            return Err(CheckpointError::Size(capacity));
        }
        let fd = memfd_create(
            "reel-checkpoint",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )
        .map_err(io::Error::from)?;
        let file = File::from(fd);
        file.set_len(STATES_AT + 2 * capacity)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(io::Error::from)?;
        Ok(Self {
            file,
            capacity,
            sequence: 0,
        })
    }

    /// Takes a descriptor from a peer that is not trusted.
    ///
    /// # Errors
    /// When it is not sealed, or of a size that no checkpoint has.
    pub fn accept(fd: OwnedFd) -> Result<Self, CheckpointError> {
        let seals = fcntl_get_seals(&fd).map_err(|_| CheckpointError::Unsealed)?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(CheckpointError::Unsealed);
        }
        let bytes = fstat(&fd).map_err(io::Error::from)?.st_size as u64;
        let capacity = bytes.saturating_sub(STATES_AT) / 2;
        if capacity == 0 || capacity > CHECKPOINT_BYTES_MAX {
            return Err(CheckpointError::Size(bytes));
        }
        Ok(Self {
            file: File::from(fd),
            capacity,
            sequence: 0,
        })
    }

    /// Saves the state after a step, beside the one before.
    ///
    /// # Errors
    /// When it is larger than the capacity, or the kernel has no memory for it.
    pub fn save(&mut self, step: u32, state: &[u8]) -> Result<(), CheckpointError> {
        let length = state.len() as u64;
        if length > self.capacity {
            return Err(CheckpointError::Size(length));
        }
        self.sequence += 1;
        let half = self.sequence % 2;
        self.file
            .write_all_at(state, STATES_AT + half * self.capacity)?;
        let header = Header {
            sequence: self.sequence,
            step,
            length: length as u32,
            crc: crc32fast::hash(state),
        };
        self.file
            .write_all_at(&header.to_bytes(), half * HEADER_BYTES as u64)?;
        Ok(())
    }

    /// Bytes of a state, at most.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The step of the latest state, as its header says: a look that costs nothing. Whether the state is whole only
    /// [`latest`](Self::latest) knows.
    #[must_use]
    pub fn latest_step(&self) -> Option<u32> {
        let headers = [0, 1].into_iter().filter_map(|half| self.header(half));
        let latest = headers.max_by_key(|header| header.sequence);
        latest.map(|header| header.step)
    }

    /// The latest state that is whole.
    #[must_use]
    pub fn latest(&self) -> Option<Saved> {
        let mut headers = [0, 1].map(|half| (half, self.header(half)));
        headers.sort_by_key(|(_, header)| {
            std::cmp::Reverse(header.as_ref().map(|header| header.sequence))
        });
        headers
            .into_iter()
            .find_map(|(half, header)| self.state(half, &header?))
    }

    fn header(&self, half: u64) -> Option<Header> {
        let mut bytes = [0; HEADER_BYTES];
        let at = half * HEADER_BYTES as u64;
        self.file.read_exact_at(&mut bytes, at).ok()?;
        Some(Header::from_bytes(bytes)).filter(|header| header.sequence > 0)
    }

    fn state(&self, half: u64, header: &Header) -> Option<Saved> {
        if u64::from(header.length) > self.capacity {
            return None;
        }
        let mut state = vec![0; header.length as usize];
        let at = STATES_AT + half * self.capacity;
        self.file.read_exact_at(&mut state, at).ok()?;
        let step = header.step;
        (crc32fast::hash(&state) == header.crc).then_some(Saved { step, state })
    }
}

impl AsFd for Checkpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other_side(checkpoint: &Checkpoint) -> Checkpoint {
        let fd = checkpoint.file.try_clone().unwrap();
        Checkpoint::accept(fd.into()).unwrap()
    }

    #[test]
    fn the_latest_state_is_found_from_the_other_side() {
        let mut checkpoint = Checkpoint::create(8).unwrap();
        let other = other_side(&checkpoint);
        assert_eq!(other.latest(), None);
        for (step, state) in [(1, b"one".as_slice()), (2, b"two"), (3, b"three")] {
            checkpoint.save(step, state).unwrap();
            let saved = other.latest().unwrap();
            assert_eq!((saved.step, saved.state.as_slice()), (step, state));
        }
        assert!(checkpoint.save(4, b"too long a state").is_err());
    }

    #[test]
    fn a_torn_state_leaves_the_one_before() {
        let mut checkpoint = Checkpoint::create(8).unwrap();
        checkpoint.save(1, b"one").unwrap();
        checkpoint.save(2, b"two").unwrap();
        // Killed in the middle of the third, which overwrites the first.
        checkpoint.file.write_all_at(b"th", STATES_AT + 8).unwrap();
        assert_eq!(checkpoint.latest().unwrap().step, 2);
        // And even if the second is spoilt as well, nothing torn is taken for whole.
        checkpoint.file.write_all_at(b"x", STATES_AT).unwrap();
        assert_eq!(checkpoint.latest(), None);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let unsealed = memfd_create("x", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(matches!(
            Checkpoint::accept(unsealed),
            Err(CheckpointError::Unsealed)
        ));
        let empty = memfd_create("x", MemfdFlags::ALLOW_SEALING).unwrap();
        fcntl_add_seals(&empty, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        assert!(matches!(
            Checkpoint::accept(empty),
            Err(CheckpointError::Size(0))
        ));
        assert!(Checkpoint::create(CHECKPOINT_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn lengths_of_a_hostile_header_are_not_believed() {
        let checkpoint = Checkpoint::create(8).unwrap();
        let header = Header {
            sequence: u64::MAX,
            step: 1,
            length: u32::MAX,
            crc: 0,
        };
        checkpoint.file.write_all_at(&header.to_bytes(), 0).unwrap();
        assert_eq!(checkpoint.latest(), None);
    }
}
