//! The native engine: pipelines over libtorch, without Python.
//!
//! A bundle's packages (AOTInductor) hold code, the cache's weights files hold numbers; both are mapped, and
//! what is left to do here is the pipeline around them, exactly as diffusers' `LTXConditionPipeline` does it:
//!
//! - [`tokenizer`], [`noise`], [`schedule`], [`geometry`], [`frames`]: its pieces, one by one
//! - [`run`]: the state of one attempt
//! - [`pipeline`]: [`NativeEngine`], which joins them behind the worker's `Engine` trait
//! - [`package`], [`weights`], [`runtime`]: all that is unsafe, and the only callers of the C++ shim
//! - [`canary`]: the seeded computation that a worker reproduces before it serves

pub mod canary;
pub mod error;
pub mod frames;
pub mod geometry;
pub mod load;
pub mod noise;
pub mod package;
pub mod pipeline;
pub mod run;
pub mod runtime;
pub mod schedule;
mod stand;
pub mod tokenizer;
pub mod weights;

pub use error::{ComputeError, LoadError};
pub use load::{DeviceChoice, Options};
pub use pipeline::NativeEngine;
pub use run::Run;
