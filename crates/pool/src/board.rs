//! The living jobs, and what happens to them. The supervisor writes; anybody reads, without asking the supervisor.

use reel_domain::{Durations, Job, JobId, JobStatus, TenantName};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Changes that are kept for whoever follows all jobs and was away for a moment.
pub const CHANGES_KEPT_MAX: usize = 8_192;

/// How far a job is. Every change has a higher `sequence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProgress {
    /// Grows with every change of this job, over restarts too.
    pub sequence: u64,
    /// Where it stands.
    pub status: JobStatus,
    /// The attempt that is running or ran last; 0 before the first.
    pub attempt: u32,
    /// The stage that the worker is in (`encode`, `denoise`, `decode`).
    pub stage: Option<&'static str>,
    /// Denoising steps done.
    pub step: u32,
    /// Denoising steps in all.
    pub steps: u32,
    /// Jobs before it in the queue, while it waits.
    pub queue_position: Option<usize>,
    /// The device that works on it.
    pub device: Option<Arc<str>>,
    /// Where its time went so far.
    pub durations: Durations,
}

impl JobProgress {
    /// Of a job that has just been accepted.
    #[must_use]
    pub fn accepted(job: &Job) -> Self {
        Self {
            sequence: 0,
            status: JobStatus::Queued,
            attempt: 0,
            stage: None,
            step: 0,
            steps: job.sampling.steps.value(),
            queue_position: None,
            device: None,
            durations: Durations::default(),
        }
    }

    /// Share of the work that is done, 0 to 100; 100 only when the video is published.
    #[must_use]
    pub fn percent(&self) -> u8 {
        match self.status {
            JobStatus::Completed => 100,
            JobStatus::Encoding => 99,
            JobStatus::InProgress if self.steps > 0 => {
                let share = u64::from(self.step.min(self.steps)) * 98 / u64::from(self.steps);
                u8::try_from(share).unwrap_or(98)
            }
            _ => 0,
        }
    }
}

/// One change of one job.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its number among the changes of all jobs, which grows over restarts too.
    pub number: u64,
    /// The job.
    pub job: Arc<Job>,
    /// How it stands since.
    pub progress: JobProgress,
}

/// Changes were missed: more happened than is kept, or they were of another history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("changes were missed: the oldest that there can be is number {oldest}")]
pub struct Missed {
    /// The number of the oldest change that is kept; if none is, of the next one.
    pub oldest: u64,
}

/// Every job that is not terminal yet, and the latest changes of all.
#[derive(Debug)]
pub struct JobBoard {
    living: Mutex<Living>,
    /// The number of the newest change.
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Living {
    jobs: BTreeMap<JobId, Entry>,
    by_tenant: BTreeMap<TenantName, usize>,
    changes: VecDeque<Change>,
    newest: u64,
}

#[derive(Debug)]
struct Entry {
    job: Arc<Job>,
    progress: watch::Sender<JobProgress>,
}

impl JobBoard {
    /// An empty board, whose changes have numbers after `before`.
    #[must_use]
    pub fn new(before: u64) -> Self {
        Self {
            living: Mutex::new(Living {
                jobs: BTreeMap::new(),
                by_tenant: BTreeMap::new(),
                changes: VecDeque::new(),
                newest: before,
            }),
            newest: watch::Sender::new(before),
        }
    }

    /// Makes a progress visible. Somebody who watches sees a terminal one before the job leaves the board.
    pub fn publish(&self, job: &Arc<Job>, progress: JobProgress) {
        let number = self.lock().publish(job, progress);
        // Whoever publishes does so alone: numbers come in order.
        self.newest.send_replace(number);
    }

    /// Makes a progress visible to whoever looks at this job or follows it. It is no change that followers of all jobs
    /// are told of.
    pub fn update(&self, id: JobId, progress: JobProgress) {
        if let Some(entry) = self.lock().jobs.get(&id) {
            entry.progress.send_replace(progress);
        }
    }

    /// Nothing more is known here of a job: its row has the truth.
    pub fn remove(&self, id: JobId) {
        let mut living = self.lock();
        if let Some(entry) = living.jobs.remove(&id) {
            living.leave(&entry.job.sharing.tenant);
        }
    }

    /// A job that is not terminal, and its latest progress.
    #[must_use]
    pub fn get(&self, id: JobId) -> Option<(Arc<Job>, JobProgress)> {
        let living = self.lock();
        let entry = living.jobs.get(&id)?;
        Some((Arc::clone(&entry.job), entry.progress.borrow().clone()))
    }

    /// Follows a job that is not terminal. The channel closes after the terminal progress.
    #[must_use]
    pub fn watch(&self, id: JobId) -> Option<(Arc<Job>, watch::Receiver<JobProgress>)> {
        let living = self.lock();
        let entry = living.jobs.get(&id)?;
        Some((Arc::clone(&entry.job), entry.progress.subscribe()))
    }

    /// The jobs of a tenant that are not terminal.
    #[must_use]
    pub fn living_of(&self, tenant: &TenantName) -> usize {
        self.lock().by_tenant.get(tenant).copied().unwrap_or(0)
    }

    /// Follows the number of the newest change.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The changes after the change number `after`, at most `limit`, oldest first.
    ///
    /// # Errors
    /// When some of them are not kept any more, or `after` has not been yet: whoever waited for it would wait for ever.
    pub fn changes_after(&self, after: u64, limit: usize) -> Result<Vec<Change>, Missed> {
        let living = self.lock();
        let next = living.newest + 1;
        if after >= next {
            return Err(Missed { oldest: next });
        }
        let oldest = living.changes.front().map_or(next, |change| change.number);
        if oldest > after.saturating_add(1) {
            return Err(Missed { oldest });
        }
        let known = living
            .changes
            .partition_point(|change| change.number <= after);
        Ok(living.changes.range(known..).take(limit).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Living> {
        // Every critical section is a few map operations that leave the maps whole.
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Living {
    fn publish(&mut self, job: &Arc<Job>, progress: JobProgress) -> u64 {
        let terminal = progress.status.is_terminal();
        match self.jobs.get(&job.id) {
            Some(entry) => {
                entry.progress.send_replace(progress.clone());
            }
            None if terminal => {}
            None => self.enter(job, progress.clone()),
        }
        if terminal && self.jobs.remove(&job.id).is_some() {
            self.leave(&job.sharing.tenant);
        }
        if self.changes.len() == CHANGES_KEPT_MAX {
            self.changes.pop_front();
        }
        self.newest += 1;
        self.changes.push_back(Change {
            number: self.newest,
            job: Arc::clone(job),
            progress,
        });
        self.newest
    }

    fn enter(&mut self, job: &Arc<Job>, progress: JobProgress) {
        let entry = Entry {
            job: Arc::clone(job),
            progress: watch::Sender::new(progress),
        };
        self.jobs.insert(job.id, entry);
        *self
            .by_tenant
            .entry(job.sharing.tenant.clone())
            .or_default() += 1;
    }

    fn leave(&mut self, tenant: &TenantName) {
        if let Some(count) = self.by_tenant.get_mut(tenant) {
            *count -= 1;
            if *count == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use reel_domain::{
        BundleKey, Fps, Guidance, Mode, Prompt, Sampling, Seed, Shape, Sharing, Steps,
    };

    pub(crate) fn job(number: u8) -> Arc<Job> {
        Arc::new(Job {
            id: JobId::from_bytes([number; 16]),
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
        })
    }

    fn progress(sequence: u64, status: JobStatus) -> JobProgress {
        JobProgress {
            sequence,
            status,
            step: 10,
            ..JobProgress::accepted(&job(1))
        }
    }

    #[test]
    fn a_watcher_sees_the_terminal_progress_and_then_the_end() {
        let (board, job) = (JobBoard::new(100), job(1));
        board.publish(&job, progress(1, JobStatus::Queued));
        let (_, mut watcher) = board.watch(job.id).unwrap();
        board.publish(&job, progress(2, JobStatus::Completed));
        assert_eq!(watcher.borrow_and_update().status, JobStatus::Completed);
        assert!(watcher.has_changed().is_err(), "the channel is closed");
        assert!(board.watch(job.id).is_none());
    }

    #[test]
    fn the_living_of_a_tenant_are_counted() {
        let board = JobBoard::new(100);
        let tenant = job(1).sharing.tenant.clone();
        board.publish(&job(1), progress(1, JobStatus::Queued));
        board.publish(&job(2), progress(2, JobStatus::Queued));
        board.publish(&job(1), progress(3, JobStatus::InProgress));
        assert_eq!(board.living_of(&tenant), 2);
        board.publish(&job(1), progress(4, JobStatus::Failed));
        board.publish(&job(1), progress(5, JobStatus::Failed));
        assert_eq!(board.living_of(&tenant), 1);
    }

    #[test]
    fn who_was_away_gets_every_change_or_is_told_that_some_are_gone() {
        let board = JobBoard::new(100);
        let numbers = |after| {
            let changes = board.changes_after(after, 3)?;
            Ok(changes
                .iter()
                .map(|change| change.number)
                .collect::<Vec<_>>())
        };
        assert_eq!(numbers(100), Ok(vec![]));
        assert_eq!(numbers(7), Err(Missed { oldest: 101 }), "of an earlier run");
        assert_eq!(numbers(101), Err(Missed { oldest: 101 }), "of no run");
        for sequence in 1..=5 {
            board.publish(&job(1), progress(sequence, JobStatus::Queued));
        }
        assert_eq!(numbers(102), Ok(vec![103, 104, 105]));
        assert_eq!(numbers(100), Ok(vec![101, 102, 103]), "not more than asked");
        assert_eq!(numbers(105), Ok(vec![]));
        assert_eq!(numbers(99), Err(Missed { oldest: 101 }));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let board = JobBoard::new(100);
        let last = CHANGES_KEPT_MAX as u64 + 5;
        for sequence in 1..=last {
            board.publish(&job(1), progress(sequence, JobStatus::Queued));
        }
        assert_eq!(board.changes_after(105, 1).unwrap().len(), 1);
        assert_eq!(
            board.changes_after(104, 1).unwrap_err(),
            Missed { oldest: 106 }
        );
        assert_eq!(*board.newest().borrow(), 100 + last);
    }

    #[test]
    fn only_a_published_video_is_one_hundred_per_cent() {
        assert_eq!(progress(1, JobStatus::InProgress).percent(), 49);
        assert_eq!(progress(1, JobStatus::Encoding).percent(), 99);
        assert_eq!(progress(1, JobStatus::Completed).percent(), 100);
        assert_eq!(progress(1, JobStatus::Failed).percent(), 0);
    }
}
