//! Why work was not accepted. The `Display` text is what the client reads.

use crate::ids::JobId;
use crate::mode::Mode;
use crate::model::BundleKey;

/// A job that the pool does not take.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejection {
    /// No more work fits.
    #[error("the queue is full ({limit} jobs); try again in {retry_after_s} s")]
    QueueFull {
        /// The limit that was reached.
        limit: usize,
        /// When a new job would probably begin, in seconds.
        retry_after_s: u64,
    },
    /// No more work of this tenant fits.
    #[error(
        "you have {limit} unfinished jobs, and more are not taken; try again in {retry_after_s} s"
    )]
    TenantQueueFull {
        /// The limit that was reached.
        limit: usize,
        /// When a new job would probably begin, in seconds.
        retry_after_s: u64,
    },
    /// Workers died under this very request.
    #[error(
        "workers died while generating this very request, so it is not tried again ({case}); an operator can release it"
    )]
    Quarantined {
        /// The name under which an operator finds it.
        case: String,
    },
    /// No device has the memory for it.
    #[error(
        "{bundle} needs {needs_bytes} bytes of device memory, and the largest device has {device_bytes}"
    )]
    DoesNotFit {
        /// The bundle asked for.
        bundle: BundleKey,
        /// What one worker of it needs, with the reserve.
        needs_bytes: u64,
        /// What the largest device has.
        device_bytes: u64,
    },
    /// The shape is on no menu.
    #[error("{0} is not on the menu")]
    BundleUnknown(BundleKey),
    /// The shape is on the menu but its bundle is not baked (yet).
    #[error("{0} cannot be served yet: its bundle is still being baked")]
    BundleNotReady(BundleKey),
    /// The bundle could not be baked.
    #[error("{0} cannot be served: its bundle could not be baked; the server's log says why")]
    BundleFailed(BundleKey),
    /// The bundle is baked, but its workers fail to start.
    #[error("{0} cannot be served now: its workers fail to start; try again later")]
    BundleResting(BundleKey),
    /// The model has no such mode.
    #[error("{bundle} does not serve mode {mode}")]
    ModeUnsupported {
        /// The bundle asked for.
        bundle: BundleKey,
        /// The mode it lacks.
        mode: Mode,
    },
    /// The server is about to stop.
    #[error("the server is draining and takes no new work")]
    Draining,
    /// The supervisor did not answer in time.
    #[error("the pool is overloaded; try again later")]
    Overloaded,
    /// The journal could not store the job.
    #[error("the job could not be stored: the server's disk does not take it; try again later")]
    NotDurable,
    /// The key of this request already stands for a job.
    #[error("this idempotency key was already used, for {id}")]
    Repeated {
        /// That job.
        id: JobId,
        /// It was asked for by the same request.
        same: bool,
    },
    /// The video that it goes on with is not there any more.
    #[error("the video of {id} is gone: there is nothing to go on with")]
    SourceGone {
        /// Whose video.
        id: JobId,
    },
    /// The server's disk is all but full.
    #[error(
        "the server's disk is full: no new work is taken until there is space; finished videos can be downloaded and deleted"
    )]
    StorageFull,
}

impl Rejection {
    /// The name in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::QueueFull { .. } => "queue_full",
            Self::TenantQueueFull { .. } => "tenant_queue_full",
            Self::Quarantined { .. } => "quarantined",
            Self::DoesNotFit { .. } => "does_not_fit",
            Self::BundleUnknown(_) => "bundle_unknown",
            Self::BundleNotReady(_) => "bundle_not_ready",
            Self::BundleFailed(_) => "bundle_failed",
            Self::BundleResting(_) => "bundle_resting",
            Self::ModeUnsupported { .. } => "mode_unsupported",
            Self::Draining => "draining",
            Self::Overloaded => "overloaded",
            Self::NotDurable => "not_durable",
            Self::Repeated { .. } => "repeated",
            Self::SourceGone { .. } => "source_gone",
            Self::StorageFull => "storage_full",
        }
    }
}
