//! The machine itself: inputs in, commands out.

use crate::command::{Command, JobChange, WorkerId};
use crate::config::Config;
use crate::event::{BundleOffer, WorkerEvent};
use crate::job::{Entry, Place};
use crate::queue::Queue;
use crate::slot::{Slot, SlotView, State};
use crate::timer::{Timer, Timers};
use reel_domain::{
    AttemptId, BundleKey, Failure, FailureCode, FaultClass, Job, JobId, JobStatus, Outcome,
    Rejection, SlotId,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// The pool's mind. See the crate's documentation for how to drive it.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: Config,
    pub(crate) slots: Vec<Slot>,
    pub(crate) bundles: Vec<Bundle>,
    pub(crate) jobs: BTreeMap<JobId, Entry>,
    pub(crate) queue: Queue,
    pub(crate) timers: Timers,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) draining: bool,
    pub(crate) workers: BTreeMap<WorkerId, usize>,
    pub(crate) next_worker: u64,
    pub(crate) stale_events: u64,
    next_ticket: u64,
}

/// One line of the menu.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) key: BundleKey,
    /// What it offers; `None` until it is baked.
    pub(crate) offer: Option<BundleOffer>,
    /// It could not be baked.
    pub(crate) failed: bool,
    /// Workers that died before READY, in a row.
    pub(crate) boot_failures: u32,
    /// It rests until then, because its workers do not become ready.
    pub(crate) rests_until: Option<Instant>,
}

/// What became of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelDecision {
    /// No such job, or it is terminal already.
    NotRunning,
    /// It will end; `Command::End` says when.
    Accepted,
}

impl Scheduler {
    /// A machine with empty slots, and a menu of which nothing can be served yet.
    #[must_use]
    pub fn new(config: Config, slots: Vec<SlotId>, menu: Vec<BundleKey>) -> Self {
        let bundles = menu
            .into_iter()
            .map(|key| Bundle {
                key,
                offer: None,
                failed: false,
                boot_failures: 0,
                rests_until: None,
            })
            .collect();
        Self {
            config,
            slots: slots.into_iter().map(Slot::new).collect(),
            bundles,
            jobs: BTreeMap::new(),
            queue: Queue::default(),
            timers: Timers::default(),
            commands: VecDeque::new(),
            draining: false,
            workers: BTreeMap::new(),
            next_ticket: 0,
            next_worker: 0,
            stale_events: 0,
        }
    }

    // --- what the application asks ---

    /// A bundle can be served from now on (or not yet, with `None`).
    pub fn set_bundle(&mut self, key: &BundleKey, offer: Option<BundleOffer>, now: Instant) {
        self.change_bundle(key, offer, false);
        self.place(now);
    }

    /// A bundle cannot be made: its waiting jobs fail, and new ones are refused.
    pub fn fail_bundle(&mut self, key: &BundleKey) {
        self.change_bundle(key, None, true);
        self.fail_waiting(
            key,
            &format!("{key} cannot be served: its bundle could not be baked"),
        );
    }

    /// Accepts a job. It waits, held, until [`handle_stored`](Self::handle_stored) says that it is durable.
    ///
    /// # Errors
    /// The reason why it is not accepted.
    pub fn submit(&mut self, job: Job, now: Instant) -> Result<(), Rejection> {
        self.admit(&job, now)?;
        self.enter(job, 0, Place::Held);
        Ok(())
    }

    /// Takes back a job that an earlier run of the supervisor accepted; `attempts` were begun then.
    pub fn restore(&mut self, job: Job, attempts: u32, now: Instant) {
        let (id, key) = (job.id, job.bundle.clone());
        self.enter(job, attempts, Place::Queued);
        self.enqueue(id);
        if self.bundle(&key).is_none() {
            self.fail_waiting(&key, &format!("{key} is not on the menu any more"));
        }
        self.place(now);
    }

    /// Cancels a job: at once where it waits, at the next step boundary where it runs.
    pub fn cancel(&mut self, id: JobId, now: Instant) -> CancelDecision {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return CancelDecision::NotRunning;
        };
        let first = !std::mem::replace(&mut entry.cancelled, true);
        let attempt = entry.attempt();
        match entry.place {
            // It ends when the journal has answered: a row that may exist must not be forgotten.
            Place::Held => {}
            Place::Queued => self.end(id, Outcome::Cancelled),
            Place::Placed { slot, worker, .. } if first => {
                self.commands.push_back(Command::Cancel { worker, attempt });
                self.timers
                    .set(Timer::Cancel(slot), now + self.config.cancel_deadline);
            }
            Place::Placed { .. } => {}
            Place::Encoding => {
                self.end(id, Outcome::Cancelled);
                self.commands.push_back(Command::Discard { attempt });
            }
        }
        CancelDecision::Accepted
    }

    /// Takes no new work, lets workers finish what they have, then stops them. Waiting jobs stay in the
    /// journal for the next run.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        for index in 0..self.slots.len() {
            self.retire(index, now);
        }
    }

    /// Ends every worker by force. Their jobs stay unfinished in the journal for the next run.
    pub fn halt(&mut self, now: Instant) {
        self.drain(now);
        self.jobs.clear();
        for index in 0..self.slots.len() {
            if let Some(worker) = self.slots[index].worker() {
                self.commands.push_back(Command::Kill {
                    worker,
                    reason: FaultClass::Hang,
                });
                self.slots[index].state = State::Killing { worker, next: None };
            }
        }
    }

    // --- what happened ---

    /// The journal has stored a held job, or could not.
    pub fn handle_stored(&mut self, id: JobId, durable: bool, now: Instant) {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        if entry.place != Place::Held {
            return;
        }
        match (durable, entry.cancelled) {
            (false, _) => {
                self.jobs.remove(&id);
            }
            (true, true) => self.end(id, Outcome::Cancelled),
            (true, false) => {
                entry.place = Place::Queued;
                self.enqueue(id);
                self.place(now);
            }
        }
    }

    /// The video of an attempt is published, or could not be made.
    pub fn handle_encoded(&mut self, attempt: AttemptId, result: Result<(), Failure>) {
        match self.jobs.get(&attempt.job) {
            Some(entry) if entry.attempt() == attempt && entry.place == Place::Encoding => {
                self.end(
                    attempt.job,
                    result.map_or_else(Outcome::Failed, |()| Outcome::Completed),
                );
            }
            _ => {
                self.stale_events += 1;
                self.commands.push_back(Command::Discard { attempt });
            }
        }
    }

    /// A worker said or did something.
    pub fn handle_worker(&mut self, worker: WorkerId, event: WorkerEvent, now: Instant) {
        let Some(&index) = self.workers.get(&worker) else {
            self.stale_events += 1;
            return;
        };
        match event {
            WorkerEvent::SpawnFailed => self.exited(index, now),
            WorkerEvent::Exited(_) => self.exited(index, now),
            WorkerEvent::Ready { batch_max } => self.ready(index, batch_max, now),
            WorkerEvent::Broken { class } => self.kill(index, class, now),
            WorkerEvent::Started { attempt } => self.started(index, attempt, now),
            WorkerEvent::Progress { attempt } => self.progressed(index, attempt, now),
            WorkerEvent::Finished { attempt } => self.finished(index, attempt, now),
            WorkerEvent::Cancelled { attempt } => self.left(index, attempt, None, now),
            WorkerEvent::Failed { attempt, message } => {
                self.left(index, attempt, Some(message), now);
            }
        }
        self.place(now);
    }

    /// Time has passed: call it when [`poll_timeout`](Self::poll_timeout) is reached.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expired(now) {
            match timer {
                Timer::Boot(slot)
                | Timer::Progress(slot)
                | Timer::Cancel(slot)
                | Timer::Stop(slot) => {
                    if let Some(index) = self.index(slot) {
                        self.kill(index, FaultClass::Hang, now);
                    }
                }
                Timer::Backoff(slot) => self.backoff_over(slot, now),
                Timer::Rest(position) => self.bundles[position].rests_until = None,
            }
        }
        self.place(now);
    }

    // --- what the caller must do next ---

    /// The next effect to carry out.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` when nothing is pending.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    // --- looking only ---

    /// Every slot.
    pub fn snapshot(&self) -> impl Iterator<Item = SlotView> {
        self.slots.iter().map(Slot::view)
    }

    /// A worker has an attempt now: what it says about it counts.
    #[must_use]
    pub fn carries(&self, worker: WorkerId, attempt: AttemptId) -> bool {
        let slot = self.workers.get(&worker).map(|&index| &self.slots[index]);
        slot.is_some_and(|slot| slot.attempts().contains(&attempt))
    }

    /// The jobs that wait, from the head of the queue.
    pub fn waiting(&self) -> impl Iterator<Item = JobId> {
        self.queue.iter()
    }

    /// How many jobs wait.
    #[must_use]
    pub fn waiting_len(&self) -> usize {
        self.queue.len()
    }

    /// No process is left and no video is being encoded; only meaningful after [`drain`](Self::drain).
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining
            && self.workers.is_empty()
            && !self
                .jobs
                .values()
                .any(|entry| matches!(entry.place, Place::Encoding | Place::Held))
    }

    /// It takes no new work.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.draining
    }

    /// A bundle whose workers die before READY rests for a while.
    #[must_use]
    pub fn is_resting(&self, key: &BundleKey, now: Instant) -> bool {
        self.bundle(key).is_some_and(|bundle| bundle.rests(now))
    }

    /// Events of workers and attempts that are gone; they were ignored.
    #[must_use]
    pub const fn stale_events(&self) -> u64 {
        self.stale_events
    }

    // --- jobs ---

    fn admit(&self, job: &Job, now: Instant) -> Result<(), Rejection> {
        if self.draining {
            return Err(Rejection::Draining);
        }
        let key = &job.bundle;
        let bundle = self
            .bundle(key)
            .ok_or_else(|| Rejection::BundleUnknown(key.clone()))?;
        if bundle.failed {
            return Err(Rejection::BundleFailed(key.clone()));
        }
        let offer = bundle
            .offer
            .as_ref()
            .ok_or_else(|| Rejection::BundleNotReady(key.clone()))?;
        if !offer.modes.contains(&job.mode) {
            return Err(Rejection::ModeUnsupported {
                bundle: key.clone(),
                mode: job.mode,
            });
        }
        if bundle.rests(now) {
            return Err(Rejection::BundleResting(key.clone()));
        }
        if self.jobs.len() >= self.config.queue_jobs_max {
            return Err(Rejection::QueueFull {
                limit: self.config.queue_jobs_max,
            });
        }
        Ok(())
    }

    fn change_bundle(&mut self, key: &BundleKey, offer: Option<BundleOffer>, failed: bool) {
        if let Some(position) = self.bundles.iter().position(|bundle| bundle.key == *key) {
            self.timers.stop(Timer::Rest(position));
            let bundle = &mut self.bundles[position];
            (bundle.offer, bundle.failed) = (offer, failed);
            (bundle.boot_failures, bundle.rests_until) = (0, None);
        }
    }

    fn enter(&mut self, job: Job, attempts: u32, place: Place) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.jobs.insert(
            job.id,
            Entry {
                job,
                ticket,
                attempts,
                // The budget counts workers that died; that the supervisor ended is not the job's fault.
                losses: 0,
                place,
                cancelled: false,
            },
        );
    }

    pub(crate) fn enqueue(&mut self, id: JobId) {
        if let Some(entry) = self.jobs.get(&id) {
            self.queue.insert(entry.ticket, id);
        }
    }

    pub(crate) fn end(&mut self, id: JobId, outcome: Outcome) {
        if let Some(entry) = self.jobs.remove(&id) {
            self.queue.remove(entry.ticket);
            self.commands.push_back(Command::End {
                id,
                attempt: entry.attempts,
                outcome,
            });
        }
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

    /// A worker is gone: its attempts end here, and each job is tried again or fails.
    pub(crate) fn lose(&mut self, attempts: &[AttemptId]) {
        for attempt in attempts {
            let Some(entry) = self.jobs.get_mut(&attempt.job) else {
                continue;
            };
            entry.losses += 1;
            if entry.cancelled {
                self.end(attempt.job, Outcome::Cancelled);
            } else if entry.losses >= self.config.attempts_max {
                self.end(
                    attempt.job,
                    Outcome::Failed(worker_lost(self.config.attempts_max)),
                );
            } else {
                entry.place = Place::Queued;
                self.enqueue(attempt.job);
                self.update(attempt.job, JobStatus::Queued, None);
            }
        }
    }

    pub(crate) fn bundle(&self, key: &BundleKey) -> Option<&Bundle> {
        self.bundles.iter().find(|bundle| bundle.key == *key)
    }

    pub(crate) fn index(&self, id: SlotId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.id == id)
    }
}

impl Bundle {
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// A worker for it would probably become ready.
    pub(crate) fn can_spawn(&self, now: Instant) -> bool {
        self.offer.is_some() && !self.rests(now)
    }
}

fn worker_lost(attempts: u32) -> Failure {
    Failure {
        code: FailureCode::WorkerLost,
        message: format!("the worker died {attempts} times while generating this video"),
    }
}
