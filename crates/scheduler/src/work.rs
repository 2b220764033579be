//! A job inside the scheduler: from acceptance to its one end.

use crate::bundle::BundleIx;
use crate::command::WorkerId;
use reel_domain::{AttemptId, BundleKey, JobId, Mode, Priority, SessionId, SlotId, TenantName};
use std::fmt;
use std::time::{Duration, Instant};

/// What a decision can depend on. Never the prompt: a recorded stream of inputs holds nothing of a client's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Its identity.
    pub id: JobId,
    /// The bundle that can serve it.
    pub bundle: BundleKey,
    /// What it starts from.
    pub mode: Mode,
    /// Whose it is.
    pub tenant: TenantName,
    /// How urgent it is.
    pub priority: Priority,
    /// With what it can share a worker.
    pub merge: Merge,
    /// What it takes of a batch's cost budget: rows of the transformer over all steps.
    pub cost: u64,
    /// The session that it continues.
    pub session: Option<SessionId>,
    /// How long after this it may still begin; then nobody wants it any more.
    pub begin_within: Option<Duration>,
    /// The same for the same request; deaths of workers are counted by it.
    pub digest: RequestDigest,
}

/// With what a job can share a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merge {
    /// The client wants it alone.
    pub never: bool,
    /// It uses classifier-free guidance, which doubles its rows. All that has to match on a continuous engine.
    pub guided: bool,
    /// Digest of everything but prompt and seed. Has to match where batches are formed before they begin.
    pub signature: u64,
}

/// A digest of what a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestDigest(pub u64);

impl fmt::Display for RequestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "case-{:016x}", self.0)
    }
}

/// A living job.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) work: Work,
    pub(crate) bundle: BundleIx,
    /// Its place in the order of acceptance; kept over retries, so a retried job is not the youngest again.
    pub(crate) ticket: u64,
    /// Attempts begun so far; the number is the fence.
    pub(crate) attempts: u32,
    /// Workers that died under it; the retry budget counts these.
    pub(crate) losses: u32,
    pub(crate) place: Place,
    /// The client wants it gone.
    pub(crate) cancelled: bool,
    /// When its worker must have let it go.
    pub(crate) cancel_due: Option<Instant>,
    /// A batch with it failed: it is tried again by itself.
    pub(crate) alone: bool,
    /// When it must have begun.
    pub(crate) begin_by: Option<Instant>,
    /// That time was up before it was durable.
    pub(crate) overdue: bool,
}

/// Where a living job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Accepted, but not durable yet.
    Held,
    /// Waits for its bundle to be baked.
    Parked,
    /// In the line, in this lane.
    Queued(Lane),
    /// With a worker, as its current attempt.
    Placed {
        slot: SlotId,
        worker: WorkerId,
        started: Option<Instant>,
    },
    /// Its frames exist.
    Encoding,
}

/// What the members of a batch have in common; `None`: it shares with nobody.
pub(crate) type Lane = Option<u64>;

impl Entry {
    /// The current attempt (or, before the first, number 0).
    pub(crate) const fn attempt(&self) -> AttemptId {
        AttemptId {
            job: self.work.id,
            number: self.attempts,
        }
    }

    pub(crate) fn lane(&self, continuous: bool) -> Lane {
        match self.work.merge {
            _ if self.alone => None,
            Merge { never: true, .. } => None,
            Merge { guided, .. } if continuous => Some(u64::from(guided)),
            Merge { signature, .. } => Some(signature),
        }
    }
}
