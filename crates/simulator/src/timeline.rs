//! What the workers of a run did, slot by slot: written down only for who asks for it.

use reel_domain::SlotId;
use reel_scheduler::WorkerId;
use std::collections::BTreeMap;
use std::time::Duration;

/// The workers of the beginning of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// How much of the run was looked at; who is spawned later is not written down.
    pub window: Duration,
    /// The workers, in the order of their spawns.
    pub stays: Vec<Stay>,
    of: BTreeMap<WorkerId, usize>,
}

/// One worker in its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// Where.
    pub slot: SlotId,
    /// Which bundle of the menu.
    pub bundle: usize,
    /// When it was spawned.
    pub spawned: Duration,
    /// When it was READY.
    pub ready: Option<Duration>,
    /// When it had work: from, to. Only the last may still go on.
    pub busy: Vec<(Duration, Option<Duration>)>,
    /// When its process had ended.
    pub gone: Option<Duration>,
}

impl Timeline {
    pub(crate) const fn new(window: Duration) -> Self {
        Self {
            window,
            stays: Vec::new(),
            of: BTreeMap::new(),
        }
    }

    pub(crate) fn spawns(&mut self, worker: WorkerId, slot: SlotId, bundle: usize, now: Duration) {
        if now > self.window {
            return;
        }
        self.of.insert(worker, self.stays.len());
        self.stays.push(Stay {
            slot,
            bundle,
            spawned: now,
            ready: None,
            busy: Vec::new(),
            gone: None,
        });
    }

    pub(crate) fn is_ready(&mut self, worker: WorkerId, now: Duration) {
        if let Some(stay) = self.stay(worker) {
            stay.ready = Some(now);
        }
    }

    pub(crate) fn begins(&mut self, worker: WorkerId, now: Duration) {
        if let Some(stay) = self.stay(worker)
            && stay.busy.last().is_none_or(|(_, to)| to.is_some())
        {
            stay.busy.push((now, None));
        }
    }

    pub(crate) fn rests(&mut self, worker: WorkerId, now: Duration) {
        if let Some(stay) = self.stay(worker)
            && let Some((_, to)) = stay.busy.last_mut()
        {
            to.get_or_insert(now);
        }
    }

    pub(crate) fn ends(&mut self, worker: WorkerId, now: Duration) {
        self.rests(worker, now);
        if let Some(stay) = self.stay(worker) {
            stay.gone = Some(now);
        }
        self.of.remove(&worker);
    }

    fn stay(&mut self, worker: WorkerId) -> Option<&mut Stay> {
        let place = *self.of.get(&worker)?;
        self.stays.get_mut(place)
    }
}
