//! A job inside the scheduler: from acceptance to its one end.

use crate::command::WorkerId;
use reel_domain::{AttemptId, Job, SlotId};

/// A living job.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) job: Job,
    /// Its place in the order of acceptance; kept over retries, so a retried job is not the youngest again.
    pub(crate) ticket: u64,
    /// Attempts begun so far; the number is the fence.
    pub(crate) attempts: u32,
    /// Workers that died under it; the retry budget counts these.
    pub(crate) losses: u32,
    pub(crate) place: Place,
    /// The client wants it gone.
    pub(crate) cancelled: bool,
}

/// Where a living job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Accepted, but not durable yet.
    Held,
    /// In the queue.
    Queued,
    /// With a worker, as its current attempt.
    Placed {
        slot: SlotId,
        worker: WorkerId,
        started: bool,
    },
    /// Its frames exist.
    Encoding,
}

impl Entry {
    /// The current attempt (or, before the first, number 0).
    pub(crate) const fn attempt(&self) -> AttemptId {
        AttemptId {
            job: self.job.id,
            number: self.attempts,
        }
    }
}
