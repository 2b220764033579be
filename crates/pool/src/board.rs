//! One watch channel per living job. The supervisor writes; anybody reads, without asking the supervisor.

use reel_domain::{JobId, JobStatus};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How far a job is. Every change has a higher `sequence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProgress {
    /// Grows by one with every change of this job.
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
    pub device: Option<String>,
}

impl JobProgress {
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

/// The progress of every job that is not terminal yet.
#[derive(Debug, Default)]
pub struct JobBoard {
    jobs: Mutex<BTreeMap<JobId, watch::Sender<JobProgress>>>,
}

impl JobBoard {
    /// Makes a progress visible. Somebody who watches sees a terminal one before the job leaves the board.
    pub fn publish(&self, id: JobId, progress: JobProgress) {
        let mut jobs = self.lock();
        let terminal = progress.status.is_terminal();
        match jobs.get(&id) {
            Some(sender) => {
                sender.send_replace(progress);
            }
            None if terminal => {}
            None => {
                jobs.insert(id, watch::Sender::new(progress));
            }
        }
        if terminal {
            jobs.remove(&id);
        }
    }

    /// The latest progress of a job that is not terminal.
    #[must_use]
    pub fn progress(&self, id: JobId) -> Option<JobProgress> {
        self.lock().get(&id).map(|sender| sender.borrow().clone())
    }

    /// Follows a job that is not terminal. The channel closes after the terminal progress.
    #[must_use]
    pub fn watch(&self, id: JobId) -> Option<watch::Receiver<JobProgress>> {
        self.lock().get(&id).map(watch::Sender::subscribe)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, watch::Sender<JobProgress>>> {
        // Every critical section is a few map operations that leave the map whole.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(sequence: u64, status: JobStatus) -> JobProgress {
        JobProgress {
            sequence,
            status,
            attempt: 1,
            stage: None,
            step: 10,
            steps: 20,
            queue_position: None,
            device: None,
        }
    }

    #[test]
    fn a_watcher_sees_the_terminal_progress_and_then_the_end() {
        let board = JobBoard::default();
        let id = JobId::from_bytes([1; 16]);
        board.publish(id, progress(1, JobStatus::Queued));
        let mut watcher = board.watch(id).unwrap();
        board.publish(id, progress(2, JobStatus::Completed));
        assert_eq!(watcher.borrow_and_update().status, JobStatus::Completed);
        assert!(watcher.has_changed().is_err(), "the channel is closed");
        assert!(board.watch(id).is_none());
    }

    #[test]
    fn only_a_published_video_is_one_hundred_per_cent() {
        assert_eq!(progress(1, JobStatus::InProgress).percent(), 49);
        assert_eq!(progress(1, JobStatus::Encoding).percent(), 99);
        assert_eq!(progress(1, JobStatus::Completed).percent(), 100);
        assert_eq!(progress(1, JobStatus::Failed).percent(), 0);
    }
}
