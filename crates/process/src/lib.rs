//! Worker processes: spawn, talk, watch, end. All of the unsafe process code of Reel is here.
//!
//! - [`spawner`]: one OS thread that lives as long as the supervisor and is the parent of every worker
//! - [`launch`]: what happens between fork and exec, in order
//! - [`sandbox`], [`cgroup`]: what a worker may touch, and a group that none of its descendants leaves
//! - [`rights`]: how a child that reads what strangers send gives up whatever it may
//! - [`worker`]: the task beside one worker: its messages, its output, its end
//! - [`terminate`]: the kill ladder
//! - `family`: descendants of workers that were left to this process
//! - [`orphans`]: workers of an earlier run that outlived it
//! - [`output`]: the worker's stdout and stderr, which are never protocol
//! - [`inherit`]: the worker's side of the descriptor that it was born with
//! - [`affinity`]: a worker's share of the processors

pub mod affinity;
pub mod cgroup;
pub mod inherit;
pub mod launch;
pub mod orphans;
pub mod output;
pub mod rights;
pub mod sandbox;
pub mod spawner;
pub mod terminate;
pub mod worker;

mod family;

pub use cgroup::{CgroupError, Cgroups};
pub use launch::{CHANNEL_FD, FLIGHT_FD, LaunchError, LaunchSpec, Share};
pub use rights::{Layers, RightsError, give_up_rights};
pub use sandbox::Sandbox;
pub use spawner::{Spawner, SpawnerError};
pub use terminate::Rung;
pub use worker::{Exit, ProcessEvent, SendError, WorkerProcess};
