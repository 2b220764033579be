//! What the gateway may know of the pool: a handle to ask it, and a board to watch it.
//!
//! - [`PoolHandle`] sends one message per request to the supervisor's loop and waits, with a deadline, for
//!   one answer.
//! - [`JobBoard`] holds one watch channel per living job; [`PoolState`] is published through one more.
//!   Reading either never touches the loop.
//! - [`Catalog`] says which models and shapes the deployment serves.
#![forbid(unsafe_code)]

pub mod board;
pub mod catalog;
pub mod handle;
pub mod state;

pub use board::{JobBoard, JobProgress};
pub use catalog::{Catalog, CatalogError, Defaults, ModelEntry};
pub use handle::{CancelError, DeleteError, PoolHandle, PoolRequest, Submission};
pub use state::{BundleState, DeviceState, ModelState, PoolState, SlotState};
