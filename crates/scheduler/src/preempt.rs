//! Realtime work goes before batch work that has begun: attempts of the batch class are paused at a step boundary
//! and go on when the realtime attempt is through.
//!
//! The bound: over its whole life an attempt is paused for at most
//! [`preemptions_max`](crate::Config::preemptions_max) realtime attempts; after that it cannot be paused again.

use crate::bundle::BundleIx;
use crate::carried::{Activity, Carried};
use crate::command::Command;
use crate::config::Batching;
use crate::line::Wanted;
use crate::scheduler::Scheduler;
use crate::slot::Ready;
use crate::timer::Timer;
use crate::work::{Entry, Place};
use reel_domain::{AttemptId, JobId, Priority};
use std::time::{Duration, Instant};

/// Room for a realtime job.
#[derive(Debug)]
struct Preemption {
    slot: usize,
    /// What is paused for it.
    pauses: Vec<AttemptId>,
    /// It shares the worker with others.
    joins: bool,
}

impl Scheduler {
    /// Gives the first waiting realtime job of a bundle a worker whose batch work can be paused for it.
    pub(crate) fn preempt(&mut self, bundle: BundleIx, now: Instant) -> bool {
        let possible = self.config.preemptions_max > 0 && self.places.of(bundle).ready > 0;
        if !possible || !self.line.has_class(Priority::Realtime) {
            return false;
        }
        let Some((rank, id)) = self.line.first(Wanted::Any(bundle)) else {
            return false;
        };
        if rank.priority != Priority::Realtime {
            return false;
        }
        let Some(Preemption {
            slot,
            pauses,
            joins,
        }) = self.best_preemption(bundle, id, now)
        else {
            return false;
        };
        self.counters.merges += u64::from(joins);
        for attempt in pauses {
            self.pause(slot, attempt);
        }
        self.start(slot, id, rank, now);
        true
    }

    /// The worker on which the fewest attempts have to be paused. Where the job makes it without, somebody looks
    /// again when the worker should be free.
    fn best_preemption(&mut self, bundle: BundleIx, id: JobId, now: Instant) -> Option<Preemption> {
        let entry = self.jobs.get(&id)?;
        let mut best: Option<Preemption> = None;
        let mut expected = Vec::new();
        for &slot in &self.places.of(bundle).busy {
            let Some(ready) = self.slots[slot].ready() else {
                continue;
            };
            if !(ready.engine.continuous && ready.engine.pausable) {
                continue;
            }
            if let Some(free) = self.free_in_time(ready, entry, now) {
                expected.push((self.slots[slot].id, free));
                continue;
            }
            let found = self.preemption_on(slot, ready, entry);
            let fewer = |other: &Preemption| {
                best.as_ref()
                    .is_none_or(|best| other.pauses.len() < best.pauses.len())
            };
            if let Some(found) = found.filter(fewer) {
                best = Some(found);
            }
        }
        for (slot, free) in expected {
            self.timers.advance(Timer::Preempt(slot), free);
        }
        best
    }

    /// What has to be paused on a worker so that this job can begin; `None`: that is not allowed, or does not help.
    fn preemption_on(&self, slot: usize, ready: &Ready, entry: &Entry) -> Option<Preemption> {
        let waited_enough = |carried: &Carried| carried.preempted >= self.config.preemptions_max;
        let may_pause =
            |carried: &Carried| carried.priority == Priority::Batch && !waited_enough(carried);
        let mut paused = ready.carried.iter();
        if paused.any(|carried| carried.activity == Activity::Paused && waited_enough(carried)) {
            return None;
        }
        // What may be paused gives way in any case: a realtime attempt alone is faster than in a batch. Those that
        // stay it joins as any other job does.
        let (pauses, stay): (Vec<&Carried>, Vec<&Carried>) =
            ready.batch().partition(|carried| may_pause(carried));
        if !stay.is_empty() && !self.joins(slot, ready, entry, &stay) {
            return None;
        }
        Some(Preemption {
            slot,
            pauses: pauses.iter().map(|carried| carried.attempt).collect(),
            joins: !stay.is_empty(),
        })
    }

    fn joins(&self, slot: usize, ready: &Ready, entry: &Entry, stay: &[&Carried]) -> bool {
        let lane = entry.lane(true);
        let load = u32::try_from(stay.len()).unwrap_or(u32::MAX);
        let spent: u64 = stay.iter().map(|carried| carried.cost).sum();
        self.config.batching != Batching::Off
            && lane.is_some()
            && ready.lane() == lane
            && load < self.batch_max(slot)
            && spent.saturating_add(entry.work.cost) <= self.cap(slot, ready.bundle).cost_max
            && self.pays(ready.bundle, load)
    }

    /// When the worker will probably be free, if that is before the job has to begin. A job without such a time
    /// cannot wait, and a time that is past says nothing.
    fn free_in_time(&self, ready: &Ready, entry: &Entry, now: Instant) -> Option<Instant> {
        let begin_by = entry.begin_by?;
        let service = Duration::from_micros(self.menu[ready.bundle].profile.service_us);
        if service.is_zero() {
            return None;
        }
        let ends = |attempt: AttemptId| match self.jobs.get(&attempt.job)?.place {
            // One that has not started yet was given to the worker when that was used last.
            Place::Placed { started, .. } => Some(started.unwrap_or(ready.used) + service),
            _ => None,
        };
        let batch = ready.batch();
        let first = batch.filter_map(|carried| ends(carried.attempt)).min()?;
        let margin = service / 10;
        (first > now && first + margin <= begin_by).then_some(first)
    }

    /// A worker should be free by now for a job that waits.
    pub(crate) fn look_again(&mut self, index: usize) {
        if let Some(ready) = self.slots[index].ready() {
            self.touched.insert(ready.bundle);
        }
    }

    fn pause(&mut self, index: usize, attempt: AttemptId) {
        let Some(worker) = self.slots[index].worker() else {
            return;
        };
        self.counters.pauses += 1;
        self.alter_ready(index, |ready| {
            if let Some(carried) = ready.find(attempt) {
                carried.activity = Activity::Paused;
            }
            ready.pulse = None;
        });
        self.commands.push_back(Command::Pause { worker, attempt });
    }

    /// A realtime attempt begins: what is paused there has waited for one more.
    pub(crate) fn count_preempted(&mut self, index: usize) {
        self.alter_ready(index, |ready| {
            for carried in &mut ready.carried {
                carried.preempted += u32::from(carried.activity == Activity::Paused);
            }
        });
    }

    /// No realtime work is left on a worker: what was paused for it goes on, in its old order.
    pub(crate) fn resume_paused(&mut self, index: usize, now: Instant) {
        let Some(ready) = self.slots[index].ready() else {
            return;
        };
        let urgent = |priority| priority == Priority::Realtime;
        if ready.carried.iter().any(|carried| urgent(carried.priority)) {
            return;
        }
        let worker = ready.worker;
        let paused = ready
            .carried
            .iter()
            .filter(|carried| carried.activity == Activity::Paused);
        let paused: Vec<_> = paused.map(|carried| carried.attempt).collect();
        if paused.is_empty() {
            return;
        }
        self.alter_ready(index, |ready| {
            for carried in &mut ready.carried {
                if carried.activity == Activity::Paused {
                    carried.activity = Activity::Waking;
                }
            }
            ready.pulse = None;
        });
        self.watch(index, now);
        for attempt in paused {
            self.commands.push_back(Command::Resume { worker, attempt });
        }
    }
}
