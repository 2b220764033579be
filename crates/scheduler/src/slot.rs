//! A place for one worker, and the machine it goes through.
//!
//! ```text
//!             spawn            ready              generate
//!   Vacant ─────────► Starting ─────► Ready (idle) ◄────────► Ready (busy)
//!     ▲  ▲               │               │ stop (evicted,        │ leaving: takes nothing more;
//!     │  │               │               ▼  drained, replaced)   │ stays after all if its place is not
//!     │  └──── exited ───┼────────── Stopping ◄──────────────────┤ needed any more
//!     │                  │               │ grace over            │
//!     │                  ▼               ▼                       │ died, deadline missed, desync, fatal error,
//!     ├──── exited ── Killing ◄──────────┴───────────────────────┘ cancel not honoured
//!     │
//!     ├── delay over ── Backoff ◄── exited (unasked), from Starting, Ready, Killing
//!     │
//!     └── Reserved ◄── exited, and the memory or the turn of the spawn that follows is not free yet
//! ```
//!
//! An exit is accepted in every state that has a process. A slot that is being emptied for another bundle
//! remembers it in `next`, so that nobody else claims the place.

use crate::bundle::BundleIx;
use crate::carried::{Activity, Carried};
use crate::command::WorkerId;
use crate::input::EngineFacts;
use crate::work::Lane;
use reel_domain::{AttemptId, BootPhase, BundleKey, Silence, SlotId};
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
        /// How far it is.
        phase: BootPhase,
    },
    Ready(Ready),
    Stopping(Ending),
    Killing(Ending),
    Reserved {
        bundle: BundleIx,
    },
    Backoff {
        bundle: BundleIx,
    },
}

/// A process that will be gone soon.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) worker: WorkerId,
    /// Whose memory it still has.
    pub(crate) bundle: BundleIx,
    /// What is spawned in its place.
    pub(crate) next: Option<BundleIx>,
}

/// A worker that can compute.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) worker: WorkerId,
    pub(crate) bundle: BundleIx,
    pub(crate) engine: EngineFacts,
    pub(crate) carried: Vec<Carried>,
    pub(crate) leaving: Leaving,
    /// When it became ready, or last had work.
    pub(crate) used: Instant,
    /// The last step seen, to learn the time of a step: whose, which, when, in a batch of how many.
    pub(crate) pulse: Option<(AttemptId, u32, Instant, usize)>,
    /// When it last said anything, or began to have something to say.
    pub(crate) heard: Instant,
    /// When it was last asked whether it lives, since.
    pub(crate) pinged: Option<Instant>,
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
    /// Empty; a spawn waits for memory or for its turn.
    Reserved,
    /// Waits before it spawns again.
    Backoff,
}

impl SlotPhase {
    /// Every phase.
    pub const ALL: [Self; 9] = [
        Self::Vacant,
        Self::Starting,
        Self::Idle,
        Self::Busy,
        Self::Draining,
        Self::Stopping,
        Self::Killing,
        Self::Reserved,
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
            Self::Reserved => "reserved",
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
            State::Vacant | State::Reserved { .. } | State::Backoff { .. } => None,
            State::Starting { worker, .. }
            | State::Ready(Ready { worker, .. })
            | State::Stopping(Ending { worker, .. })
            | State::Killing(Ending { worker, .. }) => Some(*worker),
        }
    }

    /// The bundle of that process: what its memory holds.
    pub(crate) const fn holds(&self) -> Option<BundleIx> {
        match &self.state {
            State::Vacant | State::Reserved { .. } | State::Backoff { .. } => None,
            State::Starting { bundle, .. }
            | State::Ready(Ready { bundle, .. })
            | State::Stopping(Ending { bundle, .. })
            | State::Killing(Ending { bundle, .. }) => Some(*bundle),
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
            | State::Reserved { bundle }
            | State::Backoff { bundle } => Some(*bundle),
            State::Stopping(Ending { next, .. }) | State::Killing(Ending { next, .. }) => *next,
        }
    }

    /// A spawn follows without anybody deciding anything more.
    pub(crate) const fn spawns_soon(&self) -> bool {
        matches!(
            self.state,
            State::Reserved { .. }
                | State::Stopping(Ending { next: Some(_), .. })
                | State::Killing(Ending { next: Some(_), .. })
        )
    }

    pub(crate) const fn is_vacant(&self) -> bool {
        matches!(self.state, State::Vacant)
    }

    pub(crate) const fn is_starting(&self) -> bool {
        matches!(self.state, State::Starting { .. })
    }

    /// Its process will be gone, unless it may stay after all.
    pub(crate) const fn frees_memory(&self) -> bool {
        self.is_ending()
            || matches!(
                self.state,
                State::Ready(Ready {
                    leaving: Leaving::Empty | Leaving::For(_),
                    ..
                })
            )
    }

    /// Its process will be gone soon.
    pub(crate) const fn is_ending(&self) -> bool {
        matches!(self.state, State::Stopping(_) | State::Killing(_))
    }

    /// Its place will be free without anybody deciding anything more.
    pub(crate) const fn leaves_room(&self) -> bool {
        matches!(
            self.state,
            State::Vacant
                | State::Stopping(Ending { next: None, .. })
                | State::Killing(Ending { next: None, .. })
                | State::Ready(Ready {
                    leaving: Leaving::Empty,
                    ..
                })
        )
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
    pub(crate) fn carried(&self) -> &[Carried] {
        self.ready().map_or(&[], |ready| &ready.carried)
    }

    pub(crate) fn carries(&self, attempt: AttemptId) -> bool {
        self.carried()
            .iter()
            .any(|carried| carried.attempt == attempt)
    }

    pub(crate) const fn phase(&self) -> SlotPhase {
        match &self.state {
            State::Vacant => SlotPhase::Vacant,
            State::Starting { .. } => SlotPhase::Starting,
            State::Ready(ready) if ready.is_idle() => SlotPhase::Idle,
            State::Ready(ready) => match ready.leaving {
                Leaving::No => SlotPhase::Busy,
                Leaving::For(_) | Leaving::Empty => SlotPhase::Draining,
            },
            State::Stopping(_) => SlotPhase::Stopping,
            State::Killing(_) => SlotPhase::Killing,
            State::Reserved { .. } => SlotPhase::Reserved,
            State::Backoff { .. } => SlotPhase::Backoff,
        }
    }
}

impl Ready {
    pub(crate) const fn is_idle(&self) -> bool {
        self.carried.is_empty()
    }

    /// The attempts that share its steps, or will when they begin.
    pub(crate) fn batch(&self) -> impl Iterator<Item = &Carried> {
        self.carried
            .iter()
            .filter(|carried| carried.activity != Activity::Paused)
    }

    /// How many those are.
    pub(crate) fn load(&self) -> u32 {
        u32::try_from(self.batch().count()).unwrap_or(u32::MAX)
    }

    /// What they have in common.
    pub(crate) fn lane(&self) -> Lane {
        self.batch().next().and_then(|carried| carried.lane)
    }

    /// More attempts may join: between two steps, or before a formed batch begins. Never past paused ones.
    pub(crate) fn is_open(&self) -> bool {
        let mut carried = self.carried.iter();
        match self.engine.continuous {
            true => carried.all(|carried| carried.activity != Activity::Paused),
            false => carried.all(|carried| carried.activity == Activity::Forming),
        }
    }

    pub(crate) fn find(&mut self, attempt: AttemptId) -> Option<&mut Carried> {
        let mut carried = self.carried.iter_mut();
        carried.find(|carried| carried.attempt == attempt)
    }

    /// When the next attempt must have shown progress.
    pub(crate) fn progress_due(&self) -> Option<Instant> {
        let due = self
            .carried
            .iter()
            .filter_map(|carried| match carried.activity {
                Activity::Running {
                    progress_due,
                    ends_by,
                } => Some(progress_due.min(ends_by)),
                Activity::Forming | Activity::Waking | Activity::Paused => None,
            });
        due.min()
    }

    /// What an attempt has not done in time.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Silence> {
        self.carried.iter().find_map(|carried| {
            let (stage, step) = carried.pending;
            match carried.activity {
                Activity::Running { ends_by, .. } if ends_by <= now => Some(Silence::Attempt),
                Activity::Running { progress_due, .. } if progress_due <= now => {
                    Some(Silence::Step { stage, step })
                }
                _ => None,
            }
        })
    }
}
