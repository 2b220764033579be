//! The scheduler in a world on paper: traffic, a virtual clock, and workers that cost what bundles cost.
//!
//! - [`traffic`]: who asks for what, and when
//! - [`trace`]: the same in a file
//! - [`world`]: carries out what the scheduler decides
//! - [`report`]: what came of it
//! - [`timeline`]: what each worker did
//! - [`optimum`](mod@optimum): what the least time of spawns would have been
//! - [`plan`](mod@plan): what a deployment should look like
//! - [`plot`]: pictures of all that
//! - [`observed`]: a recorded run in the same figures, and as traffic to try otherwise
#![forbid(unsafe_code)]

pub mod observed;
pub mod optimum;
pub mod plan;
pub mod plot;
pub mod report;
mod sharing;
pub mod timeline;
pub mod trace;
pub mod traffic;
pub mod world;

pub use observed::{Observed, observe};
pub use optimum::{Optimum, optimum};
pub use plan::{Advice, Plan, plan};
pub use report::Report;
pub use timeline::{Stay, Timeline};
pub use traffic::{Arrival, Pattern, Volume, draw};
pub use world::{BundleCost, Scenario, batch_share, inputs, record, run, watch};
