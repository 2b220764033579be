//! Bundles: what one bake produced for a model at a shape, and how to find and trust it.
//!
//! ```text
//! <cache>/weights/<model>/<component>-<dtype>-<sha12>.safetensors
//! <cache>/per-shape/<model>/<shape>/<bundle_id>/manifest.json  tokenizer.json  aot/*.pt2
//! <cache>/per-shape/<model>/<shape>/current -> <bundle_id>
//! ```
//!
//! - [`menu`]: `model.toml`, what a model can serve
//! - [`model`]: a model's directory: its menu and the digest of its weights
//! - [`manifest`]: what a bundle holds; untrusted input, checked before anybody uses it
//! - [`environment`]: what a bundle was compiled for, and whether this machine is that
//! - [`cache`]: where everything lies, and whether a shape is missing, stale or ready
//!
//! `docs/bundles.md` describes the format.
#![forbid(unsafe_code)]

pub mod cache;
pub mod digest;
pub mod environment;
pub mod manifest;
pub mod menu;
pub mod model;
mod text;

pub use cache::{Bundle, BundleError, Cache, Requirements, State};
pub use digest::{Digest, DigestError};
pub use environment::{CpuIsa, Environment, Host, Mismatch};
pub use manifest::{Canary, Component, Conditioning, Device, Dtype, FileEntry, Latent, Manifest};
pub use manifest::{ManifestError, Role, Scheduler, Text};
pub use menu::{Defaults, Menu, MenuError};
pub use model::{Model, ModelError};

/// The version of the manifest's format that this build reads and writes.
pub const SCHEMA: u32 = 1;
/// The revision of what a bake does. A bundle of another revision is baked again.
pub const RECIPE: u32 = 2;
/// The public version of the libtorch that this build is made for.
pub const TORCH: &str = "2.11.0";
