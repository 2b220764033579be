//! Worker processes: spawn, talk, watch, end. All of the unsafe process code of Reel is here.
//!
//! - [`spawner`]: one OS thread that lives as long as the supervisor and is the parent of every worker
//! - [`launch`]: what happens between fork and exec, in order
//! - [`worker`]: the task beside one worker: its messages, its output, its end
//! - [`output`]: the worker's stdout and stderr, which are never protocol
//! - [`inherit`]: the worker's side of the descriptor that it was born with
//! - [`affinity`]: a worker's share of the processors

pub mod affinity;
pub mod inherit;
pub mod launch;
pub mod output;
pub mod spawner;
pub mod worker;

pub use launch::{CHANNEL_FD, LaunchError, LaunchSpec};
pub use spawner::{Spawner, SpawnerError};
pub use worker::{ProcessEvent, SendError, WorkerProcess};
