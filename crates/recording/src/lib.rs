//! What happened to a pool, in a file: enough to decide everything again.
//!
//! A recording is the scheduler's bounds, devices and menu, and then every [`Input`](reel_scheduler::Input) with
//! its time since the beginning. It holds no prompts: the scheduler never sees one. Between the inputs stand
//! checks: the hash of all decisions so far.
//!
//! Format: the magic line, then messages of a four-byte little-endian length and that many bytes of postcard
//! (<https://postcard.jamesmunns.com/wire-format>). A last message that was cut off is the end of the file.
//!
//! - [`mod@write`]: the recorder, which never holds up whoever records
//! - [`read`]: the reader, and a replay
//! - `form`: how each type is written; kept apart from the types themselves, which know nothing of files
#![forbid(unsafe_code)]

pub mod read;
pub mod write;

mod form;

pub use form::Header;
pub use read::{ReadError, Recording, Replay, ReplayError};
pub use write::Recorder;
