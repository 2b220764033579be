//! What is held against jobs, bundles and devices, and for how long.
//!
//! - a job under which workers die is tried again, by whichever worker is free first (its own is gone: of those
//!   that are free, all are elsewhere), until its budget is spent;
//! - a request under which workers die again and again is quarantined, under any name;
//! - a bundle whose workers never become ready on a device rests there;
//! - a device on which two different requests die is taken out, and tried again with one worker.

use crate::bundle::BundleIx;
use crate::carried::{Activity, Carried};
use crate::command::WorkerId;
use crate::config::Config;
use crate::device::Trust;
use crate::scheduler::Scheduler;
use crate::slot::State;
use crate::timer::Timer;
use crate::work::RequestDigest;
use reel_domain::{AttemptId, DeviceId, Failure, FailureCode, JobStatus, Outcome};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// What the pool remembers of faults.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    deaths: BTreeMap<RequestDigest, Deaths>,
    /// The same requests, the oldest first: what is remembered is bounded.
    order: VecDeque<RequestDigest>,
    /// Workers of a bundle that died on a device before READY, in a row.
    boots: BTreeMap<(DeviceId, BundleIx), Boots>,
}

/// Workers that died under a request since one was finished.
#[derive(Debug, Clone, Copy, Default)]
struct Deaths {
    /// Whatever else they had.
    all: u32,
    /// With nothing else.
    alone: u32,
}

#[derive(Debug, Default)]
struct Boots {
    failures: u32,
    rests_until: Option<Instant>,
}

impl Faults {
    pub(crate) fn is_quarantined(&self, digest: RequestDigest, config: &Config) -> bool {
        // Of a batch nobody knows who was to blame.
        let deaths = self.deaths.get(&digest).copied().unwrap_or_default();
        deaths.alone > 0 && deaths.all >= config.deaths_per_request_max
    }

    /// Counts a worker that died under a request.
    fn died_under(&mut self, digest: RequestDigest, alone: bool, remembered_max: usize) {
        let deaths = self.deaths.entry(digest).or_insert_with(|| {
            self.order.push_back(digest);
            Deaths::default()
        });
        deaths.all += 1;
        deaths.alone += u32::from(alone);
        if self.order.len() > remembered_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.deaths.remove(&oldest);
        }
    }

    /// Nothing is held against a request any more.
    pub(crate) fn release(&mut self, digest: RequestDigest) {
        if self.deaths.remove(&digest).is_some() {
            self.order.retain(|other| *other != digest);
        }
    }
}

impl Scheduler {
    /// A worker is gone: its attempts end here, and each job is tried again or fails.
    pub(crate) fn lose(&mut self, device: DeviceId, carried: &[Carried], now: Instant) {
        let forming = |carried: &&Carried| carried.activity == Activity::Forming;
        let (unheard, attempts): (Vec<&Carried>, Vec<&Carried>) = carried.iter().partition(forming);
        for carried in unheard {
            // The worker had not heard of it: that says nothing about the request, and it has not begun.
            self.requeue(carried.attempt, false);
            self.must_begin(carried.attempt.job);
        }
        let attempts: Vec<_> = attempts.iter().map(|carried| carried.attempt).collect();
        let alone = attempts.len() == 1;
        let digests: BTreeSet<_> = attempts
            .iter()
            .filter_map(|attempt| Some(self.jobs.get(&attempt.job)?.work.digest))
            .collect();
        for digest in digests {
            let remembered_max = self.config.quarantine_max;
            self.faults.died_under(digest, alone, remembered_max);
        }
        for attempt in attempts {
            let Some(entry) = self.jobs.get_mut(&attempt.job) else {
                continue;
            };
            entry.losses += 1;
            let (digest, losses) = (entry.work.digest, entry.losses);
            let cancelled = entry.cancelled;
            let to_blame = alone && self.faults.is_quarantined(digest, &self.config);
            if alone {
                self.suspect(device, digest, now);
            }
            if cancelled {
                self.end(attempt.job, Outcome::Cancelled);
            } else if to_blame {
                self.counters.quarantined += 1;
                self.end(attempt.job, Outcome::Failed(quarantined(digest, losses)));
            } else if losses >= self.config.attempts_max {
                self.end(attempt.job, Outcome::Failed(worker_lost(losses)));
            } else {
                // Members of a batch are tried again one by one.
                self.requeue(attempt, !alone);
            }
        }
    }

    /// Puts a job back into the line, at the place that its ticket gives it.
    pub(crate) fn requeue(&mut self, attempt: AttemptId, alone: bool) {
        if let Some(entry) = self.jobs.get_mut(&attempt.job) {
            entry.alone |= alone;
        }
        self.enqueue(attempt.job);
        self.update(attempt.job, JobStatus::Queued, None);
    }

    // --- devices ---

    /// A worker died on a device under one request. A second, different one makes the device suspect.
    fn suspect(&mut self, id: DeviceId, digest: RequestDigest, now: Instant) {
        let device = &mut self.devices[id.0 as usize];
        if !device.deaths.contains(&digest) {
            device.deaths.push(digest);
        }
        let alone = self
            .devices
            .iter()
            .filter(|device| !device.is_closed())
            .count()
            <= 1;
        let device = &self.devices[id.0 as usize];
        // The last device stays: a pool without any would serve nobody.
        if device.deaths.len() >= 2
            && !matches!(device.trust, Trust::Cordoned | Trust::Stuck)
            && !alone
        {
            self.counters.devices_suspected += 1;
            self.set_trust(id, Trust::Suspect, now);
        }
    }

    /// A worker is gone, or does not go, and its memory is taken: nobody else is started there.
    pub(crate) fn held(&mut self, worker: WorkerId, id: DeviceId, now: Instant) {
        let device = &mut self.devices[id.0 as usize];
        device.holders.insert(worker);
        if device.trust != Trust::Stuck {
            self.counters.devices_stuck += 1;
            self.set_trust(id, Trust::Stuck, now);
        }
    }

    /// Its memory is free. With nobody's taken any more the device is good again.
    pub(crate) fn freed(&mut self, worker: WorkerId, id: DeviceId, now: Instant) {
        let Some(device) = self.devices.get_mut(id.0 as usize) else {
            return;
        };
        device.holders.remove(&worker);
        if device.trust == Trust::Stuck && device.holders.is_empty() {
            self.set_trust(id, Trust::Good, now);
        }
    }

    /// Something was finished on a device.
    pub(crate) fn trusted(&mut self, id: DeviceId) {
        self.devices[id.0 as usize].deaths.clear();
    }

    /// Opens or closes a device. Workers of a closed one finish what they have and stop.
    pub(crate) fn set_trust(&mut self, id: DeviceId, trust: Trust, now: Instant) {
        let slots = self.devices[id.0 as usize].slots();
        let before: Vec<_> = slots.clone().map(|index| self.standing(index)).collect();
        let device = &mut self.devices[id.0 as usize];
        if matches!(trust, Trust::Good | Trust::Probation) {
            device.deaths.clear();
        }
        device.trust = trust;
        let closed = device.is_closed();
        for (index, before) in slots.clone().zip(before) {
            self.file(index, before);
        }
        self.timers.stop(Timer::Probation(id));
        if trust == Trust::Suspect {
            let again = now + self.config.probation_after;
            self.timers.set(Timer::Probation(id), again);
        }
        if closed {
            slots.for_each(|index| self.retire(index, now));
        }
        (self.claims_due, self.fill_due) = (true, true);
    }

    // --- bundles on devices ---

    /// A worker became ready: its bundle works here, and so does the device.
    pub(crate) fn booted(&mut self, device: DeviceId, bundle: BundleIx, now: Instant) {
        self.faults.boots.remove(&(device, bundle));
        self.timers.stop(Timer::Rest(device, bundle));
        if self.devices[device.0 as usize].trust == Trust::Probation {
            self.set_trust(device, Trust::Good, now);
        }
    }

    /// A worker died before READY. After a few the bundle rests on this device; where it rests everywhere its
    /// jobs fail, rather than wait for ever.
    pub(crate) fn boot_failed(&mut self, index: usize, bundle: BundleIx, now: Instant) {
        self.stop_rolling(index);
        let device = self.slots[index].id.device;
        let boots = self.faults.boots.entry((device, bundle)).or_default();
        boots.failures += 1;
        if boots.failures < self.config.boot_failures_max {
            return;
        }
        let until = now + self.config.backoff_max;
        boots.rests_until = Some(until);
        self.timers.set(Timer::Rest(device, bundle), until);
        // A slot that is empty already must not try again by itself; one with a process gives up its `next`.
        self.give_up_next(index);
        (self.claims_due, self.fill_due) = (true, true);
        if self.rests_everywhere(bundle, now) {
            let reason = format!(
                "{} workers for {} in a row failed to start",
                self.config.boot_failures_max, self.menu[bundle].key
            );
            self.fail_waiting(bundle, &reason);
        }
    }

    pub(crate) fn give_up_next(&mut self, index: usize) {
        let id = self.slots[index].id;
        self.alter(index, |slot| match &mut slot.state {
            State::Killing(ending) | State::Stopping(ending) => ending.next = None,
            state @ (State::Backoff { .. } | State::Reserved { .. }) => *state = State::Vacant,
            _ => {}
        });
        self.timers.stop(Timer::Backoff(id));
    }

    pub(crate) fn rest_over(&mut self, device: DeviceId, bundle: BundleIx) {
        self.faults.boots.remove(&(device, bundle));
        (self.claims_due, self.fill_due) = (true, true);
    }

    /// A bundle was baked again: what its workers did before says nothing.
    pub(crate) fn forgive_boots(&mut self, bundle: BundleIx) {
        for device in 0..self.devices.len() {
            let device = self.devices[device].id;
            if self.faults.boots.remove(&(device, bundle)).is_some() {
                self.timers.stop(Timer::Rest(device, bundle));
            }
        }
    }

    pub(crate) fn rests(&self, device: DeviceId, bundle: BundleIx, now: Instant) -> bool {
        let boots = self.faults.boots.get(&(device, bundle));
        boots
            .and_then(|boots| boots.rests_until)
            .is_some_and(|until| now < until)
    }

    /// Its workers do not become ready on any device that gets work.
    pub(crate) fn rests_everywhere(&self, bundle: BundleIx, now: Instant) -> bool {
        if self.faults.boots.is_empty() {
            return false;
        }
        let mut open = self
            .devices
            .iter()
            .filter(|device| !device.is_closed())
            .peekable();
        open.peek().is_some() && open.all(|device| self.rests(device.id, bundle, now))
    }
}

fn worker_lost(losses: u32) -> Failure {
    Failure {
        code: FailureCode::WorkerLost,
        message: format!("the worker died {losses} times while generating this video"),
    }
}

fn quarantined(digest: RequestDigest, losses: u32) -> Failure {
    Failure {
        code: FailureCode::Quarantined,
        message: format!(
            "{losses} workers died while generating this very request; it is not tried again ({digest})"
        ),
    }
}
