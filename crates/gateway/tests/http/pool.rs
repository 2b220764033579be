//! A pool without workers: it stores what it is given, and ends jobs when a test says so.

use reel_artifacts::Store;
use reel_domain::{Durations, Failure, FailureCode, Job, JobId, JobStatus, Outcome, Rejection};
use reel_journal::{Ending, Journal, VideoMeta, WriteError};
use reel_pool::{
    CancelError, DeleteError, JobBoard, JobProgress, PoolOrder, PoolRequest, Submission,
};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, mpsc, oneshot};

/// What the pool does and what it saw.
pub(crate) struct TestPool {
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    pub(crate) board: Arc<JobBoard>,
    /// The next submission gets this answer.
    pub(crate) rejection: Mutex<Option<Rejection>>,
    /// The next cancellation gets this answer.
    pub(crate) cancel_error: Mutex<Option<CancelError>>,
    pub(crate) submissions: Mutex<Vec<Submission>>,
    pub(crate) cancelled: Mutex<Vec<JobId>>,
    /// The next deletion gets this answer.
    pub(crate) delete_error: Mutex<Option<DeleteError>>,
    pub(crate) orders: Mutex<Vec<PoolOrder>>,
    /// Ends the pool.
    pub(crate) stop: Notify,
    /// Told when it has ended.
    pub(crate) stopped: Notify,
}

impl TestPool {
    pub(crate) async fn run(self: Arc<Self>, mut requests: mpsc::Receiver<PoolRequest>) {
        while let Some(request) = tokio::select! {
            request = requests.recv() => request,
            () = self.stop.notified() => None,
        } {
            // Nobody has to wait for an answer.
            let _ = match request {
                PoolRequest::Submit { submission, answer } => {
                    answer.send(self.submit(*submission).await).is_ok()
                }
                PoolRequest::Cancel { id, answer } => answer.send(self.cancel(id).await).is_ok(),
                PoolRequest::Delete { id, answer } => answer.send(self.delete(id).await).is_ok(),
                PoolRequest::Order { order, answer } => {
                    self.orders.lock().unwrap().push(order);
                    answer.send(()).is_ok()
                }
            };
        }
        drop(requests);
        self.stopped.notify_one();
    }

    async fn submit(&self, submission: Submission) -> Result<(), Rejection> {
        if let Some(rejection) = self.rejection.lock().unwrap().take() {
            return Err(rejection);
        }
        let job = &submission.job;
        let inserted = written(|done| match submission.idempotency.clone() {
            Some(idempotency) => self.journal.insert_once(job, idempotency, done),
            None => self.journal.insert(job, done),
        });
        if let Err(WriteError::Repeated { id, same }) = inserted.await {
            return Err(Rejection::Repeated { id, same });
        }
        if !submission.given.is_empty() {
            self.store.put_given(job.id, &submission.given).unwrap();
        }
        self.show(&Arc::new(job.clone()), progress(JobStatus::Queued, 0));
        self.submissions.lock().unwrap().push(submission);
        Ok(())
    }

    async fn cancel(&self, id: JobId) -> Result<(), CancelError> {
        if let Some(error) = self.cancel_error.lock().unwrap().take() {
            return Err(error);
        }
        if self.board.get(id).is_none() {
            return Err(CancelError::NotRunning);
        }
        self.cancelled.lock().unwrap().push(id);
        self.end(id, Outcome::Cancelled, None).await;
        Ok(())
    }

    async fn delete(&self, id: JobId) -> Result<(), DeleteError> {
        if let Some(error) = self.delete_error.lock().unwrap().take() {
            return Err(error);
        }
        self.store.remove(id).unwrap();
        match written(|done| self.journal.delete(id, done)).await {
            Err(WriteError::Unknown(_)) => Err(DeleteError::Unknown),
            other => {
                other.unwrap();
                Ok(())
            }
        }
    }

    pub(crate) fn show(&self, job: &Arc<Job>, progress: JobProgress) {
        self.board.publish(job, progress);
    }

    /// Shows a change of a job that is not over.
    pub(crate) fn change(&self, id: JobId, progress: JobProgress) {
        let (job, before) = self.board.get(id).unwrap();
        let sequence = before.sequence + 1;
        self.show(
            &job,
            JobProgress {
                sequence,
                ..progress
            },
        );
    }

    pub(crate) async fn complete(&self, id: JobId, bytes: &[u8]) {
        let staging = self.store.stage(id, 1).unwrap();
        std::fs::write(staging.path(), bytes).unwrap();
        let published = self.store.publish(staging).unwrap();
        let video = VideoMeta {
            bytes: published.bytes,
            sha256: published.sha256,
        };
        self.end(id, Outcome::Completed, Some(video)).await;
    }

    /// The time of a completed job's video is up.
    pub(crate) async fn expire(&self, id: JobId) {
        written(|done| self.journal.expire(id, done)).await.unwrap();
        self.store.remove(id).unwrap();
    }

    pub(crate) async fn fail(&self, id: JobId) {
        let failure = Failure {
            code: FailureCode::WorkerLost,
            message: "workers died under it".into(),
        };
        self.end(id, Outcome::Failed(failure), None).await;
    }

    async fn end(&self, id: JobId, outcome: Outcome, video: Option<VideoMeta>) {
        let status = outcome.status();
        let ending = Ending {
            outcome,
            finished_at_ms: 1_800_000_000_999,
            video,
            expires_at_ms: Some(1_800_000_500_000),
            sequence: 1_000,
            device: Some("cpu:0".into()),
            durations: Durations {
                denoise_ms: 1_500,
                ..Durations::default()
            },
        };
        written(|done| self.journal.finish(id, 1, ending, done))
            .await
            .unwrap();
        if let Some((job, _)) = self.board.get(id) {
            let sequence = 1_000;
            self.show(
                &job,
                JobProgress {
                    sequence,
                    ..progress(status, 0)
                },
            );
        }
    }
}

pub(crate) fn progress(status: JobStatus, step: u32) -> JobProgress {
    JobProgress {
        sequence: 1,
        status,
        attempt: 1,
        stage: (status == JobStatus::InProgress).then_some("denoise"),
        step,
        steps: 20,
        queue_position: (status == JobStatus::Queued).then_some(2),
        device: (status == JobStatus::InProgress).then(|| "cpu:0".into()),
        durations: Durations::default(),
    }
}

type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

async fn written(write: impl FnOnce(Done)) -> Result<(), WriteError> {
    let (sender, receiver) = oneshot::channel();
    write(Box::new(move |result| drop(sender.send(result))));
    receiver.await.unwrap()
}
