//! The models of a deployment, with their menus.

use crate::openapi::names::{ListWord, ModeName, ModelWord, OwnerWord, ShapeState};
use serde::Serialize;
use utoipa::ToSchema;

/// All models.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    #[schema(value_type = ListWord)]
    pub object: &'static str,
    /// The models, the default one first.
    pub data: Vec<ModelObject>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelObject {
    /// Its name.
    pub id: String,
    /// Always `model`.
    #[schema(value_type = ModelWord)]
    pub object: &'static str,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// Always `reel`.
    #[schema(value_type = OwnerWord)]
    pub owned_by: &'static str,
    /// Extension: one sentence.
    pub description: String,
    /// Extension: `t2v`, `i2v`, `extend`.
    #[schema(value_type = Vec<ModeName>)]
    pub modes: Vec<&'static str>,
    /// Extension: what a request gets that does not say.
    pub defaults: ModelDefaults,
    /// Extension: the menu.
    pub shapes: Vec<ShapeObject>,
}

/// A model card's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelDefaults {
    /// The shape's key.
    pub shape: String,
    /// Frames per second.
    pub fps: u32,
    /// Denoising steps.
    pub num_inference_steps: u32,
    /// Classifier-free guidance.
    pub guidance_scale: f32,
    /// What to steer away from.
    pub negative_prompt: String,
}

/// One line of the menu.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ShapeObject {
    /// The shape's key, `1280x720@121f`.
    pub shape: String,
    /// What to send as `size`.
    pub size: String,
    /// What to send as `num_frames`.
    pub num_frames: u32,
    /// What to send as `seconds`, at the default frame rate.
    pub seconds: String,
    /// `unbaked`, `baking`, `failed`, `cold` or `hot`.
    #[schema(value_type = ShapeState)]
    pub state: &'static str,
    /// Per cent of the bake that is done, while it runs.
    pub baking_percent: Option<u8>,
    /// Why it cannot be served.
    pub reason: Option<String>,
}
