//! Workers begin: at once where that is allowed, else when memory or their turn is free; and who makes room when
//! one that was started ahead is ready.

use crate::bundle::BundleIx;
use crate::command::{Command, WorkerId};
use crate::device::Trust;
use crate::scheduler::Scheduler;
use crate::slot::{Leaving, State};
use crate::timer::Timer;
use reel_domain::BootPhase;
use reel_domain::DeviceId;
use std::time::Instant;

impl Scheduler {
    /// Fills empty slots with what the pool has least of.
    pub(crate) fn fill(&mut self, now: Instant) {
        if !self.config.prewarm {
            return;
        }
        let mut from = 0;
        while let Some(&slot) = self.places.vacant.range(from..).next() {
            from = slot + 1;
            if self.places.on_the_way() >= self.config.spawns_max {
                return;
            }
            let scarcest = self
                .menu
                .indices()
                .filter(|&bundle| self.menu[bundle].offer.is_some())
                .filter(|&bundle| {
                    self.can_spawn_on(slot, bundle, now) && self.fits(slot, bundle, &[])
                })
                .map(|bundle| (self.workers_of(bundle), bundle))
                .min();
            // While some bundle is still being baked, places are not given to second workers of others.
            if let Some((workers, bundle)) = scarcest
                && (workers == 0 || !self.expects_bakes())
            {
                self.spawn(slot, bundle, now);
            }
        }
    }

    fn workers_of(&self, bundle: BundleIx) -> usize {
        let of = self.places.of(bundle);
        of.ready + of.coming
    }

    fn expects_bakes(&self) -> bool {
        let expected = |bundle| self.menu[bundle].offer.is_none() && !self.menu[bundle].failed;
        self.menu.indices().any(expected)
    }

    /// Starts a worker in a slot without a process, now or as soon as memory and its turn are free. Where nobody is
    /// about to free the memory the slot is given up, and whoever needs a worker claims a place anew.
    pub(crate) fn enter(&mut self, index: usize, bundle: BundleIx, now: Instant) {
        let device = self.slots[index].id.device;
        let servable = self.menu[bundle].offer.is_some() && !self.rests(device, bundle, now);
        let turn = self.starting_on(device) < self.spawns_allowed(device)
            && self.places.starting < self.config.spawns_max;
        let fits = self.fits(index, bundle, &[]);
        let ends = |slot: usize| self.slots[slot].frees_memory();
        let state = if !servable {
            State::Vacant
        } else if turn && fits {
            return self.spawn(index, bundle, now);
        } else if fits || self.devices[device.0 as usize].slots().any(ends) {
            State::Reserved { bundle }
        } else {
            State::Vacant
        };
        self.claims_due = true;
        if matches!(state, State::Vacant) {
            self.stop_rolling(index);
        }
        self.alter(index, |slot| slot.state = state);
    }

    /// A process has begun or ended: a spawn that waited for that may be possible.
    pub(crate) fn enter_reserved(&mut self, now: Instant) {
        for index in self.places.reserved.clone() {
            if let State::Reserved { bundle } = self.slots[index].state {
                self.enter(index, bundle, now);
            }
        }
    }

    /// Starts a worker in an empty slot.
    pub(crate) fn spawn(&mut self, index: usize, bundle: BundleIx, now: Instant) {
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        self.workers.insert(worker, index);
        self.menu[bundle].forget_overtaking();
        let slot = self.slots[index].id;
        self.timers.stop_slot(slot);
        self.timers
            .set(Timer::Boot(slot), now + self.config.exec_deadline);
        self.alter(index, |slot| {
            slot.state = State::Starting {
                worker,
                bundle,
                since: now,
                phase: BootPhase::Exec,
            };
        });
        self.commands.push_back(Command::Spawn {
            slot,
            worker,
            bundle: self.menu[bundle].key.clone(),
        });
    }

    /// A device on probation gets one worker at a time.
    pub(crate) fn spawns_allowed(&self, device: DeviceId) -> usize {
        match self.devices[device.0 as usize].trust {
            Trust::Probation => 1,
            _ => self.config.device_spawns_max,
        }
    }

    fn starting_on(&self, device: DeviceId) -> usize {
        let slots = &self.slots[self.devices[device.0 as usize].slots()];
        slots.iter().filter(|slot| slot.is_starting()).count()
    }

    // --- standby ---

    /// The spare slot of the device of `victim`, if a worker of this bundle fits beside everything that is there.
    pub(crate) fn standby_slot(&self, victim: usize, bundle: BundleIx) -> Option<usize> {
        let device = &self.devices[self.slots[victim].id.device.0 as usize];
        let mut slots = device.slots();
        slots.find(|&slot| self.slots[slot].is_vacant() && self.fits(slot, bundle, &[]))
    }

    /// A worker is ready: if its device has more workers than places now, or holds more than its memory, the
    /// least valuable others make room.
    pub(crate) fn make_room_for(&mut self, index: usize, now: Instant) {
        let device = self.slots[index].id.device.0 as usize;
        while self.is_crowded(device)
            && let Some(victim) = self.least_valuable_beside(index)
        {
            self.counters.evictions += 1;
            self.retire(victim, now);
        }
    }

    /// More workers are ready, or will be at once, than there are places. Who is still starting does not count:
    /// the others serve until it is ready.
    fn is_crowded(&self, device: usize) -> bool {
        let of = &self.devices[device];
        let slots = &self.slots[of.slots()];
        let staying = slots
            .iter()
            .filter(|slot| !slot.leaves_room() && !slot.is_starting())
            .count();
        staying > of.spec.slots as usize || self.is_over_memory(device)
    }

    /// Idle workers go before busy ones, which finish what they have.
    fn least_valuable_beside(&self, index: usize) -> Option<usize> {
        let device = &self.devices[self.slots[index].id.device.0 as usize];
        let others = device.slots().filter(|&other| other != index);
        let ready = others.filter_map(|other| {
            let slot = &self.slots[other];
            let ready = slot.ready().filter(|ready| ready.leaving == Leaving::No)?;
            let evictable = !self.menu[ready.bundle].pinned;
            let value = (!self.is_spare(other), slot.price, ready.used);
            evictable.then_some((!ready.is_idle(), value, other))
        });
        ready.min().map(|(.., other)| other)
    }
}
