//! The gateway's handle: one message in, one answer out, never a wait without a deadline.

use crate::board::JobBoard;
use crate::estimates::Estimates;
use crate::state::PoolState;
use reel_domain::{DeviceId, Idempotency, Job, JobId, Rejection, SlotId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that may wait for the supervisor's loop before new ones are shed.
pub const POOL_REQUESTS_MAX: usize = 1_024;
/// Longest wait for the supervisor to store and take a job.
pub const SUBMIT_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for a cancelled job to leave its device, after which the answer says so.
pub const CANCEL_DEADLINE: Duration = Duration::from_secs(30);

/// What the gateway may ask of the supervisor.
#[derive(Debug)]
pub enum PoolRequest {
    /// Take a job. Answered when it is durable.
    Submit {
        /// The job and its given frames.
        submission: Box<Submission>,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<(), Rejection>>,
    },
    /// Cancel a job. Answered when it is terminal and its device is free of it.
    Cancel {
        /// Which one.
        id: JobId,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<(), CancelError>>,
    },
    /// Forget a terminal job and remove its files. Answered when both are gone.
    Delete {
        /// Which one.
        id: JobId,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<(), DeleteError>>,
    },
    /// An operator's order. Answered when the scheduler has it.
    Order {
        /// What to do.
        order: PoolOrder,
        /// Where the answer goes.
        answer: oneshot::Sender<()>,
    },
}

/// What an operator may order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolOrder {
    /// Take no new work, finish what runs, end.
    Drain,
    /// Give a device no more work.
    Cordon(DeviceId),
    /// Use a device again.
    Uncordon(DeviceId),
    /// Replace the worker of a slot after what it has.
    Replace(SlotId),
    /// Replace every worker of a device, or of all, one after the other.
    Roll(Option<DeviceId>),
    /// Accept a quarantined request again: the number of its case.
    Release(u64),
}

/// A job and the pixels that it starts from.
#[derive(Debug)]
pub struct Submission {
    /// The job.
    pub job: Job,
    /// What makes it the same request as an earlier one.
    pub idempotency: Option<Idempotency>,
    /// `job.conditioning_frames` frames: RGB, 8 bit, `[frames, height, width, 3]`. Empty for t2v.
    pub given: Vec<u8>,
}

impl Submission {
    /// Of a request that has no key.
    #[must_use]
    pub const fn new(job: Job, given: Vec<u8>) -> Self {
        Self {
            job,
            idempotency: None,
            given,
        }
    }
}

/// Why a job was not cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// It is terminal already, or was never there.
    #[error("the job is not running")]
    NotRunning,
    /// It has not left its device in time; the cancellation stands and goes on.
    #[error("the job is still stopping")]
    StillStopping,
    /// The supervisor is gone or too busy.
    #[error("the pool is overloaded; try again later")]
    Overloaded,
}

/// Why a job was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// There is no such job.
    #[error("there is no such job")]
    Unknown,
    /// It is not terminal: cancel it first.
    #[error("the job is still running")]
    Running,
    /// Its files or its row could not be removed.
    #[error("the job could not be removed: {0}")]
    Storage(String),
    /// The supervisor is gone or too busy.
    #[error("the pool is overloaded; try again later")]
    Overloaded,
}

/// The way into the pool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PoolHandle {
    requests: mpsc::Sender<PoolRequest>,
    state: watch::Receiver<Arc<PoolState>>,
    board: Arc<JobBoard>,
    estimates: Arc<Estimates>,
}

impl PoolHandle {
    /// Joins the ends that the supervisor keeps the other sides of.
    #[must_use]
    pub const fn new(
        requests: mpsc::Sender<PoolRequest>,
        state: watch::Receiver<Arc<PoolState>>,
        board: Arc<JobBoard>,
        estimates: Arc<Estimates>,
    ) -> Self {
        Self {
            requests,
            state,
            board,
            estimates,
        }
    }

    /// The latest picture of the pool.
    #[must_use]
    pub fn state(&self) -> Arc<PoolState> {
        Arc::clone(&self.state.borrow())
    }

    /// Follows the picture of the pool.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<PoolState>> {
        self.state.clone()
    }

    /// The living jobs.
    #[must_use]
    pub fn board(&self) -> &JobBoard {
        &self.board
    }

    /// When jobs will be done.
    #[must_use]
    pub fn estimates(&self) -> &Estimates {
        &self.estimates
    }

    /// Hands a job to the pool; on `Ok` it is durable and will end in exactly one terminal status.
    ///
    /// # Errors
    /// See [`Rejection`]. [`Rejection::Overloaded`] when the loop does not take or answer it in time.
    pub async fn submit(&self, submission: Submission) -> Result<(), Rejection> {
        let (answer, answered) = oneshot::channel();
        let request = PoolRequest::Submit {
            submission: Box::new(submission),
            answer,
        };
        self.requests
            .try_send(request)
            .map_err(|_| Rejection::Overloaded)?;
        match tokio::time::timeout(SUBMIT_DEADLINE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Rejection::Overloaded),
        }
    }

    /// Cancels a job and waits until its device is free of it.
    ///
    /// # Errors
    /// See [`CancelError`].
    pub async fn cancel(&self, id: JobId) -> Result<(), CancelError> {
        let (answer, answered) = oneshot::channel();
        let request = PoolRequest::Cancel { id, answer };
        self.requests
            .try_send(request)
            .map_err(|_| CancelError::Overloaded)?;
        match tokio::time::timeout(CANCEL_DEADLINE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CancelError::Overloaded),
            Err(_) => Err(CancelError::StillStopping),
        }
    }

    /// Removes a terminal job, its video and its given frames.
    ///
    /// # Errors
    /// See [`DeleteError`].
    pub async fn delete(&self, id: JobId) -> Result<(), DeleteError> {
        let (answer, answered) = oneshot::channel();
        let request = PoolRequest::Delete { id, answer };
        self.requests
            .try_send(request)
            .map_err(|_| DeleteError::Overloaded)?;
        match tokio::time::timeout(SUBMIT_DEADLINE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(DeleteError::Overloaded),
        }
    }

    /// Hands an operator's order to the scheduler; `false`: the loop did not take it in time.
    pub async fn order(&self, order: PoolOrder) -> bool {
        let (answer, answered) = oneshot::channel();
        let request = PoolRequest::Order { order, answer };
        self.requests.try_send(request).is_ok()
            && matches!(
                tokio::time::timeout(SUBMIT_DEADLINE, answered).await,
                Ok(Ok(()))
            )
    }
}
