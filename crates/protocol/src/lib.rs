//! What supervisor and worker say to each other, and how it is written.
//!
//! One `SOCK_SEQPACKET` socket pair per worker: the kernel keeps message boundaries, descriptors (memfds)
//! travel with their message, and one message is one bincode value of at most [`MESSAGE_BYTES_MAX`] bytes.
//! What one end may read is exactly what the other may write ([`ToWorker`], [`FromWorker`]).
//! `docs/protocol.md` describes the conversation.
//!
//! - [`message`]: the messages
//! - [`codec`]: bincode, pinned and bounded, and nowhere else
//! - [`channel`]: the worker's blocking end of the socket
//! - [`checkpoint`]: memory files in which an attempt's state outlives its worker
//! - [`flight`]: the memory file in which a worker notes what it does
//! - [`pixels`]: sealed memfds that carry frames
//! - [`video`]: sealed memfds that carry a ready-made video
#![forbid(unsafe_code)]

pub mod channel;
pub mod checkpoint;
pub mod codec;
pub mod flight;
pub mod message;
pub mod pixels;
pub mod video;

pub use channel::{Channel, ChannelError};
pub use checkpoint::{Checkpoint, CheckpointError, Saved};
pub use codec::{DecodeError, EncodeError, MESSAGE_BYTES_MAX, decode, encode};
pub use flight::FlightRecorder;
pub use message::{
    Attempt, Canary, Capabilities, FailureClass, FromWorker, Item, MemoryUse, Mode, OutputKind,
    Stage, Timings, ToWorker,
};
pub use pixels::{PixelError, Pixels};
pub use video::{VIDEO_BYTES_MAX, Video, VideoError};

/// The version that this build speaks. 1: Hello, Ready, Generate, Cancel, Ping, Shutdown and their answers; 2: formed
/// batches (`Generate.more`), Pause and Resume; 3: Hello before the bundle is loaded, Loaded, Checkpoint and
/// `Generate.resumes`, the flight recorder at descriptor 4; 4: ready-made videos (`Capabilities.videos`, `Finished.output`),
/// `Item.trace`.
pub const VERSION: u32 = 4;
