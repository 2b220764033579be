//! What the gateway may know of the pool: a handle to ask it, and a board to watch it.
//!
//! - [`PoolHandle`] sends one message per request to the supervisor's loop and waits, with a deadline, for
//!   one answer.
//! - [`JobBoard`] holds the living jobs with one watch channel each, and the latest changes of all; [`PoolState`] is
//!   published through one more. Reading either never touches the loop.
//! - [`Estimates`] says when a job will be done.
//! - [`Catalog`] says which models and shapes the deployment serves.
#![forbid(unsafe_code)]

pub mod board;
pub mod catalog;
pub mod estimates;
pub mod handle;
pub mod state;

pub use board::{Change, JobBoard, JobProgress, Missed};
pub use catalog::{Catalog, CatalogError, Defaults, ModelEntry};
pub use estimates::{Estimate, Estimates};
pub use handle::{CancelError, DeleteError, PoolHandle, PoolOrder, PoolRequest, Submission};
pub use state::{BundleState, DeviceState, ModelState, PoolState, SlotState};
