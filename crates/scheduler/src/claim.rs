//! Workers to slots.
//!
//! A bundle with waiting jobs and no worker claims a place: an empty slot; a slot that only waits to respawn
//! something that nobody waits for; the least valuable idle worker; and, once younger jobs have overtaken it
//! [`overtakes_max`](crate::Config::overtakes_max) times (more urgent ones
//! [`class_overtakes_max`](crate::Config::class_overtakes_max) times), the place of a busy worker when that is
//! through. A bundle whose workers cannot keep up claims one more where the wait that it saves is longer than the spawn.
//! What stays empty is filled with the menu, so that first requests find a hot worker.

use crate::bundle::BundleIx;
use crate::config::Eviction;
use crate::line::{Rank, Wanted};
use crate::scheduler::Scheduler;
use crate::slot::{Leaving, Ready, Slot};
use crate::timer::Timer;
use std::collections::BTreeSet;
use std::time::Instant;

/// What an attempt and a spawn are taken to last until they were measured, in microseconds.
const UNMEASURED_US: u64 = 1_000_000;
/// Longest time that a client is told to wait before it asks again, in seconds.
const RETRY_AFTER_MAX_S: u64 = 600;

impl Scheduler {
    /// Finds places for workers that are needed, the most urgent first.
    pub(crate) fn claim(&mut self, now: Instant) {
        let claimants = self.take_claimants();
        if claimants.is_empty() {
            return;
        }
        self.keep_who_need_not_leave();
        let overtaken = std::mem::take(&mut self.overtaken_too_often);
        if !overtaken && !self.places.may_have_room() {
            return;
        }
        let mut claims: Vec<(Rank, BundleIx)> = Vec::new();
        for bundle in claimants {
            if self.places.of(bundle).coming == 0
                && self.places.of(bundle).ready < self.devices.len()
                && self.wants_worker(bundle)
                && !self.rests_everywhere(bundle, now)
                && let Some((rank, _)) = self.line.first(Wanted::Any(bundle))
            {
                claims.push((rank, bundle));
            }
        }
        claims.sort_unstable();
        for (_, bundle) in claims {
            if self.places.on_the_way() >= self.config.spawns_max {
                // The next worker that is ready makes this due again.
                return;
            }
            self.find_place(bundle, now);
        }
    }

    /// The bundles that may get a place now: those that may need one, or all where one may be free.
    fn take_claimants(&mut self) -> BTreeSet<BundleIx> {
        let idle = |slot: usize| self.slots[slot].ready().is_some_and(Ready::is_idle);
        let room = std::mem::take(&mut self.idled).into_iter().any(idle);
        let claimants = std::mem::take(&mut self.claimants);
        match std::mem::take(&mut self.claims_due) || room {
            true => self.menu.indices().collect(),
            false => claimants,
        }
    }

    /// A bundle has jobs that would be served sooner with one more worker.
    fn wants_worker(&self, bundle: BundleIx) -> bool {
        if self.menu[bundle].offer.is_none() || !self.line.has(bundle) {
            return false;
        }
        let workers = self.places.of(bundle).ready as u64;
        if workers == 0 {
            return true;
        }
        let (spawn, service) = self.times(bundle);
        let waiting = self.line.count(bundle) as u64;
        // With one more, what is left of the line when that is ready is done by so many more.
        let saved = (waiting * service / workers).saturating_sub(spawn) / (workers + 1);
        saved > spawn
    }

    /// Times of a spawn and of an attempt, measured or assumed, in microseconds.
    fn times(&self, bundle: BundleIx) -> (u64, u64) {
        let profile = self.menu[bundle].profile;
        let or_assumed = |us| if us == 0 { UNMEASURED_US } else { us };
        (or_assumed(profile.spawn_us), or_assumed(profile.service_us))
    }

    fn find_place(&mut self, bundle: BundleIx, now: Instant) {
        if let Some(slot) = self.empty_slot(bundle, now) {
            self.spawn(slot, bundle, now);
        } else if !self.evict_idle(bundle, now) && self.menu[bundle].overdue {
            self.drain_busy(bundle, now);
        }
    }

    /// A slot without a process on a device where the bundle fits and is not served yet.
    fn empty_slot(&self, bundle: BundleIx, now: Instant) -> Option<usize> {
        let nobody_waits = |&&slot: &&usize| {
            let serves = self.slots[slot].serves();
            serves.is_none_or(|other| other != bundle && !self.line.has(other))
        };
        let vacant = self.places.vacant.iter();
        let resting = self.places.resting.iter().filter(nobody_waits);
        vacant
            .chain(resting)
            .copied()
            .find(|&slot| self.can_spawn_on(slot, bundle, now) && self.fits(slot, bundle, &[]))
    }

    /// The device of a slot may get a worker of this bundle now.
    pub(crate) fn can_spawn_on(&self, slot: usize, bundle: BundleIx, now: Instant) -> bool {
        let device = &self.devices[self.slots[slot].id.device.0 as usize];
        let slots = &self.slots[device.slots()];
        // A place that is being made counts: a spawn follows it.
        let starting = |slot: &&Slot| slot.is_starting() || slot.spawns_soon();
        // A second worker of one bundle on one device would only take the first one's share.
        !device.is_closed()
            && !slots.iter().any(|slot| slot.serves() == Some(bundle))
            && slots.iter().filter(starting).count() < self.spawns_allowed(device.id)
            && !self.rests(device.id, bundle, now)
    }

    /// Makes room by idle workers of one device: usually one, more where memory is short; none yet where the new
    /// worker can be started beside them.
    fn evict_idle(&mut self, bundle: BundleIx, now: Instant) -> bool {
        let mut candidates: Vec<usize> = self.places.idle.iter().map(|&(_, slot)| slot).collect();
        candidates.sort_by_key(|&slot| !self.is_spare(slot));
        for &slot in &candidates {
            if !self.can_spawn_on(slot, bundle, now) || !self.may_evict(slot, bundle, now) {
                continue;
            }
            let standby = self.standby_slot(slot, bundle);
            let victims = match standby {
                Some(_) => Some(Vec::new()),
                None => self.victims_with(slot, bundle, &candidates, now),
            };
            let Some(victims) = victims else { continue };
            if !self.afford_eviction(slot, bundle, now) {
                continue;
            }
            if let Some(spare) = standby {
                self.counters.standbys += 1;
                self.spawn(spare, bundle, now);
                return true;
            }
            for &other in &victims[1..] {
                self.stop(other, None, now);
            }
            self.counters.evictions += victims.len() as u64;
            self.stop(slot, Some(bundle), now);
            return true;
        }
        false
    }

    /// A worker whose bundle has others: nobody has to wait for a spawn when it goes.
    pub(crate) fn is_spare(&self, slot: usize) -> bool {
        let ready = self.slots[slot].ready();
        let priced = self.config.eviction == Eviction::Priced;
        priced && ready.is_some_and(|ready| self.places.of(ready.bundle).ready > 1)
    }

    /// An idle worker may go: it is not pinned, and was not just used (or somebody waits too long).
    fn may_evict(&mut self, slot: usize, bundle: BundleIx, now: Instant) -> bool {
        let Some(ready) = self.slots[slot].ready() else {
            return false;
        };
        if self.menu[ready.bundle].pinned {
            return false;
        }
        let until = ready.used + self.config.residency_min;
        if until > now && !self.menu[bundle].overdue {
            let device = self.slots[slot].id.device;
            self.timers.advance(Timer::Evict(device), until);
            return false;
        }
        true
    }

    /// The idle workers of the device of `slot` that have to go, `slot` first; `None`: not enough of them.
    fn victims_with(
        &mut self,
        slot: usize,
        bundle: BundleIx,
        candidates: &[usize],
        now: Instant,
    ) -> Option<Vec<usize>> {
        let device = self.slots[slot].id.device;
        let mut victims = vec![slot];
        for &other in candidates {
            if self.fits(slot, bundle, &victims) {
                return Some(victims);
            }
            if other != slot
                && self.slots[other].id.device == device
                && self.may_evict(other, bundle, now)
            {
                victims.push(other);
            }
        }
        self.fits(slot, bundle, &victims).then_some(victims)
    }

    /// The device has not spent its time on evictions; a job that was overtaken too often does not ask.
    fn afford_eviction(&mut self, slot: usize, bundle: BundleIx, now: Instant) -> bool {
        let (spawn, _) = self.times(bundle);
        let share = self.config.eviction_share_permille;
        let id = self.slots[slot].id.device;
        let device = &mut self.devices[id.0 as usize];
        let Err(wait) = device.evictions.take(spawn, share, now) else {
            return true;
        };
        if self.menu[bundle].overdue {
            return true;
        }
        let held = std::mem::replace(&mut self.menu[bundle].held, true);
        self.counters.evictions_held += u64::from(!held);
        self.timers.advance(Timer::Evict(id), now + wait);
        false
    }

    /// Promises the place of the busy worker that was begun to be used longest ago; where memory is short, more of
    /// its device leave. Where the new worker can be started beside it, that does not wait.
    fn drain_busy(&mut self, bundle: BundleIx, now: Instant) {
        // Whether or not one is found: the next try comes after as many more.
        self.menu[bundle].forget_overtaking();
        let mut busy: Vec<(Instant, usize)> = (0..self.slots.len())
            .filter(|&slot| self.may_leave(slot))
            .filter_map(|slot| Some((self.slots[slot].ready()?.used, slot)))
            .filter(|&(_, slot)| !self.slots[slot].ready().is_some_and(Ready::is_idle))
            .filter(|&(_, slot)| self.can_spawn_on(slot, bundle, now))
            .collect();
        busy.sort_unstable();
        let found = busy.into_iter().find_map(|(_, slot)| {
            let victims = self.leavers_with(slot, bundle)?;
            Some((slot, victims))
        });
        let Some((slot, victims)) = found else { return };
        self.counters.drains_for_overtaken += 1;
        if let Some(spare) = self.standby_slot(slot, bundle) {
            return self.spawn(spare, bundle, now);
        }
        self.alter_ready(slot, |ready| ready.leaving = Leaving::For(bundle));
        for &other in &victims[1..] {
            self.counters.evictions += 1;
            self.retire(other, now);
        }
    }

    /// A ready worker that stays, and is not pinned.
    fn may_leave(&self, slot: usize) -> bool {
        let ready = self.slots[slot].ready();
        ready.is_some_and(|ready| ready.leaving == Leaving::No && !self.menu[ready.bundle].pinned)
    }

    /// The workers of the device of `slot` that have to leave, `slot` first, then those without work, then those used
    /// longest ago; `None`: not even all of them would do.
    fn leavers_with(&self, slot: usize, bundle: BundleIx) -> Option<Vec<usize>> {
        let device = &self.devices[self.slots[slot].id.device.0 as usize];
        let mut others: Vec<_> = device
            .slots()
            .filter(|&other| other != slot && self.may_leave(other))
            .filter_map(|other| {
                let ready = self.slots[other].ready()?;
                Some((!ready.is_idle(), ready.used, other))
            })
            .collect();
        others.sort_unstable();
        let mut victims = vec![slot];
        for (.., other) in others {
            if self.fits(slot, bundle, &victims) {
                break;
            }
            victims.push(other);
        }
        self.fits(slot, bundle, &victims).then_some(victims)
    }

    /// A worker whose place nobody wants any more stays.
    fn keep_who_need_not_leave(&mut self) {
        for slot in self.places.promised.clone() {
            let Some(ready) = self.slots[slot].ready() else {
                continue;
            };
            let Leaving::For(next) = ready.leaving else {
                continue;
            };
            if next != ready.bundle && !self.wants_worker(next) {
                self.counters.resurrections += 1;
                // Whoever waited for its memory has to look for another place.
                self.reserved_due = true;
                self.alter_ready(slot, |ready| ready.leaving = Leaving::No);
            }
        }
    }

    /// When a new job of this bundle would probably begin, in whole seconds: for whoever is told to come back.
    pub(crate) fn expected_wait_s(&self, bundle: BundleIx) -> u64 {
        let (spawn, service) = self.times(bundle);
        let of = self.places.of(bundle);
        let workers = of.ready.max(1) as u64;
        let cold = if of.ready == 0 { spawn } else { 0 };
        let waiting = self.line.count(bundle) as u64;
        let us = cold + (waiting + 1) * service / workers;
        us.div_ceil(1_000_000).clamp(1, RETRY_AFTER_MAX_S)
    }
}
