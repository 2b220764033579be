//! The worker's side of the conversation, over an [`Engine`]. Synchronous, and testable without a process.
//!
//! - [`engine`]: what an engine must be able to do
//! - [`conversation`]: the loop that joins an engine to the supervisor
//! - [`memory`]: what the kernel says of this process's memory
#![forbid(unsafe_code)]

pub mod conversation;
pub mod engine;
pub mod memory;

pub use conversation::{Ending, serve};
pub use engine::{Engine, EngineError};
