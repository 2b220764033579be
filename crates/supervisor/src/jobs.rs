//! Living jobs as their clients see them, and who waits for what of them.

use reel_domain::{Job, JobId, JobStatus, Rejection};
use reel_pool::{CancelError, JobBoard, JobProgress};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// The head of the queue for which positions are published; a job further back sees the last one it got.
const POSITIONS_PUBLISHED_MAX: usize = 256;

type Answer<E> = oneshot::Sender<Result<(), E>>;

/// A job that is not terminal.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) job: Job,
    pub(crate) accepted: Instant,
    progress: JobProgress,
    submitted: Option<Answer<Rejection>>,
    cancelled: Vec<Answer<CancelError>>,
}

impl Live {
    pub(crate) const fn progress(&self) -> &JobProgress {
        &self.progress
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Jobs {
    living: BTreeMap<JobId, Live>,
    board: Arc<JobBoard>,
}

impl Jobs {
    pub(crate) const fn new(board: Arc<JobBoard>) -> Self {
        Self {
            living: BTreeMap::new(),
            board,
        }
    }

    pub(crate) fn insert(&mut self, job: Job, submitted: Option<Answer<Rejection>>, now: Instant) {
        let progress = JobProgress {
            sequence: 0,
            status: JobStatus::Queued,
            attempt: 0,
            stage: None,
            step: 0,
            steps: job.sampling.steps.value(),
            queue_position: None,
            device: None,
        };
        let id = job.id;
        self.living.insert(
            id,
            Live {
                job,
                accepted: now,
                progress,
                submitted,
                cancelled: Vec::new(),
            },
        );
    }

    pub(crate) fn get(&self, id: JobId) -> Option<&Live> {
        self.living.get(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.living.len()
    }

    /// The job is durable: whoever submitted it may know, and everybody can watch it.
    pub(crate) fn stored(&mut self, id: JobId) {
        self.change(id, |_| {});
        if let Some(answer) = self
            .living
            .get_mut(&id)
            .and_then(|live| live.submitted.take())
        {
            let _ = answer.send(Ok(()));
        }
    }

    /// The job could not be made durable, or was not accepted: it never was.
    pub(crate) fn refused(&mut self, id: JobId, rejection: Rejection) {
        if let Some(answer) = self.living.remove(&id).and_then(|live| live.submitted) {
            let _ = answer.send(Err(rejection));
        }
    }

    /// Changes what is published of a job.
    pub(crate) fn change(&mut self, id: JobId, change: impl FnOnce(&mut JobProgress)) {
        if let Some(live) = self.living.get_mut(&id) {
            change(&mut live.progress);
            live.progress.sequence += 1;
            self.board.publish(id, live.progress.clone());
        }
    }

    /// Somebody waits for the job to be terminal.
    pub(crate) fn await_cancel(&mut self, id: JobId, answer: Answer<CancelError>) {
        match self.living.get_mut(&id) {
            Some(live) => live.cancelled.push(answer),
            None => {
                let _ = answer.send(Err(CancelError::NotRunning));
            }
        }
    }

    /// The job's row is terminal: everybody may know.
    pub(crate) fn ended(&mut self, id: JobId, status: JobStatus) -> Option<Live> {
        self.change(id, |progress| {
            progress.status = status;
            progress.queue_position = None;
        });
        let mut live = self.living.remove(&id)?;
        for answer in live.cancelled.drain(..) {
            let _ = answer.send(Ok(()));
        }
        Some(live)
    }

    /// The job's end could not be stored: it is the next start's.
    pub(crate) fn forget(&mut self, id: JobId) {
        self.living.remove(&id);
    }

    /// Publishes the positions of the jobs that wait, given from the head of the queue.
    pub(crate) fn positions(&mut self, waiting: impl Iterator<Item = JobId>) {
        for (position, id) in waiting.take(POSITIONS_PUBLISHED_MAX).enumerate() {
            let known = self
                .living
                .get(&id)
                .and_then(|live| live.progress.queue_position);
            if known != Some(position) {
                self.change(id, |progress| progress.queue_position = Some(position));
            }
        }
    }
}
