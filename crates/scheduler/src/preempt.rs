//! Realtime work goes before batch work that has begun: attempts of the batch class are paused at a step boundary
//! and go on when the realtime attempt is through.
//!
//! The bound: over its whole life an attempt is paused for at most
//! [`preemptions_max`](crate::Config::preemptions_max) realtime attempts; after that it cannot be paused again.

use crate::bundle::BundleIx;
use crate::carried::{Carried, Stage};
use crate::command::Command;
use crate::line::Wanted;
use crate::scheduler::Scheduler;
use crate::slot::Ready;
use crate::timer::Timer;
use crate::work::{Entry, Place};
use reel_domain::{AttemptId, JobId, Priority};
use std::time::{Duration, Instant};

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
        let Some((slot, pauses)) = self.best_preemption(bundle, id, now) else {
            return false;
        };
        for attempt in pauses {
            self.pause(slot, attempt);
        }
        self.start(slot, id, rank, now);
        true
    }

    /// The worker on which the fewest attempts have to be paused, and which.
    fn best_preemption(
        &self,
        bundle: BundleIx,
        id: JobId,
        now: Instant,
    ) -> Option<(usize, Vec<AttemptId>)> {
        let entry = self.jobs.get(&id)?;
        let possible = self.places.of(bundle).busy.iter().filter_map(|&slot| {
            let ready = self.slots[slot].ready()?;
            let suitable = ready.engine.continuous
                && ready.engine.pausable
                && !self.makes_it_without(ready, entry, now);
            let pauses = suitable.then(|| self.pauses_for(slot, ready, entry))??;
            Some((pauses.len(), slot, pauses))
        });
        let (_, slot, pauses) = possible.min()?;
        Some((slot, pauses))
    }

    /// What has to be paused on a worker so that this job can begin; `None`: that is not allowed.
    fn pauses_for(&self, slot: usize, ready: &Ready, entry: &Entry) -> Option<Vec<AttemptId>> {
        let waited_enough = |carried: &Carried| carried.preempted >= self.config.preemptions_max;
        let may_pause =
            |carried: &Carried| carried.priority == Priority::Batch && !waited_enough(carried);
        let mut paused = ready.carried.iter();
        if paused.any(|carried| carried.stage == Stage::Paused && waited_enough(carried)) {
            return None;
        }
        // What may be paused gives way in any case: a realtime attempt alone is faster than in a batch. Those that
        // stay it has to match.
        let (pauses, stay): (Vec<&Carried>, Vec<&Carried>) =
            ready.batch().partition(|carried| may_pause(carried));
        let lane = entry.lane(true);
        let joins = lane.is_some() && ready.lane() == lane;
        if !stay.is_empty() && (!joins || stay.len() >= self.batch_max(slot) as usize) {
            return None;
        }
        Some(pauses.iter().map(|carried| carried.attempt).collect())
    }

    /// The worker is probably free before the job has to begin. A job without such a time cannot wait.
    fn makes_it_without(&self, ready: &Ready, entry: &Entry, now: Instant) -> bool {
        let Some(begin_by) = entry.begin_by else {
            return false;
        };
        let service = Duration::from_micros(self.menu[ready.bundle].profile.service_us);
        let ends = |attempt: AttemptId| match self.jobs.get(&attempt.job)?.place {
            Place::Placed { started, .. } => Some(started.unwrap_or(now) + service),
            _ => None,
        };
        let first = ready
            .batch()
            .filter_map(|carried| ends(carried.attempt))
            .min();
        !service.is_zero() && first.is_some_and(|first| first <= begin_by)
    }

    fn pause(&mut self, index: usize, attempt: AttemptId) {
        let Some(worker) = self.slots[index].worker() else {
            return;
        };
        self.counters.pauses += 1;
        self.alter_ready(index, |ready| {
            if let Some(carried) = ready.find(attempt) {
                carried.stage = Stage::Paused;
            }
            ready.pulse = None;
        });
        self.commands.push_back(Command::Pause { worker, attempt });
    }

    /// A realtime attempt begins: what is paused there has waited for one more.
    pub(crate) fn count_preempted(&mut self, index: usize) {
        self.alter_ready(index, |ready| {
            for carried in &mut ready.carried {
                carried.preempted += u32::from(carried.stage == Stage::Paused);
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
        let (id, worker) = (self.slots[index].id, ready.worker);
        let paused = ready
            .carried
            .iter()
            .filter(|carried| carried.stage == Stage::Paused);
        let paused: Vec<_> = paused.map(|carried| carried.attempt).collect();
        if paused.is_empty() {
            return;
        }
        let progress_due = now + self.config.progress_deadline;
        self.timers.start(Timer::Progress(id), progress_due);
        self.alter_ready(index, |ready| {
            for carried in &mut ready.carried {
                if carried.stage == Stage::Paused {
                    carried.stage = Stage::Running { progress_due };
                }
            }
            ready.pulse = None;
        });
        for attempt in paused {
            self.commands.push_back(Command::Resume { worker, attempt });
        }
    }
}
