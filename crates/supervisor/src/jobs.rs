//! Living jobs as their clients see them, and who waits for what of them.

use reel_domain::{Durations, Job, JobId, JobStatus, Rejection};
use reel_pool::{CancelError, Estimate, JobBoard, JobProgress};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// The head of the queue for which positions are published; a job further back sees the one that it got at first.
pub(crate) const POSITIONS_PUBLISHED_MAX: usize = 256;

type Answer<E> = oneshot::Sender<Result<(), E>>;

/// A job that is not terminal.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) job: Arc<Job>,
    pub(crate) accepted: Instant,
    /// Since when its frames are encoded.
    pub(crate) encoding: Option<Instant>,
    /// How long it would take in all, as it seemed when it was accepted: in milliseconds, and as its client was told.
    pub(crate) estimated: Option<(f64, Estimate)>,
    /// Its last change has its number, and is being stored.
    ending: bool,
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
    /// Numbers of changes of this run are higher.
    before: u64,
}

impl Jobs {
    /// `before`: the highest number that a change of an earlier run may have.
    pub(crate) const fn new(board: Arc<JobBoard>, before: u64) -> Self {
        Self {
            living: BTreeMap::new(),
            board,
            before,
        }
    }

    pub(crate) fn insert(&mut self, job: Job, submitted: Option<Answer<Rejection>>, now: Instant) {
        // Each job counts for itself: its number tells nothing of others.
        let progress = JobProgress {
            sequence: self.before,
            ..JobProgress::accepted(&job)
        };
        let id = job.id;
        self.living.insert(
            id,
            Live {
                job: Arc::new(job),
                accepted: now,
                encoding: None,
                estimated: None,
                ending: false,
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

    /// The job is durable: whoever submitted it may know, and everybody can watch it. `position`: its place in the
    /// queue, if it waits; `estimate`: how long it will take.
    pub(crate) fn stored(
        &mut self,
        id: JobId,
        position: Option<usize>,
        estimate: impl FnOnce(&Job, &JobProgress) -> Option<(f64, Estimate)>,
    ) {
        self.change(id, |progress| progress.queue_position = position);
        if let Some(live) = self.living.get_mut(&id) {
            live.estimated = estimate(&live.job, &live.progress);
        }
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

    /// Changes what is published of a job that is not ending.
    pub(crate) fn change(&mut self, id: JobId, change: impl FnOnce(&mut JobProgress)) {
        if let Some(live) = self.living.get_mut(&id).filter(|live| !live.ending) {
            change(&mut live.progress);
            live.progress.sequence += 1;
            self.board.publish(&live.job, live.progress.clone());
        }
    }

    /// Its frames are being encoded.
    pub(crate) fn encodes(&mut self, id: JobId, now: Instant) {
        if let Some(live) = self.living.get_mut(&id) {
            live.encoding = Some(now);
        }
    }

    /// Notes where the time of a job went; everybody sees it with the next change.
    pub(crate) fn note(&mut self, id: JobId, note: impl FnOnce(&mut Durations)) {
        if let Some(live) = self.living.get_mut(&id) {
            note(&mut live.progress.durations);
        }
    }

    /// The number of the change with which a job ends; no change of it follows.
    pub(crate) fn last_sequence(&mut self, id: JobId) -> u64 {
        let Some(live) = self.living.get_mut(&id) else {
            return self.before;
        };
        live.ending = true;
        live.progress.sequence += 1;
        live.progress.sequence
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

    /// The job's row is terminal: everybody may know. The change has the number that the row has.
    pub(crate) fn ended(&mut self, id: JobId, status: JobStatus) -> Option<Live> {
        let mut live = self.living.remove(&id)?;
        live.progress.status = status;
        live.progress.queue_position = None;
        self.board.publish(&live.job, live.progress.clone());
        for answer in live.cancelled.drain(..) {
            let _ = answer.send(Ok(()));
        }
        Some(live)
    }

    /// The job's end could not be stored: it is the next start's.
    pub(crate) fn forget(&mut self, id: JobId) {
        self.living.remove(&id);
        self.board.remove(id);
    }

    /// Publishes the positions of the jobs that wait, given from the head of the queue.
    pub(crate) fn positions(&mut self, waiting: impl Iterator<Item = JobId>) {
        for (position, id) in waiting.take(POSITIONS_PUBLISHED_MAX).enumerate() {
            let Some(live) = self.living.get_mut(&id).filter(|live| !live.ending) else {
                continue;
            };
            if live.progress.queue_position != Some(position) {
                live.progress.queue_position = Some(position);
                live.progress.sequence += 1;
                // A long queue that moves on would drown what else happens.
                self.board.update(id, live.progress.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reel_domain::{
        BundleKey, Fps, Guidance, Mode, Prompt, Sampling, Seed, Shape, Sharing, Steps,
    };

    fn job() -> Job {
        Job {
            id: JobId::from_bytes([1; 16]),
            bundle: BundleKey {
                model: "tiny".parse().unwrap(),
                shape: Shape::new(64, 64, 17).unwrap(),
            },
            mode: Mode::T2v,
            conditioning_frames: 0,
            sampling: Sampling {
                prompt: Prompt::new("a".into()).unwrap(),
                negative_prompt: Prompt::optional(String::new()).unwrap(),
                seed: Seed::new(1).unwrap(),
                steps: Steps::new(20).unwrap(),
                guidance: Guidance::new(1.0).unwrap(),
                fps: Fps::new(8).unwrap(),
            },
            sharing: Sharing::default(),
            origin: None,
            callback: None,
            trace: None,
            created_at_ms: 0,
        }
    }

    #[test]
    fn nothing_changes_of_a_job_between_its_last_number_and_its_end() {
        let board = Arc::new(JobBoard::new(0));
        let mut jobs = Jobs::new(Arc::clone(&board), 0);
        let id = job().id;
        jobs.insert(job(), None, Instant::now());
        jobs.stored(id, None, |_, _| None);
        let (_, watcher) = board.watch(id).unwrap();
        let last = jobs.last_sequence(id);
        // A worker's last words, say.
        jobs.change(id, |progress| progress.step = 20);
        assert!(watcher.borrow().sequence < last);
        jobs.ended(id, JobStatus::Completed).unwrap();
        let seen = watcher.borrow();
        assert_eq!((seen.sequence, seen.status), (last, JobStatus::Completed));
    }
}
