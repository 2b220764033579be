//! The worker's side of the conversation, over an [`Engine`]. Synchronous, and testable without a process.
#![forbid(unsafe_code)]

pub mod engine;

pub use engine::{Engine, EngineError};
