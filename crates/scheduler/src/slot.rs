//! A place for one worker, and the machine it goes through.
//!
//! ```text
//!             spawn            ready            generate
//!   Vacant ─────────► Starting ─────► Idle ◄──────────────► Busy
//!     ▲  ▲               │             │ stop (evicted,       │
//!     │  │               │             ▼  drained)            │
//!     │  └──── exited ───┼────────  Stopping                  │
//!     │                  │             │ grace over           │
//!     │                  ▼             ▼                      │  deadline missed, desync, fatal error,
//!     ├──── exited ── Killing ◄────────┴──────────────────────┘  cancel not honoured
//!     │
//!     └── delay over ── Backoff ◄── exited (unasked), from Starting, Idle, Busy, Killing
//! ```
//!
//! An exit is accepted in every state that has a process. A slot that is being emptied for another bundle
//! remembers it in `next`, so that nobody else claims the place.

use crate::command::WorkerId;
use reel_domain::{AttemptId, BundleKey, SlotId};
use std::time::Instant;

/// A slot and what is in it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: SlotId,
    pub(crate) state: State,
    /// Deaths in a row without a finished attempt.
    pub(crate) failures: u32,
}

/// The machine; each state carries what is true only there.
#[derive(Debug)]
pub(crate) enum State {
    Vacant,
    Starting {
        worker: WorkerId,
        bundle: BundleKey,
    },
    Idle {
        worker: WorkerId,
        bundle: BundleKey,
        batch_max: u32,
        since: Instant,
    },
    Busy {
        worker: WorkerId,
        bundle: BundleKey,
        batch_max: u32,
        attempts: Vec<AttemptId>,
    },
    Stopping {
        worker: WorkerId,
        next: Option<BundleKey>,
    },
    Killing {
        worker: WorkerId,
        next: Option<BundleKey>,
    },
    Backoff {
        bundle: BundleKey,
    },
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
    /// Asked to exit.
    Stopping,
    /// Being killed.
    Killing,
    /// Waits before it spawns again.
    Backoff,
}

impl SlotPhase {
    /// Every phase.
    pub const ALL: [Self; 7] = [
        Self::Vacant,
        Self::Starting,
        Self::Idle,
        Self::Busy,
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
        }
    }

    /// The process in the slot, whatever it is doing.
    pub(crate) const fn worker(&self) -> Option<WorkerId> {
        match &self.state {
            State::Vacant | State::Backoff { .. } => None,
            State::Starting { worker, .. }
            | State::Idle { worker, .. }
            | State::Busy { worker, .. }
            | State::Stopping { worker, .. }
            | State::Killing { worker, .. } => Some(*worker),
        }
    }

    /// The bundle that this slot serves, or will serve without anybody deciding anything more.
    pub(crate) const fn serves(&self) -> Option<&BundleKey> {
        match &self.state {
            State::Vacant => None,
            State::Starting { bundle, .. }
            | State::Idle { bundle, .. }
            | State::Busy { bundle, .. }
            | State::Backoff { bundle } => Some(bundle),
            State::Stopping { next, .. } | State::Killing { next, .. } => next.as_ref(),
        }
    }

    /// A worker that could take one more attempt at `bundle` now.
    pub(crate) fn has_room_for(&self, key: &BundleKey, limit: u32) -> bool {
        match &self.state {
            State::Idle { bundle, .. } => bundle == key,
            State::Busy {
                bundle,
                attempts,
                batch_max,
                ..
            } => bundle == key && attempts.len() < limit.min(*batch_max) as usize,
            _ => false,
        }
    }

    /// Counts an attempt as this worker's. Only for a worker that has room.
    pub(crate) fn take(&mut self, attempt: AttemptId) {
        match &mut self.state {
            State::Busy { attempts, .. } => attempts.push(attempt),
            State::Idle {
                worker,
                bundle,
                batch_max,
                ..
            } => {
                let (worker, bundle, batch_max) = (*worker, bundle.clone(), *batch_max);
                self.state = State::Busy {
                    worker,
                    bundle,
                    batch_max,
                    attempts: vec![attempt],
                };
            }
            other => debug_assert!(false, "an attempt was given to a slot in {other:?}"),
        }
    }

    /// Will take work for its bundle without anybody deciding anything more, but not yet.
    pub(crate) const fn is_coming(&self) -> bool {
        matches!(
            self.state,
            State::Starting { .. }
                | State::Stopping { next: Some(_), .. }
                | State::Killing { next: Some(_), .. }
                | State::Backoff { .. }
        )
    }

    /// What the worker has.
    pub(crate) fn attempts(&self) -> &[AttemptId] {
        match &self.state {
            State::Busy { attempts, .. } => attempts,
            _ => &[],
        }
    }

    pub(crate) fn view(&self) -> SlotView {
        SlotView {
            id: self.id,
            phase: self.phase(),
            worker: self.worker(),
            bundle: self.serves().cloned(),
            attempts: self.attempts().to_vec(),
        }
    }

    const fn phase(&self) -> SlotPhase {
        match self.state {
            State::Vacant => SlotPhase::Vacant,
            State::Starting { .. } => SlotPhase::Starting,
            State::Idle { .. } => SlotPhase::Idle,
            State::Busy { .. } => SlotPhase::Busy,
            State::Stopping { .. } => SlotPhase::Stopping,
            State::Killing { .. } => SlotPhase::Killing,
            State::Backoff { .. } => SlotPhase::Backoff,
        }
    }
}
