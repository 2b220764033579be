//! The one loop that joins the scheduler's decisions and the world.
//!
//! - [`driver`]: the loop: one event in, decisions, effects out
//! - [`devices`]: which GPUs or processor shares there are
//! - `reactions`: what each event means to the scheduler and to whoever waits
//! - `effects`, `processes`, `attempts`: what each command does; anything slow runs as its own task and comes back as an event
//! - `work`: what the scheduler gets to know of a job
//! - `workers`: the processes, and what their messages mean to the scheduler
//! - `jobs`: living jobs as their clients see them
//! - `deaths`, [`incidents`], `checkpoints`: what remains of a worker, for the operator and for its jobs
//! - [`retention`]: how long videos and rows are kept, and what happens when the disk is full
//! - `encode`: frames to a published video
//! - `publish`: the pool's picture for probes and pages
//! - `metrics`: the pool in numbers
#![forbid(unsafe_code)]

mod attempts;
mod batches;
mod checkpoints;
mod deaths;
pub mod devices;
pub mod driver;
pub mod incidents;
pub mod memory;

mod effects;
mod encode;
mod event;
mod jobs;
mod metrics;
mod processes;
mod profiles;
mod publish;
mod reactions;
pub mod retention;
mod work;
mod workers;

pub use devices::Device;
pub use driver::{Parts, Supervisor, SupervisorHandle, Tuning, WorkerProgram};
pub use event::{BakedBundle, BundleNews};
pub use incidents::{Incident, Incidents};
pub use memory::{DeviceMemory, DriverMemory};
pub use metrics::MetricsError;
pub use processes::SHORT_SPIN;
pub use profiles::Profiles;
pub use retention::Retention;
