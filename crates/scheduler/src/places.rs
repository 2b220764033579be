//! Which slots can do what, kept up to date: no decision has to look through all slots.

use crate::bundle::BundleIx;
use crate::slot::{Ending, Leaving, Ready, Slot, State};
use crate::work::Lane;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What a slot is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A worker can be spawned here.
    Vacant,
    /// A worker for this bundle is loading.
    Starting { bundle: BundleIx },
    /// A worker for this bundle will be spawned here when its place is free.
    Coming { bundle: BundleIx },
    /// The place is free, but the memory for the spawn is not, or its turn has not come.
    Reserved { bundle: BundleIx },
    /// A worker for this bundle will be spawned here after a pause.
    Resting { bundle: BundleIx },
    /// Takes any job of this bundle; may be evicted, the smallest value first.
    Idle { bundle: BundleIx, value: Value },
    /// Has work, takes more of the same lane.
    Joinable {
        bundle: BundleIx,
        lane: Lane,
        load: u32,
    },
    /// Has work, takes no more.
    Full { bundle: BundleIx },
    /// Has work, and then its place goes to another bundle.
    Promised { next: BundleIx },
    /// Nothing can be expected of it.
    Lost,
}

/// What an idle worker is worth: a price, and when it was used last.
pub(crate) type Value = (u64, Instant);

/// Every slot, by what it is good for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) vacant: BTreeSet<usize>,
    /// Idle workers, the least valuable first.
    pub(crate) idle: BTreeSet<(Value, usize)>,
    /// Slots that wait before they spawn again.
    pub(crate) resting: BTreeSet<usize>,
    /// Slots that wait for memory, or for their turn to spawn.
    pub(crate) reserved: BTreeSet<usize>,
    /// Busy workers whose place goes to another bundle afterwards.
    pub(crate) promised: BTreeSet<usize>,
    /// Workers that are loading.
    pub(crate) starting: usize,
    /// Places that are being made for workers.
    coming: usize,
    bundles: Vec<OfBundle>,
}

/// The workers of one bundle.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OfBundle {
    pub(crate) idle: BTreeSet<usize>,
    pub(crate) joinable: BTreeMap<Lane, BTreeSet<(u32, usize)>>,
    /// Workers with work that stay.
    pub(crate) busy: BTreeSet<usize>,
    /// READY workers that stay, idle or not.
    pub(crate) ready: usize,
    /// Slots where a worker for it is on its way.
    pub(crate) coming: usize,
}

impl Places {
    pub(crate) fn new(bundles: usize) -> Self {
        Self {
            vacant: BTreeSet::new(),
            idle: BTreeSet::new(),
            resting: BTreeSet::new(),
            reserved: BTreeSet::new(),
            promised: BTreeSet::new(),
            starting: 0,
            coming: 0,
            bundles: (0..bundles).map(|_| OfBundle::default()).collect(),
        }
    }

    pub(crate) fn of(&self, bundle: BundleIx) -> &OfBundle {
        &self.bundles[bundle.0]
    }

    /// Workers that are loading, and those that follow others which end.
    pub(crate) const fn on_the_way(&self) -> usize {
        self.starting + self.coming
    }

    /// Some slot has no work and might be given to somebody.
    pub(crate) fn may_have_room(&self) -> bool {
        !(self.vacant.is_empty() && self.idle.is_empty() && self.resting.is_empty())
    }

    pub(crate) fn add(&mut self, slot: usize, standing: Standing) {
        match standing {
            Standing::Vacant => {
                self.vacant.insert(slot);
            }
            Standing::Starting { bundle } => {
                self.bundles[bundle.0].coming += 1;
                self.starting += 1;
            }
            Standing::Coming { bundle } => {
                self.bundles[bundle.0].coming += 1;
                self.coming += 1;
            }
            Standing::Reserved { bundle } => {
                self.bundles[bundle.0].coming += 1;
                self.coming += 1;
                self.reserved.insert(slot);
            }
            Standing::Resting { bundle } => {
                self.bundles[bundle.0].coming += 1;
                self.resting.insert(slot);
            }
            Standing::Promised { next } => {
                self.bundles[next.0].coming += 1;
                self.promised.insert(slot);
            }
            Standing::Idle { bundle, value } => {
                self.idle.insert((value, slot));
                let of = &mut self.bundles[bundle.0];
                of.idle.insert(slot);
                of.ready += 1;
            }
            Standing::Joinable { bundle, lane, load } => {
                let of = &mut self.bundles[bundle.0];
                of.joinable.entry(lane).or_default().insert((load, slot));
                of.busy.insert(slot);
                of.ready += 1;
            }
            Standing::Full { bundle } => {
                let of = &mut self.bundles[bundle.0];
                of.busy.insert(slot);
                of.ready += 1;
            }
            Standing::Lost => {}
        }
    }

    pub(crate) fn remove(&mut self, slot: usize, standing: Standing) {
        match standing {
            Standing::Vacant => {
                self.vacant.remove(&slot);
            }
            Standing::Starting { bundle } => {
                self.bundles[bundle.0].coming -= 1;
                self.starting -= 1;
            }
            Standing::Coming { bundle } => {
                self.bundles[bundle.0].coming -= 1;
                self.coming -= 1;
            }
            Standing::Reserved { bundle } => {
                self.bundles[bundle.0].coming -= 1;
                self.coming -= 1;
                self.reserved.remove(&slot);
            }
            Standing::Resting { bundle } => {
                self.bundles[bundle.0].coming -= 1;
                self.resting.remove(&slot);
            }
            Standing::Promised { next } => {
                self.bundles[next.0].coming -= 1;
                self.promised.remove(&slot);
            }
            Standing::Idle { bundle, value } => {
                self.idle.remove(&(value, slot));
                let of = &mut self.bundles[bundle.0];
                of.idle.remove(&slot);
                of.ready -= 1;
            }
            Standing::Joinable { bundle, lane, load } => {
                let of = &mut self.bundles[bundle.0];
                of.busy.remove(&slot);
                of.ready -= 1;
                if let Some(slots) = of.joinable.get_mut(&lane) {
                    slots.remove(&(load, slot));
                    if slots.is_empty() {
                        of.joinable.remove(&lane);
                    }
                }
            }
            Standing::Full { bundle } => {
                let of = &mut self.bundles[bundle.0];
                of.busy.remove(&slot);
                of.ready -= 1;
            }
            Standing::Lost => {}
        }
    }
}

/// What a slot is good for. `has_room`: its device takes one worker more; `batch_max`: the largest batch allowed.
pub(crate) fn standing(slot: &Slot, has_room: bool, batch_max: u32) -> Standing {
    match &slot.state {
        State::Vacant if has_room => Standing::Vacant,
        State::Vacant => Standing::Lost,
        State::Starting { bundle, .. } => Standing::Starting { bundle: *bundle },
        State::Reserved { bundle } => Standing::Reserved { bundle: *bundle },
        State::Backoff { bundle } => Standing::Resting { bundle: *bundle },
        State::Stopping(Ending { next, .. }) | State::Killing(Ending { next, .. }) => match *next {
            Some(bundle) => Standing::Coming { bundle },
            None => Standing::Lost,
        },
        State::Ready(ready) => match ready.leaving {
            Leaving::Empty => Standing::Lost,
            Leaving::For(next) => Standing::Promised { next },
            Leaving::No => of_ready(ready, slot.price, batch_max),
        },
    }
}

fn of_ready(ready: &Ready, price: u64, batch_max: u32) -> Standing {
    let bundle = ready.bundle;
    let (load, lane) = (ready.load(), ready.lane());
    if ready.is_idle() {
        let value = (price, ready.used);
        Standing::Idle { bundle, value }
    } else if lane.is_some() && load < batch_max && ready.is_open() {
        Standing::Joinable { bundle, lane, load }
    } else {
        Standing::Full { bundle }
    }
}
