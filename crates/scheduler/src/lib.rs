//! Every decision of the pool, and nothing else: no IO, no clock, no unseeded randomness.
//!
//! [`Scheduler`] is a synchronous state machine with one door in and one out:
//!
//! - [`handle`](Scheduler::handle) takes one [`Input`] and the time at which it happened;
//! - [`poll_command`](Scheduler::poll_command), after each input until it is empty, says what to do;
//! - [`poll_timeout`](Scheduler::poll_timeout) says when to hand in [`Input::Timeout`].
//!
//! The same inputs give the same commands, on every machine: a recorded stream replays decision for decision.
//!
//! The modules, from the top: [`input`] and [`command`] are the two doors, [`config`] the bounds. [`slot`] draws
//! the machine that every worker goes through.
//!
//! - `dispatch` gives jobs to workers; `form` and `preempt` are its two special cases: batches that nobody can
//!   join, and work that is paused for more urgent work
//! - `claim` finds places for workers, `spawning` begins them, `memory` says what fits
//! - `jobs` follows a job from the request to its end, `lifecycle` says what the events of workers mean, `faults` what is held against whom, `orders` what operators
//!   want; `scheduler` joins them
//! - they stand on `line` (who waits, in which order), `places` (which slot is good for what), `carried` (what a
//!   worker has), `bundle`, `device`, `sessions`, `caps` (what is known of each), `timer`
#![forbid(unsafe_code)]

pub mod command;
pub mod config;
pub mod counters;
pub mod device;
pub mod input;
pub mod slot;
pub mod work;

mod bundle;
mod caps;
mod carried;
mod claim;
mod dispatch;
mod faults;
mod form;
mod jobs;
mod lifecycle;
mod line;
mod memory;
mod orders;
mod places;
mod preempt;
mod scheduler;
mod sessions;
mod spawning;
mod timer;
mod view;
mod watchdog;

pub use caps::{BatchRule, ModelMatch};
pub use command::{Command, DecisionHash, JobChange, WorkerId};
pub use config::{Batching, Config, Eviction};
pub use counters::Counters;
pub use device::{DeviceSpec, Trust};
pub use input::{
    BATCH_SIZES, BundleOffer, BundleStanding, EngineFacts, ExitReport, Input, Order, Profile,
    WorkerEvent,
};
pub use memory::assumed_private_bytes;
pub use scheduler::Scheduler;
pub use slot::{SlotPhase, SlotView};
pub use watchdog::Mark;
pub use work::{Merge, RequestDigest, Work};
