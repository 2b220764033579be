//! Looking at the machine without changing it.

use crate::command::WorkerId;
use crate::counters::Counters;
use crate::device::Trust;
use crate::input::Profile;
use crate::scheduler::Scheduler;
use crate::slot::{Slot, SlotView, State};
use reel_domain::{AttemptId, BundleKey, DeviceId, JobId};
use std::time::Instant;

impl Scheduler {
    /// Every slot.
    pub fn snapshot(&self) -> impl Iterator<Item = SlotView> {
        self.slots.iter().map(|slot| self.view(slot))
    }

    fn view(&self, slot: &Slot) -> SlotView {
        let serves = match &slot.state {
            State::Ready(ready) => Some(ready.bundle),
            _ => slot.serves(),
        };
        SlotView {
            id: slot.id,
            phase: slot.phase(),
            worker: slot.worker(),
            bundle: serves.map(|bundle| self.menu[bundle].key.clone()),
            attempts: slot
                .carried()
                .iter()
                .map(|carried| carried.attempt)
                .collect(),
        }
    }

    /// A worker has an attempt now: what it says about it counts.
    #[must_use]
    pub fn carries(&self, worker: WorkerId, attempt: AttemptId) -> bool {
        let slot = self.workers.get(&worker).map(|&index| &self.slots[index]);
        slot.is_some_and(|slot| slot.carries(attempt))
    }

    /// The jobs that wait, by class and acceptance; those whose bundle is not baked yet at the end.
    pub fn waiting(&self) -> impl Iterator<Item = JobId> {
        self.line.iter().chain(self.parked.values().copied())
    }

    /// How many jobs wait.
    #[must_use]
    pub fn waiting_len(&self) -> usize {
        self.line.len() + self.parked.len()
    }

    /// No process is left and no video is being encoded; only meaningful after a drain.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let holds = |worker: &WorkerId| {
            let mut devices = self.devices.iter();
            devices.any(|device| device.holders.contains(worker))
        };
        // A worker that does not even die cannot be waited for.
        self.draining && self.workers.keys().all(holds) && self.unsettled == 0
    }

    /// It takes no new work.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.draining
    }

    /// A bundle whose workers die before READY on every device rests for a while.
    #[must_use]
    pub fn is_resting(&self, key: &BundleKey, now: Instant) -> bool {
        let bundle = self.menu.find(key);
        bundle.is_some_and(|bundle| self.rests_everywhere(bundle, now))
    }

    /// What was learned about a bundle; to be handed back with its next offer.
    #[must_use]
    pub fn profile(&self, key: &BundleKey) -> Option<Profile> {
        Some(self.menu[self.menu.find(key)?].profile)
    }

    /// Whether a device gets work.
    #[must_use]
    pub fn trust(&self, device: DeviceId) -> Option<Trust> {
        let device = self.devices.get(device.0 as usize);
        device.map(|device| device.trust)
    }

    /// What it did and did not do so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }
}
