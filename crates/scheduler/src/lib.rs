//! Every decision of the pool, and nothing else: no IO, no clock, no randomness.
//!
//! [`Scheduler`] is a synchronous state machine. Its methods are of four kinds:
//!
//! - what the application asks: [`submit`](Scheduler::submit), [`cancel`](Scheduler::cancel),
//!   [`drain`](Scheduler::drain), [`set_bundle`](Scheduler::set_bundle);
//! - what happened: `handle_*`;
//! - what the caller must do next: [`poll_command`](Scheduler::poll_command) after each of the above until it
//!   is empty, and [`poll_timeout`](Scheduler::poll_timeout) for when to call
//!   [`handle_timeout`](Scheduler::handle_timeout);
//! - looking only: [`snapshot`](Scheduler::snapshot), [`waiting`](Scheduler::waiting).
//!
//! Time comes in as the last argument. The same inputs give the same commands, on every machine.
//!
//! The modules, from the top: [`command`] and [`event`] are the surface; [`slot`] draws the slot machine;
//! `queue`, `job` and `timer` hold the state; `placement` chooses who runs where; `lifecycle` says what the
//! events of workers mean; `scheduler` joins them.
#![forbid(unsafe_code)]

pub mod command;
pub mod config;
pub mod event;
pub mod slot;

mod job;
mod lifecycle;
mod placement;
mod queue;
mod scheduler;
mod timer;

pub use command::{Command, JobChange, WorkerId};
pub use config::Config;
pub use event::{BundleOffer, ExitReport, WorkerEvent};
pub use scheduler::{CancelDecision, Scheduler};
pub use slot::{SlotPhase, SlotView};
