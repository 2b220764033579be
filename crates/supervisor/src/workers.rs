//! The processes in the slots, and what their messages mean to the scheduler.

use reel_domain::{AttemptId, BundleKey, FaultClass, JobId, SlotId};
use reel_process::WorkerProcess;
use reel_protocol::{
    Attempt, Capabilities, FailureClass, FromWorker, MemoryUse, Pixels, Stage, Timings, VERSION,
};
use reel_scheduler::{EngineFacts, WorkerEvent, WorkerId};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

/// A worker, from the decision to spawn it to its end.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) slot: SlotId,
    pub(crate) bundle: BundleKey,
    /// The bundle that it must claim.
    pub(crate) bundle_id: String,
    /// Size of the weights that it maps, in bytes.
    pub(crate) weights_bytes: u64,
    pub(crate) spawned: Instant,
    /// Its private temporary directory, removed after its end.
    pub(crate) scratch: PathBuf,
    pub(crate) process: Process,
    pub(crate) capabilities: Option<Capabilities>,
}

/// The process, or what must happen to it as soon as it exists.
#[derive(Debug)]
pub(crate) enum Process {
    Spawning { wanted: Wanted },
    Running(WorkerProcess),
}

/// What was decided about a process that does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Alive,
    Stopped,
    Killed,
}

/// What a message means.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// Nothing to anybody else.
    Nothing,
    /// An event for the scheduler.
    Event(WorkerEvent),
    /// It is READY.
    Ready {
        engine: EngineFacts,
        memory: MemoryUse,
        boot_us: u64,
    },
    /// A step of an attempt.
    Step {
        attempt: AttemptId,
        stage: Stage,
        step: u32,
        of: u32,
    },
    /// Frames of an attempt.
    Frames {
        attempt: AttemptId,
        pixels: Pixels,
        timings: Timings,
        memory: MemoryUse,
    },
    /// It broke, or broke the rules; the reason, for the operator.
    Broken { class: FaultClass, reason: String },
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    by_id: BTreeMap<WorkerId, Worker>,
}

impl Workers {
    pub(crate) fn insert(&mut self, id: WorkerId, worker: Worker) {
        self.by_id.insert(id, worker);
    }

    pub(crate) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        self.by_id.remove(&id)
    }

    pub(crate) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}

impl Worker {
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::Spawning { .. } => None,
            Process::Running(process) => Some(process.pid()),
        }
    }

    /// Reads a message in the light of what came before. Whatever a worker says is checked here.
    pub(crate) fn interpret(&mut self, message: FromWorker, fd: Option<OwnedFd>) -> Meaning {
        match message {
            FromWorker::Hello {
                protocol,
                capabilities,
                ..
            } => self.hello(protocol, capabilities),
            FromWorker::Ready {
                bundle_id,
                memory,
                boot_us,
                ..
            } => self.ready(&bundle_id, memory, boot_us),
            FromWorker::Started { attempt } => Meaning::Event(WorkerEvent::Started {
                attempt: known(attempt),
            }),
            FromWorker::Step {
                attempt,
                stage,
                step,
                of,
            } => Meaning::Step {
                attempt: known(attempt),
                stage,
                step,
                of,
            },
            FromWorker::Finished {
                attempt,
                timings,
                memory,
            } => self.frames(attempt, fd, timings, memory),
            FromWorker::Cancelled { attempt } => Meaning::Event(WorkerEvent::Cancelled {
                attempt: known(attempt),
            }),
            FromWorker::Failed {
                attempt,
                class: FailureClass::Soft,
                message,
            } => Meaning::Event(WorkerEvent::Failed {
                attempt: known(attempt),
                message,
            }),
            FromWorker::Failed { class, message, .. } | FromWorker::Fatal { class, message } => {
                Meaning::Broken {
                    class: fault(class),
                    reason: message,
                }
            }
            FromWorker::Pong { .. } => desync("a pong that nobody asked for"),
        }
    }

    fn hello(&mut self, protocol: u32, capabilities: Capabilities) -> Meaning {
        if protocol != VERSION {
            let reason = format!(
                "it speaks protocol {protocol}, this supervisor {VERSION}: install matching builds"
            );
            return Meaning::Broken {
                class: FaultClass::BootFailed,
                reason,
            };
        }
        if self.capabilities.replace(capabilities).is_some() {
            return desync("a second hello");
        }
        Meaning::Nothing
    }

    fn ready(&self, bundle_id: &str, memory: MemoryUse, boot_us: u64) -> Meaning {
        let Some(capabilities) = &self.capabilities else {
            return desync("ready before hello");
        };
        if bundle_id != self.bundle_id {
            return desync(&format!(
                "it loaded bundle {bundle_id:?} instead of {}",
                self.bundle_id
            ));
        }
        let engine = EngineFacts {
            batch_max: capabilities.max_batch,
            continuous: capabilities.continuous,
            pausable: capabilities.pausable,
        };
        Meaning::Ready {
            engine,
            memory,
            boot_us,
        }
    }

    fn frames(
        &self,
        attempt: Attempt,
        fd: Option<OwnedFd>,
        timings: Timings,
        memory: MemoryUse,
    ) -> Meaning {
        let Some(fd) = fd else {
            return desync("finished without frames");
        };
        match Pixels::accept(fd, self.bundle.shape.video_bytes()) {
            Ok(pixels) => Meaning::Frames {
                attempt: known(attempt),
                pixels,
                timings,
                memory,
            },
            Err(error) => desync(&format!("frames: {error}")),
        }
    }
}

fn desync(reason: &str) -> Meaning {
    Meaning::Broken {
        class: FaultClass::Desync,
        reason: reason.into(),
    }
}

const fn fault(class: FailureClass) -> FaultClass {
    match class {
        FailureClass::Soft => FaultClass::Soft,
        FailureClass::Oom => FaultClass::Oom,
        FailureClass::DeviceFatal => FaultClass::DeviceFatal,
        FailureClass::Boot => FaultClass::BootFailed,
    }
}

/// An attempt as the scheduler names it.
pub(crate) const fn known(attempt: Attempt) -> AttemptId {
    AttemptId {
        job: JobId::from_bytes(attempt.job),
        number: attempt.number,
    }
}

/// An attempt as the protocol names it.
pub(crate) const fn spoken(attempt: AttemptId) -> Attempt {
    Attempt {
        job: *attempt.job.as_bytes(),
        number: attempt.number,
    }
}
