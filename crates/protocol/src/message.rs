//! The messages. Every field is plain data; pixels never travel inside a message.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One try at a job, as both sides name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt {
    /// The job's sixteen bytes.
    pub job: [u8; 16],
    /// 1 for the first try; a higher number fences off the lower ones.
    pub number: u32,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.job
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "/{}", self.number)
    }
}

/// What the first frames come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Everything is generated.
    T2v,
    /// The first frame is given.
    I2v,
    /// The first `conditioning_frames` frames are given.
    Extend,
}

/// One video to generate. Its shape is the bundle's: a worker serves one shape for its whole life.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// What it starts from.
    pub mode: Mode,
    /// What to show.
    pub prompt: String,
    /// What to steer away from; may be empty.
    pub negative_prompt: String,
    /// Seed of the noise generator.
    pub seed: u64,
    /// Denoising steps.
    pub steps: u32,
    /// Classifier-free guidance; at or below 1 there is no unconditional pass.
    pub guidance: f32,
    /// Frames per second.
    pub fps: u32,
    /// Given frames, 0 for t2v. They arrive as a memfd with the message: RGB, 8 bit, `[frames, height, width, 3]`.
    pub conditioning_frames: u32,
    /// The trace that its request belongs to: a `traceparent` of W3C Trace Context. For the worker's spans.
    pub trace: Option<String>,
}

impl fmt::Debug for Item {
    // The prompt is the client's private text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("mode", &self.mode)
            .field("prompt_bytes", &self.prompt.len())
            .field("seed", &self.seed)
            .field("steps", &self.steps)
            .field("guidance", &self.guidance)
            .field("conditioning_frames", &self.conditioning_frames)
            .finish_non_exhaustive()
    }
}

/// What an engine can do. Stated once, in `Loaded`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The engine's name and version, for logs.
    pub engine: String,
    /// Attempts that it can carry at once.
    pub max_batch: u32,
    /// Attempts may join and leave at step boundaries.
    pub continuous: bool,
    /// Attempts can be paused and resumed.
    pub pausable: bool,
    /// Its outputs are videos and not frames: no encoder is started for it ahead.
    pub videos: bool,
}

/// What is in the memory file of a finished attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// Raw frames, still to be encoded: RGB, 8 bit, `[frames, height, width, 3]`.
    Frames,
    /// An MP4, to be published as it is. Only from a worker that said so in its [`Capabilities`].
    Video,
}

/// The part of a generation that a worker is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Encoding the prompt and the given frames.
    Encode,
    /// Denoising.
    Denoise,
    /// From latents to pixels.
    Decode,
}

impl Stage {
    /// The name in metrics and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Denoise => "denoise",
            Self::Decode => "decode",
        }
    }
}

/// Wall time by stage, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Prompt and given frames to embeddings and latents.
    pub encode_us: u64,
    /// All denoising steps.
    pub denoise_us: u64,
    /// Latents to pixels, written to the memfd.
    pub decode_us: u64,
}

/// Memory of a worker, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Resident now.
    pub resident_bytes: u64,
    /// The highest it has been.
    pub peak_bytes: u64,
}

/// A tiny seeded computation that a worker reproduced before it said READY.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// What the bake recorded.
    pub expected: f32,
    /// What this worker computed.
    pub got: f32,
}

/// How an attempt or a worker failed, as the worker itself knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureClass {
    /// This attempt cannot be done; the worker is fine.
    Soft,
    /// Memory ran out.
    Oom,
    /// The device is in a state that outlives the attempt.
    DeviceFatal,
    /// The worker cannot become ready (wrong bundle, failed canary, wrong environment).
    Boot,
    /// This attempt cannot go on from the checkpoint that it was given; the worker is fine.
    Checkpoint,
}

/// From the supervisor to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Generate one video. Given frames, or the checkpoint of an earlier attempt, arrive as a memfd with this message.
    Generate {
        /// The attempt that every answer carries.
        attempt: Attempt,
        /// What to generate.
        item: Item,
        /// The memfd is a checkpoint: go on from there. It holds what was made of the given frames.
        resumes: bool,
        /// It begins together with the next `Generate`; the last one of a batch says `false`.
        more: bool,
    },
    /// Stop an attempt at the next step boundary.
    Cancel {
        /// Which one.
        attempt: Attempt,
    },
    /// Keep an attempt's state and take no further step of it, from the next step boundary on.
    Pause {
        /// Which one.
        attempt: Attempt,
    },
    /// Go on with a paused attempt.
    Resume {
        /// Which one.
        attempt: Attempt,
    },
    /// Answer with `Pong`.
    Ping {
        /// Returned unchanged.
        nonce: u64,
    },
    /// Exit with status 0 when idle.
    Shutdown,
}

/// From a worker to the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first message, before anything is loaded.
    Hello {
        /// The protocol version that the worker speaks.
        protocol: u32,
        /// Its process id, as it sees it.
        pid: u32,
    },
    /// The bundle is loaded; the canary comes next.
    Loaded {
        /// What the engine can do.
        capabilities: Capabilities,
    },
    /// The canary sang.
    Ready {
        /// The bundle that is loaded.
        bundle_id: String,
        /// Memory after loading.
        memory: MemoryUse,
        /// Process start to ready, in microseconds.
        boot_us: u64,
        /// The reproduced computation.
        canary: Canary,
    },
    /// An attempt has begun on the device.
    Started {
        /// Which one.
        attempt: Attempt,
    },
    /// From now on the state of an attempt is kept in the memfd that comes with this message.
    Checkpoint {
        /// Of which attempt.
        attempt: Attempt,
    },
    /// A step is done.
    Step {
        /// Of which attempt.
        attempt: Attempt,
        /// In which stage.
        stage: Stage,
        /// Steps done, from 1.
        step: u32,
        /// Steps in all.
        of: u32,
    },
    /// The attempt is through. What it made arrives as a sealed memfd with this message.
    Finished {
        /// Which attempt.
        attempt: Attempt,
        /// What the memfd holds.
        output: OutputKind,
        /// Where the time went.
        timings: Timings,
        /// The highest resident size during the attempt.
        memory: MemoryUse,
    },
    /// A cancelled attempt has left the device.
    Cancelled {
        /// Which attempt.
        attempt: Attempt,
    },
    /// An attempt failed; the worker goes on.
    Failed {
        /// Which attempt.
        attempt: Attempt,
        /// How.
        class: FailureClass,
        /// One line for the operator.
        message: String,
    },
    /// The worker cannot go on and exits.
    Fatal {
        /// How.
        class: FailureClass,
        /// One line for the operator.
        message: String,
    },
    /// The answer to `Ping`.
    Pong {
        /// As it came.
        nonce: u64,
    },
}
