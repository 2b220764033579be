//! The words of Reel as types.
//!
//! Every value that crosses a boundary is turned into one of these once, at the edge; after that nothing
//! re-validates. The crate knows nothing of wires, files or clocks: no serde, no tokio, no `SystemTime`.
//!
//! - [`shape`], [`mode`], [`model`]: what is generated, and the [`BundleKey`] that serves it
//! - [`sampling`]: prompt, seed, steps, guidance, frame rate, each with its range
//! - [`job`]: accepted work, its status and its outcome
//! - [`origin`], [`client`]: what an earlier job has to do with it, and what its client says beside the work
//! - [`variant`]: what a finished job can be looked at as
//! - [`fault`]: how workers go wrong
//! - [`tenant`]: who asks, and how urgently
//! - [`durability`]: what a power cut may take
//! - [`rejection`]: why work was not accepted
//! - [`limits`]: every bound, with its name and default
#![forbid(unsafe_code)]

pub mod client;
pub mod durability;
pub mod fault;
pub mod ids;
pub mod job;
pub mod limits;
pub mod mode;
pub mod model;
pub mod origin;
pub mod rejection;
pub mod sampling;
pub mod shape;
pub mod tenant;
pub mod variant;

pub use client::{CallbackUrl, Idempotency, IdempotencyKey, TraceParent};
pub use durability::Durability;
pub use fault::{BootFailure, BootPhase, Breach, Fault, FaultClass, Silence, Stage};
pub use ids::{AttemptId, DeviceId, JobId, SessionId, SlotId};
pub use job::{Durations, Failure, FailureCode, Job, JobStatus, Outcome};
pub use mode::Mode;
pub use model::{BundleKey, ModelName};
pub use origin::Origin;
pub use rejection::Rejection;
pub use sampling::{Fps, Guidance, Prompt, PromptError, RangeError, Sampling, Seed, Steps};
pub use shape::{Shape, ShapeError};
pub use tenant::{Priority, Sharing, TenantName};
pub use variant::{Still, Variant};
