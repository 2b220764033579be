//! What the supervisor must do. Plain data: a test reads "these inputs, exactly these commands".

use reel_domain::{AttemptId, BundleKey, Fault, JobId, JobStatus, Outcome, Rejection, SlotId};
use std::fmt;
use std::hash::{Hash, Hasher};

/// One process, ever. Events of an earlier worker of the same slot carry an older number and are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

/// An effect that the scheduler decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// A submitted job is accepted, once it is durable.
    Store {
        /// Which job.
        id: JobId,
    },
    /// A submitted job is not accepted.
    Refuse {
        /// Which job.
        id: JobId,
        /// Why.
        rejection: Rejection,
    },
    /// Start a worker for a bundle in a slot.
    Spawn {
        /// Where.
        slot: SlotId,
        /// The new worker's identity.
        worker: WorkerId,
        /// What it is pinned to.
        bundle: BundleKey,
    },
    /// Give an attempt to a worker.
    Generate {
        /// To whom.
        worker: WorkerId,
        /// Which attempt.
        attempt: AttemptId,
        /// It begins together with the next one that this worker is given.
        more: bool,
    },
    /// Keep an attempt where it is at the next step boundary, for more urgent work.
    Pause {
        /// On which worker.
        worker: WorkerId,
        /// Which attempt.
        attempt: AttemptId,
    },
    /// Go on with a paused attempt.
    Resume {
        /// On which worker.
        worker: WorkerId,
        /// Which attempt.
        attempt: AttemptId,
    },
    /// Ask a worker to drop an attempt at the next step boundary.
    Cancel {
        /// Whom.
        worker: WorkerId,
        /// Which attempt.
        attempt: AttemptId,
    },
    /// Ask an idle worker to exit.
    Stop {
        /// Whom.
        worker: WorkerId,
    },
    /// End a worker by force.
    Kill {
        /// Whom.
        worker: WorkerId,
        /// What it did; `None`: nothing, an operator wants it gone.
        fault: Option<Fault>,
    },
    /// Count on a worker no more that does not even die.
    Abandon {
        /// Which one.
        worker: WorkerId,
    },
    /// Ask a worker whether it lives.
    Ping {
        /// Whom.
        worker: WorkerId,
    },
    /// Make a video of an attempt's frames.
    Encode {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// Drop what an attempt left behind: its frames, or its published video.
    Discard {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// Persist and publish a change of a job that goes on.
    Update {
        /// The change.
        change: JobChange,
    },
    /// Persist, then publish the end of a job. Emitted once per job.
    End {
        /// Which job.
        id: JobId,
        /// The attempt that it ended in; 0 before the first.
        attempt: u32,
        /// How.
        outcome: Outcome,
    },
}

/// A job that goes on has a new status.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobChange {
    /// Which job.
    pub id: JobId,
    /// The attempt that the status belongs to; 0 before the first.
    pub attempt: u32,
    /// The new status; never terminal.
    pub status: JobStatus,
    /// Where it runs.
    pub slot: Option<SlotId>,
}

/// A rolling hash of decisions: two runs that decided the same, in the same order, have the same.
///
/// FNV-1a, 64 bit (Fowler, Noll, Vo), over what `derive(Hash)` feeds it: the same on every 64-bit
/// little-endian machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionHash(u64);

impl Default for DecisionHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl DecisionHash {
    /// Takes in the next decision.
    pub fn add(&mut self, command: &Command) {
        command.hash(self);
    }
}

impl Hasher for DecisionHash {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for DecisionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
