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
//! - [`pixels`]: sealed memfds that carry frames
#![forbid(unsafe_code)]

pub mod channel;
pub mod codec;
pub mod message;
pub mod pixels;

pub use channel::{Channel, ChannelError};
pub use codec::{DecodeError, EncodeError, MESSAGE_BYTES_MAX, decode, encode};
pub use message::{
    Attempt, Canary, Capabilities, FailureClass, FromWorker, Item, MemoryUse, Mode, Stage, Timings,
    ToWorker,
};
pub use pixels::{PixelError, Pixels};

/// The version that this build speaks. 1: Hello, Ready, Generate, Cancel, Ping, Shutdown and their answers; 2: formed
/// batches (`Generate.more`), Pause and Resume.
pub const VERSION: u32 = 2;
