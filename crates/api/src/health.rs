//! Readiness, as probes and people read it.

use crate::openapi::names::ShapeState;
use serde::Serialize;
use utoipa::ToSchema;

/// Whether work is taken, and why not.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Readiness {
    /// At least one shape can be served, and new work is taken.
    pub ready: bool,
    /// The server is about to stop.
    pub draining: bool,
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that a worker has.
    pub running: usize,
    /// Every line of every menu.
    pub shapes: Vec<ShapeReadiness>,
}

/// One line of a menu.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ShapeReadiness {
    /// The model's name.
    pub model: String,
    /// The shape's key.
    pub shape: String,
    /// `unbaked`, `baking`, `failed`, `cold` or `hot`.
    #[schema(value_type = ShapeState)]
    pub state: &'static str,
    /// Per cent of the bake that is done, while it runs.
    pub baking_percent: Option<u8>,
    /// Why it cannot be served.
    pub reason: Option<String>,
}
