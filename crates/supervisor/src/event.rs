//! Everything that can wake the loop. One look tells.

use crate::driver::Tuning;
use crate::encode::Prepared;
use reel_domain::{AttemptId, BundleKey, DeviceId, Failure, JobId, Mode, Rejection};
use reel_journal::{VideoMeta, WriteError};
use reel_pool::PoolRequest;
use reel_process::{Exit, ProcessEvent, SpawnerError, WorkerProcess};
use reel_protocol::Pixels;
use reel_scheduler::{Config, WorkerId};
use std::path::PathBuf;
use tokio::sync::oneshot;

/// Events that may wait for the loop; beyond that their senders wait.
pub(crate) const EVENTS_MAX: usize = 4_096;

/// What woke the loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// The gateway asks.
    Request(PoolRequest),
    /// The journal has stored a new job, or could not.
    Stored(JobId, Result<(), Rejection>),
    /// A bundle of the menu changed.
    Bundle(BundleKey, BundleNews),
    /// A process was started, or could not be.
    Spawned(WorkerId, Result<WorkerProcess, SpawnerError>),
    /// A process said or did something.
    Process(WorkerId, ProcessEvent),
    /// Nothing is left of a process, and its device's memory is free; or (`true`) that stays taken.
    Buried(WorkerId, Exit, bool),
    /// Memory that a worker which is gone held stayed taken, and is free now.
    Freed(WorkerId, DeviceId),
    /// Somebody looked how much memory a worker holds beside what it shares, in bytes.
    Measured(WorkerId, u64),
    /// An attempt's given frames were read.
    Given(WorkerId, AttemptId, Result<Pixels, String>),
    /// An encoder waits for an attempt's frames; `None`: it could not be started, which the encoding will say.
    Prepared(AttemptId, Option<Prepared>),
    /// An attempt's video is published, or could not be made.
    Encoded(AttemptId, Result<VideoMeta, Failure>),
    /// A job's row is terminal, or could not be made so.
    Ended(JobId, Result<(), WriteError>),
    /// The end of a job is to be stored again.
    StoreEnding(JobId),
    /// The operator has changed the bounds.
    Tune(Box<(Config, Tuning)>),
    /// Somebody wants to know whether the loop goes round.
    AreYouThere(oneshot::Sender<()>),
    /// The operator wants the process to end: the first time in peace, then at once.
    Shutdown,
    /// A deadline of the scheduler or of the shutdown is reached.
    Timeout,
}

/// How a bundle of the menu stands, as whoever bakes it knows.
#[derive(Debug, Clone, PartialEq)]
pub enum BundleNews {
    /// It waits for its turn.
    Unbaked,
    /// It is being baked.
    Baking {
        /// The share that is done, 0 to 100.
        percent: u8,
    },
    /// It could not be baked.
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// It can serve.
    Baked(BakedBundle),
}

/// A bundle that can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BakedBundle {
    /// Its content address; a worker must claim the same one.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// The modes that it serves.
    pub modes: Vec<Mode>,
    /// Frames that its mode `extend` goes on from.
    pub extend_frames: Option<u32>,
    /// Size of its weights, in bytes; each file once.
    pub weights_bytes: u64,
}
