//! What each command does. Everything returns at once; anything slow comes back as an event.

use crate::driver::Supervisor;
use crate::encode;
use crate::event::Event;
use reel_artifacts::Store;
use reel_domain::{
    AttemptId, Durations, Idempotency, Job, JobId, JobStatus, Origin, Outcome, Rejection,
};
use reel_journal::{Ending, Journal, WriteError};
use reel_scheduler::{Command, JobChange};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

impl Supervisor {
    pub(crate) fn perform(&mut self, command: Command, now: Instant) {
        tracing::trace!(?command, "perform");
        match command {
            Command::Store { id } => self.store_job(id),
            Command::Refuse { id, rejection } => {
                self.submitted.remove(&id);
                self.jobs.refused(id, rejection);
            }
            Command::Spawn {
                slot,
                worker,
                bundle,
            } => self.spawn(slot, worker, bundle, now),
            Command::Generate {
                worker,
                attempt,
                more,
            } => self.generate(worker, attempt, more, now),
            Command::Pause { worker, attempt } => self.pause(worker, attempt, now),
            Command::Resume { worker, attempt } => self.resume(worker, attempt, now),
            Command::Cancel { worker, attempt } => self.cancel_attempt(worker, attempt, now),
            Command::Stop { worker } => self.stop(worker, now),
            Command::Kill { worker, fault } => self.kill(worker, fault),
            Command::Ping { worker } => self.ping(worker, now),
            Command::Abandon { worker } => self.abandon(worker),
            Command::Encode { attempt } => self.encode(attempt, now),
            Command::Discard { attempt } => self.discard(attempt),
            Command::Update { change } => self.update(&change),
            Command::End {
                id,
                attempt,
                outcome,
            } => self.end(id, attempt, outcome),
        }
    }

    /// Makes an accepted job durable.
    fn store_job(&mut self, id: JobId) {
        let (given, idempotency) = self.submitted.remove(&id).unwrap_or_default();
        let Some(job) = self.jobs.get(id).map(|live| Arc::clone(&live.job)) else {
            return;
        };
        let (journal, store, events) = (
            self.journal.clone(),
            self.store.clone(),
            self.events.clone(),
        );
        // Without frames to write, and with space that was seen just now, the disk has no part in it yet.
        if given.is_empty() && self.space_seen.is_fresh() {
            return insert(&journal, &job, idempotency, events);
        }
        let hard = self.tuning.retention.hard_free_bytes;
        let space_seen = self.space_seen.clone();
        tokio::task::spawn_blocking(move || {
            let kept = keep_inputs(&store, &job, &given, hard);
            space_seen.note(kept.is_ok());
            match kept {
                Ok(()) => insert(&journal, &job, idempotency, events),
                Err(rejection) => {
                    let _ = events.blocking_send(Event::Stored(id, Err(rejection)));
                }
            }
        });
    }

    fn update(&mut self, change: &JobChange) {
        let JobChange {
            id,
            attempt,
            status,
            slot,
        } = *change;
        self.queue_moved = true;
        if status == JobStatus::Queued {
            // The worker of that attempt is gone, and its frames will not come.
            let attempt = AttemptId {
                job: id,
                number: attempt,
            };
            encode::abandon(self.prepared.remove(&attempt).flatten());
        }
        self.journal.set_status(id, attempt, status, move |result| {
            if let Err(error) = result {
                tracing::error!(job = %id, %status, %error, "a status could not be stored");
            }
        });
        self.jobs.change(id, |progress| {
            progress.status = status;
            progress.attempt = attempt;
            progress.queue_position = None;
            if status == JobStatus::Queued {
                progress.device = None;
            }
            if slot.is_none() {
                progress.stage = None;
            }
            if status == JobStatus::Queued {
                progress.step = 0;
            }
        });
    }

    /// Makes the row terminal. Whoever waits is told by the event that comes back.
    fn end(&mut self, id: JobId, attempt: u32, outcome: Outcome) {
        self.queue_moved = true;
        self.ending += 1;
        let last = AttemptId {
            job: id,
            number: attempt,
        };
        encode::abandon(self.prepared.remove(&last).flatten());
        let video = self.published.remove(&id);
        let finished_at_ms = now_ms();
        let sequence = self.jobs.last_sequence(id);
        let progress = self.jobs.get(id).map(|live| live.progress().clone());
        let ending = Ending {
            outcome,
            finished_at_ms,
            video,
            expires_at_ms: self.tuning.retention.expires_at_ms(finished_at_ms),
            sequence,
            device: progress
                .as_ref()
                .and_then(|progress| Some(progress.device.as_ref()?.to_string())),
            durations: progress.map_or_else(Durations::default, |progress| progress.durations),
        };
        self.endings.insert(id, (attempt, ending));
        self.store_ending(id);
    }

    /// Writes the end of a job into its row.
    pub(crate) fn store_ending(&self, id: JobId) {
        let Some((attempt, ending)) = self.endings.get(&id) else {
            return;
        };
        let events = self.events.clone();
        self.journal
            .finish(id, *attempt, ending.clone(), move |result| {
                let _ = events.blocking_send(Event::Ended(id, result));
            });
    }

    /// Writes the end of a job again after a pause: a full disk may have space by then.
    pub(crate) fn store_ending_later(&self, id: JobId) {
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ENDING_RETRY_PAUSE).await;
            let _ = events.send(Event::StoreEnding(id)).await;
        });
    }
}

/// Between two tries to store the end of a job.
const ENDING_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long ago space for more work may have been seen for a job to be taken without another look.
const SPACE_SEEN_MAX: Duration = Duration::from_millis(100);

/// When somebody looked last whether there is space for more work, and there was.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpaceSeen {
    at: Arc<Mutex<Option<Instant>>>,
}

impl SpaceSeen {
    fn is_fresh(&self) -> bool {
        self.lock().is_some_and(|at| at.elapsed() < SPACE_SEEN_MAX)
    }

    fn note(&self, seen: bool) {
        *self.lock() = seen.then(Instant::now);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert(
    journal: &Journal,
    job: &Job,
    idempotency: Option<Idempotency>,
    events: mpsc::Sender<Event>,
) {
    let id = job.id;
    let done = move |result: Result<(), WriteError>| {
        let result = result.map_err(|error| not_inserted(id, &error));
        let _ = events.blocking_send(Event::Stored(id, result));
    };
    match idempotency {
        Some(idempotency) => journal.insert_once(job, idempotency, done),
        None => journal.insert(job, done),
    }
}

/// Keeps what a job starts from where its workers and its encoder find it, if there is space for more work at all.
fn keep_inputs(
    store: &Store,
    job: &Job,
    given: &[u8],
    hard_free_bytes: u64,
) -> Result<(), Rejection> {
    let id = job.id;
    // A file system that does not say how full it is will say so when it is written to.
    if store.free_bytes().is_ok_and(|free| free < hard_free_bytes) {
        tracing::error!(job = %id, hard_free_bytes, "a job is refused: the disk is full");
        return Err(Rejection::StorageFull);
    }
    if let Some(Origin::Extension { of, .. }) = job.origin {
        // Its source may be deleted while it waits.
        let kept = store.keep_prior(id, of);
        if !kept.map_err(|error| not_stored(id, &error, error.is_out_of_space()))? {
            return Err(Rejection::SourceGone { id: of });
        }
    }
    if given.is_empty() {
        return Ok(());
    }
    let kept = store.put_given(id, given);
    kept.map_err(|error| not_stored(id, &error, error.is_out_of_space()))
}

fn not_inserted(id: JobId, error: &WriteError) -> Rejection {
    match error {
        WriteError::Repeated { id, same } => Rejection::Repeated {
            id: *id,
            same: *same,
        },
        error => not_stored(id, error, error.is_out_of_space()),
    }
}

fn not_stored(id: JobId, error: &dyn std::error::Error, out_of_space: bool) -> Rejection {
    tracing::error!(job = %id, error = encode::chain(error), "a job could not be stored");
    match out_of_space {
        true => Rejection::StorageFull,
        false => Rejection::NotDurable,
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
