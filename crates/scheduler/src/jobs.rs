//! A job's way from the request to its one end, as far as no worker has a part in it: accepted, held until it is
//! durable, parked, in the line, encoded, ended.

use crate::bundle::BundleIx;
use crate::carried::Activity;
use crate::command::{Command, JobChange, WorkerId};
use crate::line::Waiting;
use crate::scheduler::Scheduler;
use crate::timer::Timer;
use crate::work::{Entry, Place, Work};
use reel_domain::{AttemptId, Failure, FailureCode, JobId, JobStatus, Outcome, Rejection, SlotId};
use std::time::Instant;

impl Scheduler {
    /// Accepts a job, or refuses it. It waits, held, until the journal has it.
    pub(crate) fn submit(&mut self, work: Work, now: Instant) {
        match self.admit(&work, now) {
            Ok(bundle) => {
                self.commands.push_back(Command::Store { id: work.id });
                self.accept(work, bundle, 0, now);
                self.unsettled += 1;
            }
            Err(rejection) => self.commands.push_back(Command::Refuse {
                id: work.id,
                rejection,
            }),
        }
    }

    fn admit(&self, work: &Work, now: Instant) -> Result<BundleIx, Rejection> {
        let key = &work.bundle;
        if self.draining {
            return Err(Rejection::Draining);
        }
        let Some(place) = self.menu.find(key) else {
            return Err(Rejection::BundleUnknown(key.clone()));
        };
        let bundle = &self.menu[place];
        if bundle.failed {
            return Err(Rejection::BundleFailed(key.clone()));
        }
        let Some(offer) = &bundle.offer else {
            return Err(Rejection::BundleNotReady(key.clone()));
        };
        if !offer.modes.contains(&work.mode) {
            return Err(Rejection::ModeUnsupported {
                bundle: key.clone(),
                mode: work.mode,
            });
        }
        if self.faults.is_quarantined(work.digest, &self.config) {
            return Err(Rejection::Quarantined {
                case: work.digest.to_string(),
            });
        }
        self.fits_somewhere(place)?;
        if self.rests_everywhere(place, now) {
            return Err(Rejection::BundleResting(key.clone()));
        }
        if self.jobs.len() >= self.config.queue_jobs_max {
            return Err(Rejection::QueueFull {
                limit: self.config.queue_jobs_max,
                retry_after_s: self.expected_wait_s(place),
            });
        }
        let of_tenant = self.tenants.get(&work.tenant).copied().unwrap_or(0);
        if of_tenant >= self.config.tenant_jobs_max {
            return Err(Rejection::TenantQueueFull {
                limit: self.config.tenant_jobs_max,
                retry_after_s: self.expected_wait_s(place),
            });
        }
        Ok(place)
    }

    fn accept(&mut self, work: Work, bundle: BundleIx, attempts: u32, now: Instant) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        *self.tenants.entry(work.tenant.clone()).or_default() += 1;
        self.count_visit(bundle);
        let begin_by = work.begin_within.map(|time| now + time);
        if let Some(begin_by) = begin_by {
            self.timers.set(Timer::Begin(work.id), begin_by);
        }
        self.jobs.insert(
            work.id,
            Entry {
                work,
                bundle,
                ticket,
                attempts,
                // The budget counts workers that died; that the supervisor ended is not the job's fault.
                losses: 0,
                place: Place::Held,
                cancelled: false,
                cancel_due: None,
                alone: false,
                begin_by,
                overdue: false,
            },
        );
    }

    pub(crate) fn stored(&mut self, id: JobId, durable: bool) {
        let Some(entry) = self.jobs.get(&id) else {
            return;
        };
        if entry.place != Place::Held {
            return;
        }
        let overdue = entry.overdue;
        match (durable, entry.cancelled) {
            (false, _) => {
                self.forget(id);
            }
            (true, true) => self.end(id, Outcome::Cancelled),
            (true, false) if overdue => self.miss_deadline(id),
            (true, false) => {
                self.unsettled -= 1;
                self.enqueue(id);
            }
        }
    }

    pub(crate) fn restore(&mut self, work: Work, attempts: u32, now: Instant) {
        let (id, key) = (work.id, work.bundle.clone());
        match self.menu.find(&key) {
            Some(bundle) => {
                self.accept(work, bundle, attempts, now);
                self.enqueue(id);
            }
            None => self.commands.push_back(Command::End {
                id,
                attempt: attempts,
                outcome: Outcome::Failed(Failure {
                    code: FailureCode::ShapeUnavailable,
                    message: format!("{key} is not on the menu any more"),
                }),
            }),
        }
    }

    /// Cancels a job: at once where it waits, at the next step boundary where it runs.
    pub(crate) fn cancel(&mut self, id: JobId, now: Instant) {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        let first = !std::mem::replace(&mut entry.cancelled, true);
        let attempt = entry.attempt();
        match entry.place {
            // It ends when the journal has answered: a row that may exist must not be forgotten.
            Place::Held => {}
            Place::Parked | Place::Queued(_) => self.end(id, Outcome::Cancelled),
            Place::Placed { slot, worker, .. } if first => {
                self.cancel_placed(self.index(slot), worker, attempt, now);
            }
            Place::Placed { .. } => {}
            Place::Encoding => {
                self.end(id, Outcome::Cancelled);
                self.commands.push_back(Command::Discard { attempt });
            }
        }
    }

    /// Asks a worker to let an attempt go; one that it has not heard of yet is just taken back.
    fn cancel_placed(&mut self, index: usize, worker: WorkerId, attempt: AttemptId, now: Instant) {
        let mut carried = self.slots[index].carried().iter();
        let held = carried.find(|carried| carried.attempt == attempt);
        if held.is_some_and(|carried| carried.activity == Activity::Forming) {
            self.release(index, attempt, now);
            return self.end(attempt.job, Outcome::Cancelled);
        }
        self.commands.push_back(Command::Cancel { worker, attempt });
        let due = now + self.config.cancel_deadline;
        if let Some(entry) = self.jobs.get_mut(&attempt.job) {
            entry.cancel_due = Some(due);
        }
        // An earlier one stays: it looks who is due when it expires.
        self.timers.start(Timer::Cancel(self.slots[index].id), due);
    }

    /// Nobody wants a job any more that has not begun by now. One that is not durable yet ends when it is.
    pub(crate) fn begin_is_due(&mut self, id: JobId) {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        match entry.place {
            Place::Held => entry.overdue = true,
            Place::Parked | Place::Queued(_) => self.miss_deadline(id),
            Place::Placed { .. } | Place::Encoding => {}
        }
    }

    /// A job that waits again without ever having begun has no more time than before.
    pub(crate) fn must_begin(&mut self, id: JobId) {
        if let Some(begin_by) = self.jobs.get(&id).and_then(|entry| entry.begin_by) {
            self.timers.set(Timer::Begin(id), begin_by);
        }
    }

    fn miss_deadline(&mut self, id: JobId) {
        self.counters.deadlines_missed += 1;
        let failure = Failure {
            code: FailureCode::DeadlineExceeded,
            message: "it had not begun within the time that the request allowed".to_owned(),
        };
        self.end(id, Outcome::Failed(failure));
    }

    pub(crate) fn encoded(&mut self, attempt: AttemptId, result: Result<(), Failure>) {
        match self.jobs.get(&attempt.job) {
            Some(entry) if entry.attempt() == attempt && entry.place == Place::Encoding => {
                let outcome = result.map_or_else(Outcome::Failed, |()| Outcome::Completed);
                self.end(attempt.job, outcome);
            }
            _ => {
                self.counters.stale_events += 1;
                self.commands.push_back(Command::Discard { attempt });
            }
        }
    }

    /// Puts a job into the line, or beside it while its bundle is baked; one that nobody can ever serve ends.
    pub(crate) fn enqueue(&mut self, id: JobId) {
        let Some(bundle) = self.jobs.get(&id).map(|entry| entry.bundle) else {
            return;
        };
        let reason = self.cannot_serve(bundle);
        let is_baked = self.menu[bundle].offer.is_some();
        let continuous = self.menu[bundle].continuous;
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        // Nowhere, until it is in the line.
        entry.place = Place::Parked;
        if let Some(message) = reason {
            let failure = Failure {
                code: FailureCode::ShapeUnavailable,
                message,
            };
            return self.end(id, Outcome::Failed(failure));
        }
        if !is_baked {
            self.parked.insert((bundle, entry.ticket), id);
            return;
        }
        entry.place = Place::Queued(entry.lane(continuous));
        if let Some(waiting) = waiting(entry) {
            self.line.insert(&waiting);
        }
        self.touched.insert(bundle);
        self.claimants.insert(bundle);
    }

    /// Why no worker of a bundle is ready or ever will be.
    pub(crate) fn cannot_serve(&self, bundle: BundleIx) -> Option<String> {
        if self.menu[bundle].failed {
            let key = &self.menu[bundle].key;
            let reason = format!("{key} cannot be served: its bundle could not be baked");
            return Some(reason);
        }
        if self.places.of(bundle).ready > 0 {
            return None;
        }
        let rejection = self.fits_somewhere(bundle).err();
        rejection.map(|rejection| rejection.to_string())
    }

    /// The one end of a job.
    pub(crate) fn end(&mut self, id: JobId, outcome: Outcome) {
        if let Some(entry) = self.forget(id) {
            self.commands.push_back(Command::End {
                id,
                attempt: entry.attempts,
                outcome,
            });
        }
    }

    fn forget(&mut self, id: JobId) -> Option<Entry> {
        let entry = self.jobs.remove(&id)?;
        if entry.begin_by.is_some() {
            self.timers.stop(Timer::Begin(id));
        }
        if let Some(waiting) = waiting(&entry) {
            self.line.remove(&waiting);
            self.one_waits_less();
        }
        match entry.place {
            Place::Held | Place::Encoding => self.unsettled -= 1,
            Place::Parked => {
                self.parked.remove(&(entry.bundle, entry.ticket));
            }
            Place::Queued(_) | Place::Placed { .. } => {}
        }
        if let Some(count) = self.tenants.get_mut(&entry.work.tenant) {
            *count -= 1;
            if *count == 0 {
                self.tenants.remove(&entry.work.tenant);
            }
        }
        Some(entry)
    }

    /// Nobody may need a place any more that was promised, or that waits to be spawned in.
    pub(crate) fn one_waits_less(&mut self) {
        self.claims_due |= !self.places.promised.is_empty() || !self.places.resting.is_empty();
    }

    pub(crate) fn update(&mut self, id: JobId, status: JobStatus, slot: Option<SlotId>) {
        if let Some(entry) = self.jobs.get(&id) {
            let change = JobChange {
                id,
                attempt: entry.attempts,
                status,
                slot,
            };
            self.commands.push_back(Command::Update { change });
        }
    }

    /// Jobs that wait for a bundle which cannot be served fail, rather than wait for ever.
    pub(crate) fn fail_waiting(&mut self, bundle: BundleIx, reason: &str) {
        let parked: Vec<_> = self.parked_of(bundle).collect();
        for id in parked.into_iter().chain(self.line.of_bundle(bundle)) {
            let failure = Failure {
                code: FailureCode::ShapeUnavailable,
                message: reason.to_owned(),
            };
            self.end(id, Outcome::Failed(failure));
        }
    }

    pub(crate) fn parked_of(&self, bundle: BundleIx) -> impl Iterator<Item = JobId> {
        self.parked
            .range((bundle, 0)..=(bundle, u64::MAX))
            .map(|(_, id)| *id)
    }
}

/// A waiting job as the line knows it; `None` for one that does not wait.
pub(crate) fn waiting(entry: &Entry) -> Option<Waiting> {
    let Place::Queued(lane) = entry.place else {
        return None;
    };
    Some(Waiting {
        id: entry.work.id,
        ticket: entry.ticket,
        priority: entry.work.priority,
        tenant: entry.work.tenant.clone(),
        bundle: entry.bundle,
        lane,
    })
}
