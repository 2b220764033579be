//! A place for one worker, and the machine it goes through.
//!
//! ```text
//!             spawn            ready              generate
//!   Vacant ─────────► Starting ─────► Ready (idle) ◄────────► Ready (busy)
//!     ▲  ▲               │               │ stop (evicted,        │ leaving: takes nothing more;
//!     │  │               │               ▼  drained, replaced)   │ stays after all if its place is not
//!     │  └──── exited ───┼────────── Stopping ◄──────────────────┤ needed any more
//!     │                  │               │ grace over            │
//!     │                  ▼               ▼                       │ deadline missed, desync, fatal error,
//!     ├──── exited ── Killing ◄──────────┴───────────────────────┘ cancel not honoured
//!     │
//!     └── delay over ── Backoff ◄── exited (unasked), from Starting, Ready, Killing
//! ```
//!
//! An exit is accepted in every state that has a process. A slot that is being emptied for another bundle
//! remembers it in `next`, so that nobody else claims the place.

use crate::bundle::BundleIx;
use crate::command::WorkerId;
use crate::input::EngineFacts;
use crate::work::Lane;
use reel_domain::{AttemptId, BundleKey, SlotId};
use std::time::Instant;

/// A slot and what is in it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: SlotId,
    pub(crate) state: State,
    /// Deaths in a row without a finished attempt.
    pub(crate) failures: u32,
    /// What it would cost to lose the worker, for the eviction policy; set whenever it is used.
    pub(crate) price: u64,
}

/// The machine; each state carries what is true only there.
#[derive(Debug)]
pub(crate) enum State {
    Vacant,
    Starting {
        worker: WorkerId,
        bundle: BundleIx,
        since: Instant,
    },
    Ready(Ready),
    Stopping {
        worker: WorkerId,
        next: Option<BundleIx>,
    },
    Killing {
        worker: WorkerId,
        next: Option<BundleIx>,
    },
    Backoff {
        bundle: BundleIx,
    },
}

/// A worker that can compute.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) worker: WorkerId,
    pub(crate) bundle: BundleIx,
    pub(crate) engine: EngineFacts,
    pub(crate) attempts: Vec<AttemptId>,
    /// What its attempts have in common.
    pub(crate) lane: Lane,
    /// More attempts may join those it has.
    pub(crate) open: bool,
    pub(crate) leaving: Leaving,
    /// When it became ready, or last had work.
    pub(crate) used: Instant,
    /// When it must have shown progress.
    pub(crate) progress_due: Option<Instant>,
    /// The last step seen, to learn the time of a step: whose, which, when, in a batch of how many.
    pub(crate) pulse: Option<(AttemptId, u32, Instant, usize)>,
}

/// Whether a worker goes on after what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It stays.
    No,
    /// Its place is wanted for a bundle (its own, when it is replaced).
    For(BundleIx),
    /// Nobody comes after it.
    Empty,
}

/// The name of a slot's state, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotPhase {
    /// Empty.
    Vacant,
    /// A process is loading its bundle.
    Starting,
    /// READY, without work.
    Idle,
    /// At work.
    Busy,
    /// At work for the last time.
    Draining,
    /// Asked to exit.
    Stopping,
    /// Being killed.
    Killing,
    /// Waits before it spawns again.
    Backoff,
}

impl SlotPhase {
    /// Every phase.
    pub const ALL: [Self; 8] = [
        Self::Vacant,
        Self::Starting,
        Self::Idle,
        Self::Busy,
        Self::Draining,
        Self::Stopping,
        Self::Killing,
        Self::Backoff,
    ];

    /// The name in the API and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vacant => "vacant",
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Killing => "killing",
            Self::Backoff => "backoff",
        }
    }
}

/// A slot, looked at from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotView {
    /// Which one.
    pub id: SlotId,
    /// Its state.
    pub phase: SlotPhase,
    /// The worker in it.
    pub worker: Option<WorkerId>,
    /// The bundle of that worker.
    pub bundle: Option<BundleKey>,
    /// What the worker has.
    pub attempts: Vec<AttemptId>,
}

impl Slot {
    pub(crate) const fn new(id: SlotId) -> Self {
        Self {
            id,
            state: State::Vacant,
            failures: 0,
            price: 0,
        }
    }

    /// The process in the slot, whatever it is doing.
    pub(crate) const fn worker(&self) -> Option<WorkerId> {
        match &self.state {
            State::Vacant | State::Backoff { .. } => None,
            State::Starting { worker, .. }
            | State::Ready(Ready { worker, .. })
            | State::Stopping { worker, .. }
            | State::Killing { worker, .. } => Some(*worker),
        }
    }

    /// The bundle that this slot serves, or will serve without anybody deciding anything more.
    pub(crate) const fn serves(&self) -> Option<BundleIx> {
        match &self.state {
            State::Vacant => None,
            State::Ready(Ready {
                leaving: Leaving::For(next),
                ..
            }) => Some(*next),
            State::Starting { bundle, .. }
            | State::Ready(Ready { bundle, .. })
            | State::Backoff { bundle } => Some(*bundle),
            State::Stopping { next, .. } | State::Killing { next, .. } => *next,
        }
    }

    pub(crate) const fn ready(&self) -> Option<&Ready> {
        match &self.state {
            State::Ready(ready) => Some(ready),
            _ => None,
        }
    }

    pub(crate) const fn ready_mut(&mut self) -> Option<&mut Ready> {
        match &mut self.state {
            State::Ready(ready) => Some(ready),
            _ => None,
        }
    }

    /// What the worker has.
    pub(crate) fn attempts(&self) -> &[AttemptId] {
        self.ready().map_or(&[], |ready| &ready.attempts)
    }

    pub(crate) const fn phase(&self) -> SlotPhase {
        match &self.state {
            State::Vacant => SlotPhase::Vacant,
            State::Starting { .. } => SlotPhase::Starting,
            State::Ready(ready) if ready.attempts.is_empty() => SlotPhase::Idle,
            State::Ready(ready) => match ready.leaving {
                Leaving::No => SlotPhase::Busy,
                Leaving::For(_) | Leaving::Empty => SlotPhase::Draining,
            },
            State::Stopping { .. } => SlotPhase::Stopping,
            State::Killing { .. } => SlotPhase::Killing,
            State::Backoff { .. } => SlotPhase::Backoff,
        }
    }
}

impl Ready {
    pub(crate) const fn is_idle(&self) -> bool {
        self.attempts.is_empty()
    }
}
