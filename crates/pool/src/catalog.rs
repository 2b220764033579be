//! Which models and shapes a deployment serves, and what a request leaves unsaid.

use reel_domain::{Fps, Guidance, Mode, ModelName, Prompt, Shape, Steps};

/// The models of a deployment. Never empty: the first one is the default.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    models: Vec<ModelEntry>,
}

/// One servable model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelEntry {
    /// Its name.
    pub name: ModelName,
    /// One sentence about it.
    pub description: String,
    /// The menu: every shape that it serves.
    pub shapes: Vec<Shape>,
    /// The modes that it serves.
    pub modes: Vec<Mode>,
    /// What a request gets that does not say.
    pub defaults: Defaults,
    /// When its files were made, in seconds since the Unix epoch.
    pub created_at_s: u64,
}

/// A model card's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The shape.
    pub shape: Shape,
    /// Frames per second.
    pub fps: Fps,
    /// Denoising steps.
    pub steps: Steps,
    /// Classifier-free guidance.
    pub guidance: Guidance,
    /// What to steer away from.
    pub negative_prompt: Prompt,
}

/// The catalog makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// Nothing to serve.
    #[error("no model is configured")]
    Empty,
    /// Two models of one name.
    #[error("model {0} is configured twice")]
    Twice(ModelName),
}

impl Catalog {
    /// A catalog of at least one model, each of its own name.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub fn new(models: Vec<ModelEntry>) -> Result<Self, CatalogError> {
        if models.is_empty() {
            return Err(CatalogError::Empty);
        }
        for (index, model) in models.iter().enumerate() {
            if models[..index]
                .iter()
                .any(|earlier| earlier.name == model.name)
            {
                return Err(CatalogError::Twice(model.name.clone()));
            }
        }
        Ok(Self { models })
    }

    /// Every model, the default one first.
    #[must_use]
    pub fn models(&self) -> &[ModelEntry] {
        &self.models
    }

    /// The model that a request gets that names none.
    #[must_use]
    pub fn default_model(&self) -> &ModelEntry {
        &self.models[0]
    }

    /// A model by its name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&ModelEntry> {
        self.models.iter().find(|model| model.name.as_str() == name)
    }
}
