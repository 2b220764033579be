//! What happened to workers and bundles, as data.

use reel_domain::{AttemptId, FaultClass, Mode};

/// Something a worker said or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// It could not be started at all.
    SpawnFailed,
    /// It is loaded and waits for work.
    Ready {
        /// Attempts that it can carry at once.
        batch_max: u32,
    },
    /// An attempt has begun on the device.
    Started {
        /// Which one.
        attempt: AttemptId,
    },
    /// An attempt moves: a step is done or a stage has changed.
    Progress {
        /// Which one.
        attempt: AttemptId,
    },
    /// An attempt's frames exist; the supervisor holds them.
    Finished {
        /// Which one.
        attempt: AttemptId,
    },
    /// A cancelled attempt has left the device.
    Cancelled {
        /// Which one.
        attempt: AttemptId,
    },
    /// An attempt failed; the worker lives.
    Failed {
        /// Which one.
        attempt: AttemptId,
        /// For the client.
        message: String,
    },
    /// It said or did something impossible, or said that it cannot go on.
    Broken {
        /// How.
        class: FaultClass,
    },
    /// Its process is gone.
    Exited(ExitReport),
}

/// How a process ended, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitReport {
    /// `status 1`, `signal 9 (SIGKILL)`.
    pub description: String,
}

/// What a bundle offers once it can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleOffer {
    /// The modes that it serves.
    pub modes: Vec<Mode>,
}
