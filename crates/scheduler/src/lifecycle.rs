//! What the events of workers mean: the slot machine's transitions, and what becomes of the work in a slot.

use crate::command::{Command, WorkerId};
use crate::job::{Entry, Place};
use crate::scheduler::Scheduler;
use crate::slot::State;
use crate::timer::Timer;
use reel_domain::{
    AttemptId, BundleKey, Failure, FailureCode, FaultClass, JobStatus, Outcome, SlotId,
};
use std::time::Instant;

impl Scheduler {
    pub(crate) fn ready(&mut self, index: usize, batch_max: u32, now: Instant) {
        let slot = &mut self.slots[index];
        let State::Starting { worker, bundle } = &slot.state else {
            return self.kill_unless_leaving(index, now);
        };
        let (worker, bundle) = (*worker, bundle.clone());
        self.timers.stop(Timer::Boot(slot.id));
        if let Some(position) = self.bundles.iter().position(|menu| menu.key == bundle) {
            self.timers.stop(Timer::Rest(position));
            self.bundles[position].boot_failures = 0;
            self.bundles[position].rests_until = None;
        }
        slot.state = State::Idle {
            worker,
            bundle,
            batch_max: batch_max.max(1),
            since: now,
        };
    }

    pub(crate) fn started(&mut self, index: usize, attempt: AttemptId, now: Instant) {
        let id = self.slots[index].id;
        let Some(entry) = self.placed(index, attempt) else {
            return;
        };
        if let Place::Placed {
            started: started @ false,
            ..
        } = &mut entry.place
        {
            *started = true;
            self.update(attempt.job, JobStatus::InProgress, Some(id));
        }
        self.timers
            .set(Timer::Progress(id), now + self.config.progress_deadline);
    }

    pub(crate) fn progressed(&mut self, index: usize, attempt: AttemptId, now: Instant) {
        let id = self.slots[index].id;
        if self.placed(index, attempt).is_some() {
            self.timers
                .set(Timer::Progress(id), now + self.config.progress_deadline);
        }
    }

    pub(crate) fn finished(&mut self, index: usize, attempt: AttemptId, now: Instant) {
        let Some(entry) = self.placed(index, attempt) else {
            return;
        };
        let cancelled = entry.cancelled;
        entry.place = Place::Encoding;
        self.release(index, attempt, now);
        if cancelled {
            self.end(attempt.job, Outcome::Cancelled);
            self.commands.push_back(Command::Discard { attempt });
        } else {
            self.update(attempt.job, JobStatus::Encoding, None);
            self.commands.push_back(Command::Encode { attempt });
        }
    }

    /// An attempt left its worker without frames: cancelled, or (with a message) failed.
    pub(crate) fn left(
        &mut self,
        index: usize,
        attempt: AttemptId,
        failure: Option<String>,
        now: Instant,
    ) {
        let Some(entry) = self.placed(index, attempt) else {
            return;
        };
        let outcome = match (entry.cancelled, failure) {
            (true, _) => Outcome::Cancelled,
            (false, Some(message)) => Outcome::Failed(Failure {
                code: FailureCode::GenerationFailed,
                message,
            }),
            // Nobody asked for it.
            (false, None) => return self.kill(index, FaultClass::Desync, now),
        };
        self.release(index, attempt, now);
        self.end(attempt.job, outcome);
    }

    /// The job of an attempt that this very worker has, or a counted stale event.
    pub(crate) fn placed(&mut self, index: usize, attempt: AttemptId) -> Option<&mut Entry> {
        if !self.slots[index].attempts().contains(&attempt) {
            self.stale_events += 1;
            return None;
        }
        self.jobs.get_mut(&attempt.job)
    }

    /// A worker is done with an attempt.
    pub(crate) fn release(&mut self, index: usize, attempt: AttemptId, now: Instant) {
        let slot = &mut self.slots[index];
        let State::Busy {
            worker,
            bundle,
            batch_max,
            attempts,
        } = &mut slot.state
        else {
            return;
        };
        attempts.retain(|held| *held != attempt);
        slot.failures = 0;
        let someone_leaving = attempts.iter().any(|held| {
            self.jobs
                .get(&held.job)
                .is_some_and(|entry| entry.cancelled)
        });
        if !someone_leaving {
            self.timers.stop(Timer::Cancel(slot.id));
        }
        if attempts.is_empty() {
            self.timers.stop(Timer::Progress(slot.id));
            slot.state = State::Idle {
                worker: *worker,
                bundle: bundle.clone(),
                batch_max: *batch_max,
                since: now,
            };
        }
        if self.draining {
            self.retire(index, now);
        }
    }

    /// Asks a worker without work to exit; a slot that was about to spawn does not.
    pub(crate) fn retire(&mut self, index: usize, now: Instant) {
        let id = self.slots[index].id;
        match self.slots[index].state {
            State::Idle { .. } | State::Starting { .. } => self.stop(index, None, now),
            State::Backoff { .. } => {
                self.timers.stop_slot(id);
                self.slots[index].state = State::Vacant;
            }
            State::Stopping { worker, .. } => {
                self.slots[index].state = State::Stopping { worker, next: None }
            }
            State::Killing { worker, .. } => {
                self.slots[index].state = State::Killing { worker, next: None }
            }
            State::Vacant | State::Busy { .. } => {}
        }
    }

    /// Asks a worker without work to make room for `next`.
    pub(crate) fn stop(&mut self, index: usize, next: Option<BundleKey>, now: Instant) {
        let slot = &mut self.slots[index];
        let Some(worker) = slot.worker() else { return };
        self.timers.stop_slot(slot.id);
        self.timers
            .set(Timer::Stop(slot.id), now + self.config.stop_grace);
        slot.state = State::Stopping { worker, next };
        self.commands.push_back(Command::Stop { worker });
    }

    /// A message that only a worker in another state may send: the conversation is out of step.
    pub(crate) fn kill_unless_leaving(&mut self, index: usize, now: Instant) {
        match self.slots[index].state {
            State::Stopping { .. } | State::Killing { .. } => self.stale_events += 1,
            _ => self.kill(index, FaultClass::Desync, now),
        }
    }

    /// Ends a worker by force. Its jobs do not wait for the process to be gone: its results are fenced off.
    pub(crate) fn kill(&mut self, index: usize, reason: FaultClass, now: Instant) {
        let slot = &mut self.slots[index];
        let Some(worker) = slot.worker() else { return };
        if matches!(slot.state, State::Killing { .. }) {
            return;
        }
        let attempts = slot.attempts().to_vec();
        let starting = matches!(slot.state, State::Starting { .. });
        let stopping = matches!(slot.state, State::Stopping { .. });
        let next = slot.serves().filter(|_| !self.draining).cloned();
        slot.state = State::Killing {
            worker,
            next: next.clone(),
        };
        // Leaving too slowly says nothing about the bundle that comes next.
        slot.failures += u32::from(!stopping);
        self.timers.stop_slot(slot.id);
        self.commands.push_back(Command::Kill { worker, reason });
        if starting && let Some(bundle) = next {
            self.boot_failed(index, &bundle, now);
        }
        self.lose(&attempts);
    }

    pub(crate) fn exited(&mut self, index: usize, now: Instant) {
        let slot = &mut self.slots[index];
        let Some(worker) = slot.worker() else { return };
        let attempts = slot.attempts().to_vec();
        let next = slot.serves().filter(|_| !self.draining).cloned();
        let starting = matches!(slot.state, State::Starting { .. });
        match slot.state {
            // An orderly exit clears the slate for whoever comes next; a kill was counted when it was decided.
            State::Stopping { .. } => slot.failures = 0,
            State::Killing { .. } => {}
            _ => slot.failures += 1,
        }
        slot.state = State::Vacant;
        self.timers.stop_slot(slot.id);
        self.workers.remove(&worker);
        if let Some(bundle) = next {
            self.back_off(index, bundle.clone(), now);
            if starting {
                self.boot_failed(index, &bundle, now);
            }
        }
        self.lose(&attempts);
    }

    /// An empty slot keeps its bundle: the worker comes back, at once after a first death.
    pub(crate) fn back_off(&mut self, index: usize, bundle: BundleKey, now: Instant) {
        let slot = &mut self.slots[index];
        let pause = self.config.backoff(slot.failures);
        if pause.is_zero() {
            self.spawn(index, bundle, now);
        } else {
            self.timers.set(Timer::Backoff(slot.id), now + pause);
            slot.state = State::Backoff { bundle };
        }
    }

    pub(crate) fn backoff_over(&mut self, slot: SlotId, now: Instant) {
        let Some(index) = self.index(slot) else {
            return;
        };
        if let State::Backoff { bundle } = &self.slots[index].state {
            let bundle = bundle.clone();
            self.spawn(index, bundle, now);
        }
    }

    /// Workers of a bundle die before READY. After a few of them its jobs fail, rather than wait for ever.
    pub(crate) fn boot_failed(&mut self, index: usize, key: &BundleKey, now: Instant) {
        let Some(position) = self.bundles.iter().position(|bundle| bundle.key == *key) else {
            return;
        };
        let bundle = &mut self.bundles[position];
        bundle.boot_failures += 1;
        if bundle.boot_failures < self.config.boot_failures_max {
            return;
        }
        let until = now + self.config.backoff_max;
        bundle.rests_until = Some(until);
        self.timers.set(Timer::Rest(position), until);
        self.fail_waiting(
            key,
            &format!(
                "{} workers for {key} in a row failed to start",
                self.config.boot_failures_max
            ),
        );
        // A slot that is empty already must not try again by itself; one with a process gives up its `next`.
        self.retire_resting(index);
    }

    /// Jobs that wait for a bundle which cannot be served fail, rather than wait for ever.
    pub(crate) fn fail_waiting(&mut self, key: &BundleKey, reason: &str) {
        let waiting: Vec<_> = self
            .queue
            .iter()
            .filter(|id| self.jobs[id].job.bundle == *key)
            .collect();
        for id in waiting {
            let failure = Failure {
                code: FailureCode::ShapeUnavailable,
                message: reason.to_owned(),
            };
            self.end(id, Outcome::Failed(failure));
        }
    }

    pub(crate) fn retire_resting(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        match &mut slot.state {
            State::Backoff { .. } => {
                self.timers.stop(Timer::Backoff(slot.id));
                slot.state = State::Vacant;
            }
            State::Killing { next, .. } | State::Stopping { next, .. } => *next = None,
            _ => {}
        }
    }

    /// Starts a worker in an empty slot.
    pub(crate) fn spawn(&mut self, index: usize, bundle: BundleKey, now: Instant) {
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        self.workers.insert(worker, index);
        let slot = &mut self.slots[index];
        self.timers.stop_slot(slot.id);
        self.timers
            .set(Timer::Boot(slot.id), now + self.config.boot_deadline);
        slot.state = State::Starting {
            worker,
            bundle: bundle.clone(),
        };
        self.commands.push_back(Command::Spawn {
            slot: slot.id,
            worker,
            bundle,
        });
    }
}
