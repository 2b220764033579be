//! Everything that can happen to the pool, as data. A recorded stream of inputs replays decision for decision.

use crate::command::WorkerId;
use crate::config::Config;
use crate::watchdog::Mark;
use crate::work::{RequestDigest, Work};
use reel_domain::{AttemptId, BootPhase, BundleKey, DeviceId, Failure, Fault, JobId, Mode, SlotId};

/// One thing that happened. [`Scheduler::handle`](crate::Scheduler::handle) takes it together with its time.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A client wants a video. Answered by [`Command::Refuse`](crate::Command::Refuse), or by
    /// [`Command::Store`](crate::Command::Store): then the job is held until it is stored.
    Submit(Work),
    /// The journal has stored a held job, or could not.
    Stored {
        /// Which job.
        id: JobId,
        /// It will survive a restart.
        durable: bool,
    },
    /// An earlier run of the supervisor accepted this job and began so many attempts.
    Restore {
        /// The job.
        work: Work,
        /// Attempts begun then.
        attempts: u32,
    },
    /// A client does not want its video any more.
    Cancel {
        /// Which job.
        id: JobId,
    },
    /// A bundle of the menu can be served, cannot be served yet, or never will be.
    Bundle {
        /// Which one.
        key: BundleKey,
        /// How it stands.
        standing: BundleStanding,
    },
    /// A worker said or did something.
    Worker {
        /// Which one.
        worker: WorkerId,
        /// What.
        event: WorkerEvent,
    },
    /// The video of an attempt is published, or could not be made.
    Encoded {
        /// Which attempt.
        attempt: AttemptId,
        /// Why not.
        result: Result<(), Failure>,
    },
    /// The time that [`Scheduler::poll_timeout`](crate::Scheduler::poll_timeout) named has come.
    Timeout,
    /// Memory of a device that a worker which is gone had held is free.
    Freed {
        /// Whose.
        worker: WorkerId,
        /// Where.
        device: DeviceId,
    },
    /// An operator wants something.
    Order(Order),
    /// An operator has changed the bounds. What the machine was built with stays as it is:
    /// [`Config::keeping_the_frame_of`].
    Configure(Box<Config>),
}

/// Sizes of batches that step times are kept for.
pub const BATCH_SIZES: usize = 16;

/// How a bundle stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleStanding {
    /// It is not baked yet.
    Unbaked,
    /// It can be served.
    Offered(BundleOffer),
    /// It could not be baked.
    Failed,
}

/// What a bundle offers, and what was learned about it in earlier runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleOffer {
    /// The modes that it serves.
    pub modes: Vec<Mode>,
    /// What earlier runs measured; zeros where nothing is known.
    pub profile: Profile,
}

/// What a bundle costs. Zero means: not measured yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profile {
    /// From spawn to READY, in microseconds.
    pub spawn_us: u64,
    /// From `Started` to `Finished` of an attempt, in microseconds.
    pub service_us: u64,
    /// Memory of the weights, in bytes; shared by the workers of a model on a device.
    pub weights_bytes: u64,
    /// Memory of one worker beside the weights, in bytes.
    pub private_bytes: u64,
    /// One step of a batch, in microseconds, by its size from 1.
    pub step_us: [u64; BATCH_SIZES],
}

/// Something a worker said or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// It could not be started at all.
    SpawnFailed,
    /// Its start has come to another phase.
    Booting {
        /// Which one.
        phase: BootPhase,
    },
    /// It is loaded and waits for work.
    Ready {
        /// What its engine can do.
        engine: EngineFacts,
    },
    /// Somebody looked how much memory it holds.
    Measured {
        /// The most that was seen, beside weights that it shares, in bytes.
        private_bytes: u64,
    },
    /// An attempt has begun on the device.
    Started {
        /// Which one.
        attempt: AttemptId,
    },
    /// An attempt moves.
    Progress {
        /// Which one.
        attempt: AttemptId,
        /// Where it is.
        mark: Mark,
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
        fault: Fault,
    },
    /// It answered a ping.
    Answered,
    /// Its process has ended. What it held is not free yet.
    Died,
    /// Nothing of it is left.
    Exited(ExitReport),
}

/// What an engine can do, as its `Hello` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineFacts {
    /// Attempts that it can carry at once.
    pub batch_max: u32,
    /// Attempts may join and leave at step boundaries. Otherwise a batch is formed before it begins.
    pub continuous: bool,
    /// Attempts can wait at a step boundary, with their latents kept.
    pub pausable: bool,
}

/// How a process ended, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitReport {
    /// `status 1`, `signal 9 (SIGKILL)`.
    pub description: String,
    /// Its memory on the device is still taken: nobody can be started there.
    pub memory_held: bool,
}

/// What an operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Take no new work, finish what runs, stop every worker. What waits stays in the journal.
    Drain,
    /// End every worker by force. Its jobs stay unfinished in the journal.
    Halt,
    /// Give a device no more work: its workers finish and stop.
    Cordon(DeviceId),
    /// Use a device again.
    Uncordon(DeviceId),
    /// Replace the worker of a slot by a new one of the same bundle, after what it has.
    Replace(SlotId),
    /// Replace every worker of a device, or of all (`None`), one after the other: the next one when the one before is
    /// ready again. Ends where one does not come back.
    Roll(Option<DeviceId>),
    /// Accept a quarantined request again.
    Release(RequestDigest),
}
