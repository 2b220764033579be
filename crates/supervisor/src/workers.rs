//! The processes in the slots, and what their messages mean to the scheduler.

use reel_domain::{
    AttemptId, BootFailure, BootPhase, Breach, BundleKey, Fault, JobId, SlotId, Stage,
};
use reel_process::WorkerProcess;
use reel_protocol::{
    Attempt, Capabilities, Checkpoint, FailureClass, FromWorker, MemoryUse, OutputKind, Pixels,
    Timings, VERSION, Video,
};
use reel_scheduler::{EngineFacts, Mark, WorkerEvent, WorkerId};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A checkpoint of this size is never too large, however small the video.
const CHECKPOINT_BYTES_MIN: u64 = 1 << 20;
/// Most steps that a stage other than denoising may claim to have.
const STAGE_STEPS_MAX: u32 = 100_000;

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
    /// When it was READY.
    pub(crate) ready_at: Option<Instant>,
    /// Its private temporary directory, removed after its end.
    pub(crate) scratch: PathBuf,
    pub(crate) process: Process,
    pub(crate) conversation: Conversation,
    /// The first thing that went wrong with it, and the words for it.
    pub(crate) fault: Option<(Fault, String)>,
    /// What it had when it was killed, or died.
    pub(crate) lost: Vec<AttemptId>,
    /// It was killed, and does not end.
    pub(crate) abandoned: bool,
}

/// What was said so far; what may be said next follows from it.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// How far its start is.
    pub(crate) phase: BootPhase,
    capabilities: Option<Capabilities>,
    /// It has said READY.
    ready: bool,
    /// The attempts that it was given and has not ended.
    given: BTreeMap<AttemptId, GivenAttempt>,
    /// Pings that it has not answered.
    pings: u32,
}

/// What was said of an attempt, by whom.
#[derive(Debug, Clone, Copy, Default)]
struct GivenAttempt {
    /// It was to go on from a checkpoint.
    resumes: bool,
    /// The last that it was asked about it.
    asked: Asked,
    /// It has begun it.
    begun: bool,
    /// It has said where it keeps its state.
    keeps: bool,
    /// Where it is.
    mark: Option<Mark>,
}

/// What a worker was asked about an attempt that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Asked {
    #[default]
    Nothing,
    Paused,
    Cancelled,
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
    /// An event for the scheduler.
    Event(WorkerEvent),
    /// It is READY.
    Ready {
        engine: EngineFacts,
        memory: MemoryUse,
        boot_us: u64,
    },
    /// A step of an attempt.
    Step { attempt: AttemptId, mark: Mark },
    /// Where the state of an attempt is kept.
    Checkpoint {
        attempt: AttemptId,
        checkpoint: Checkpoint,
    },
    /// An attempt cannot go on from the checkpoint that it was given.
    NotResumed { attempt: AttemptId, reason: String },
    /// What an attempt made.
    Output {
        attempt: AttemptId,
        output: Output,
        timings: Timings,
        memory: MemoryUse,
    },
    /// It broke, or broke the rules; the reason, for the operator.
    Broken { fault: Fault, reason: String },
}

/// What an attempt made, checked.
#[derive(Debug)]
pub(crate) enum Output {
    /// Frames, to be encoded.
    Frames(Pixels),
    /// A video, to be published as it is.
    Video(Video),
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

    /// Those that somebody still waits for.
    pub(crate) fn awaited(&self) -> usize {
        let workers = self.by_id.values();
        workers.filter(|worker| !worker.abandoned).count()
    }
}

impl Worker {
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::Spawning { .. } => None,
            Process::Running(process) => Some(process.pid()),
        }
    }

    /// How much of its start lies after a moment.
    pub(crate) fn start_after(&self, moment: Instant) -> Duration {
        let ready_at = self.ready_at.unwrap_or(self.spawned);
        ready_at.saturating_duration_since(self.spawned.max(moment))
    }

    /// Notes the first thing that goes wrong; what follows from it is not another fault.
    pub(crate) fn blame(&mut self, fault: Fault, reason: impl Into<String>) {
        self.fault.get_or_insert_with(|| (fault, reason.into()));
    }

    /// Reads a message in the light of what came before. Whatever a worker says is checked here, but for what only
    /// the attempt's job knows.
    pub(crate) fn interpret(&mut self, message: FromWorker, fd: Option<OwnedFd>) -> Meaning {
        match message {
            FromWorker::Hello { protocol, .. } => self.conversation.hello(protocol),
            FromWorker::Loaded { capabilities } => self.conversation.loaded(capabilities),
            FromWorker::Ready {
                bundle_id,
                memory,
                boot_us,
                ..
            } => self.ready(&bundle_id, memory, boot_us),
            FromWorker::Started { attempt } => Meaning::Event(WorkerEvent::Started {
                attempt: known(attempt),
            }),
            FromWorker::Checkpoint { attempt } => {
                checkpoint(known(attempt), fd, self.bundle.shape.video_bytes())
            }
            FromWorker::Step {
                attempt,
                stage,
                step,
                of,
            } => Meaning::Step {
                attempt: known(attempt),
                mark: Mark {
                    stage: part(stage),
                    step,
                    of,
                },
            },
            FromWorker::Finished {
                attempt,
                output,
                timings,
                memory,
            } => self.output((attempt, output), fd, timings, memory),
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
            FromWorker::Failed {
                attempt,
                class: FailureClass::Checkpoint,
                message,
            } => Meaning::NotResumed {
                attempt: known(attempt),
                reason: message,
            },
            FromWorker::Failed { class, message, .. } | FromWorker::Fatal { class, message } => {
                Meaning::Broken {
                    fault: self.conversation.fault(class),
                    reason: message,
                }
            }
            FromWorker::Pong { .. } => self.conversation.pong(),
        }
    }

    fn ready(&self, bundle_id: &str, memory: MemoryUse, boot_us: u64) -> Meaning {
        let Some(capabilities) = &self.conversation.capabilities else {
            return desync("ready before it has loaded anything");
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

    fn output(
        &self,
        (attempt, kind): (Attempt, OutputKind),
        fd: Option<OwnedFd>,
        timings: Timings,
        memory: MemoryUse,
    ) -> Meaning {
        let Some(fd) = fd else {
            return desync("finished without an output");
        };
        let output = match kind {
            OutputKind::Frames => Pixels::accept(fd, self.bundle.shape.video_bytes())
                .map(Output::Frames)
                .map_err(|error| format!("frames: {error}")),
            OutputKind::Video if !self.conversation.makes_videos() => {
                Err("a video from an engine that said it makes frames".into())
            }
            OutputKind::Video => Video::accept(fd)
                .map(Output::Video)
                .map_err(|error| format!("video: {error}")),
        };
        match output {
            Ok(output) => Meaning::Output {
                attempt: known(attempt),
                output,
                timings,
                memory,
            },
            Err(reason) => desync(&reason),
        }
    }
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            phase: BootPhase::Exec,
            capabilities: None,
            ready: false,
            given: BTreeMap::new(),
            pings: 0,
        }
    }
}

impl Conversation {
    fn hello(&mut self, protocol: u32) -> Meaning {
        if protocol != VERSION {
            let reason = format!(
                "it speaks protocol {protocol}, this supervisor {VERSION}: install matching builds"
            );
            return Meaning::Broken {
                fault: self.refusal(),
                reason,
            };
        }
        match self.phase {
            BootPhase::Exec => self.reach(BootPhase::Load),
            BootPhase::Load | BootPhase::Canary => desync("a second hello"),
        }
    }

    fn loaded(&mut self, capabilities: Capabilities) -> Meaning {
        match self.phase {
            BootPhase::Load => {
                self.capabilities = Some(capabilities);
                self.reach(BootPhase::Canary)
            }
            BootPhase::Exec => desync("loaded before hello"),
            BootPhase::Canary => desync("loaded a second time"),
        }
    }

    fn reach(&mut self, phase: BootPhase) -> Meaning {
        self.phase = phase;
        Meaning::Event(WorkerEvent::Booting { phase })
    }

    /// It has said that its outputs are videos.
    pub(crate) fn makes_videos(&self) -> bool {
        let capabilities = self.capabilities.as_ref();
        capabilities.is_some_and(|capabilities| capabilities.videos)
    }

    pub(crate) const fn pinged(&mut self) {
        self.pings += 1;
    }

    fn pong(&mut self) -> Meaning {
        match self.pings.checked_sub(1) {
            Some(left) => {
                self.pings = left;
                Meaning::Event(WorkerEvent::Answered)
            }
            None => desync("a pong that nobody asked for"),
        }
    }

    /// The start failed in the phase that it is in.
    const fn refusal(&self) -> Fault {
        Fault::BootFailed {
            phase: self.phase,
            how: BootFailure::Refusal,
        }
    }

    const fn fault(&self, class: FailureClass) -> Fault {
        match class {
            FailureClass::Soft => Fault::Soft,
            FailureClass::Oom => Fault::Oom,
            FailureClass::DeviceFatal => Fault::DeviceFatal,
            FailureClass::Boot | FailureClass::Checkpoint => self.refusal(),
        }
    }

    /// It says READY; `false`: not for the first time.
    pub(crate) const fn says_ready(&mut self) -> bool {
        !std::mem::replace(&mut self.ready, true)
    }

    // --- attempts that this worker has: what may follow what ---

    /// It is given an attempt.
    pub(crate) fn gives(&mut self, attempt: AttemptId, resumes: bool) {
        let given = GivenAttempt {
            resumes,
            ..GivenAttempt::default()
        };
        self.given.insert(attempt, given);
    }

    /// It is asked something about an attempt.
    pub(crate) fn asks(&mut self, attempt: AttemptId, asked: Asked) {
        if let Some(given) = self.given.get_mut(&attempt)
            && given.asked != Asked::Cancelled
        {
            given.asked = asked;
        }
    }

    /// What it was asked last about an attempt.
    pub(crate) fn asked(&self, attempt: AttemptId) -> Asked {
        self.given
            .get(&attempt)
            .map_or(Asked::Nothing, |given| given.asked)
    }

    /// It says that it has begun an attempt.
    pub(crate) fn begins(&mut self, attempt: AttemptId) -> Result<(), String> {
        match self.given.get_mut(&attempt) {
            Some(given) if !given.begun => {
                given.begun = true;
                Ok(())
            }
            _ => Err("an attempt that it has begun already".into()),
        }
    }

    fn begun(&mut self, attempt: AttemptId, what: &str) -> Result<&mut GivenAttempt, String> {
        let given = self.given.get_mut(&attempt).filter(|given| given.begun);
        given.ok_or_else(|| format!("{what} of an attempt that it has not begun"))
    }

    /// It says where it keeps an attempt's state.
    pub(crate) fn keeps(&mut self, attempt: AttemptId) -> Result<(), String> {
        let given = self.begun(attempt, "a checkpoint")?;
        match std::mem::replace(&mut given.keeps, true) {
            false => Ok(()),
            true => Err("a second checkpoint of an attempt".into()),
        }
    }

    /// It says that it cannot go on from the checkpoint that it was given.
    pub(crate) fn does_not_resume(&mut self, attempt: AttemptId) -> Result<(), String> {
        let given = self.begun(attempt, "a checkpoint")?;
        match given.resumes {
            true => Ok(()),
            false => Err("it was given no checkpoint".into()),
        }
    }

    /// It says that an attempt of so many denoising steps has come to this mark.
    pub(crate) fn marks(
        &mut self,
        attempt: AttemptId,
        mark: Mark,
        steps: u32,
    ) -> Result<(), String> {
        let given = self.begun(attempt, "a step")?;
        let of_max = match mark.stage {
            Stage::Denoise => steps,
            Stage::Encode | Stage::Decode => STAGE_STEPS_MAX,
        };
        let whole = mark.stage != Stage::Denoise || mark.of == steps;
        if mark.step > mark.of || mark.of > of_max || !whole {
            return Err(format!(
                "{} step {} of {}, of {steps}",
                mark.stage, mark.step, mark.of
            ));
        }
        let place = |mark: Mark| (mark.stage, mark.step);
        if given.mark.is_some_and(|last| place(last) >= place(mark)) {
            return Err(format!("{} step {} once more", mark.stage, mark.step));
        }
        given.mark = Some(mark);
        Ok(())
    }

    /// It says that it is through with an attempt.
    pub(crate) fn ends(&mut self, attempt: AttemptId) -> Result<(), String> {
        self.begun(attempt, "the end")?;
        self.lets_go(attempt);
        Ok(())
    }

    /// The attempts that it says it has begun.
    pub(crate) fn has_begun(&self) -> Vec<AttemptId> {
        let begun = self.given.iter().filter(|(_, given)| given.begun);
        begun.map(|(attempt, _)| *attempt).collect()
    }

    /// The stage that an attempt was in, as it said last.
    pub(crate) fn stage(&self, attempt: AttemptId) -> Option<Stage> {
        let given = self.given.get(&attempt).filter(|given| given.begun)?;
        Some(given.mark.map_or(Stage::Encode, |mark| mark.stage))
    }

    /// The denoising steps of an attempt that it said were done.
    pub(crate) fn step(&self, attempt: AttemptId) -> u32 {
        let mark = self.given.get(&attempt).and_then(|given| given.mark);
        mark.filter(|mark| mark.stage == Stage::Denoise)
            .map_or(0, |mark| mark.step)
    }

    /// An attempt that was asked for may leave before it has begun.
    pub(crate) fn lets_go(&mut self, attempt: AttemptId) {
        self.given.remove(&attempt);
    }
}

/// Latents are many times smaller than the video that they stand for.
fn checkpoint(attempt: AttemptId, fd: Option<OwnedFd>, video_bytes: u64) -> Meaning {
    let Some(fd) = fd else {
        return desync("a checkpoint without its memory file");
    };
    match Checkpoint::accept(fd) {
        Ok(checkpoint) if checkpoint.capacity() > CHECKPOINT_BYTES_MIN.max(video_bytes) => {
            desync("a checkpoint larger than the video")
        }
        Ok(checkpoint) => Meaning::Checkpoint {
            attempt,
            checkpoint,
        },
        Err(error) => desync(&format!("checkpoint: {error}")),
    }
}

pub(crate) fn desync(reason: &str) -> Meaning {
    Meaning::Broken {
        fault: Fault::Desync(Breach::Impossible),
        reason: reason.into(),
    }
}

const fn part(stage: reel_protocol::Stage) -> Stage {
    match stage {
        reel_protocol::Stage::Encode => Stage::Encode,
        reel_protocol::Stage::Denoise => Stage::Denoise,
        reel_protocol::Stage::Decode => Stage::Decode,
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
