//! `model.toml`: what a model can serve, and what it does when a client does not say.

use crate::digest::Digest;
use crate::text;
use reel_domain::{Mode, ModelName, Shape};
use serde::Deserialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file's name in a model's directory.
pub const FILE: &str = "model.toml";
/// Largest batch that a menu may ask for.
pub const BATCH_MAX: u32 = 64;

/// What a model can serve.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Menu {
    /// The model's name.
    #[serde(with = "text")]
    pub name: ModelName,
    /// The diffusers pipeline that the native engine reproduces.
    pub pipeline: String,
    /// One sentence for people.
    pub description: String,
    /// The shapes that are baked, in the order in which they are baked.
    #[serde(with = "text::list")]
    pub shapes: Vec<Shape>,
    /// The modes that it was trained for.
    #[serde(with = "text::list")]
    pub modes: Vec<Mode>,
    /// Videos that one worker may carry at once.
    pub max_batch: u32,
    /// Every prompt is padded or cut to this many tokens.
    pub text_tokens: u32,
    /// Frames that `extend` continues from; two latent frames and the first one when absent.
    #[serde(default)]
    pub extend_frames: Option<u32>,
    /// What is used when a client does not say.
    pub defaults: Defaults,
}

/// What is used when a client does not say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// One of the menu's shapes.
    #[serde(with = "text")]
    pub shape: Shape,
    /// Frames per second.
    pub fps: u32,
    /// Denoising steps.
    pub num_inference_steps: u32,
    /// Classifier-free guidance.
    pub guidance_scale: f32,
    /// What to steer away from.
    pub negative_prompt: String,
}

/// A `model.toml` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MenuError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not the TOML that is expected; the message has the line.
    #[error("{path} is not a menu: {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Its values do not fit together.
    #[error("{path}: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

impl Menu {
    /// Reads the `model.toml` of a model's directory.
    ///
    /// # Errors
    /// See [`MenuError`].
    pub fn load(model_dir: &Path) -> Result<Self, MenuError> {
        let path = model_dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(source) => Err(MenuError::Read { path, source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, MenuError> {
        let menu: Self = toml::from_str(text).map_err(|source| MenuError::Parse {
            path: path.into(),
            source: source.into(),
        })?;
        match menu.flaw() {
            Some(reason) => Err(MenuError::Invalid {
                path: path.into(),
                reason,
            }),
            None => Ok(menu),
        }
    }

    fn flaw(&self) -> Option<String> {
        if self.shapes.is_empty() {
            return Some("shapes is empty".into());
        }
        if self.modes.is_empty() {
            return Some("modes is empty".into());
        }
        if !self.shapes.contains(&self.defaults.shape) {
            return Some(format!(
                "defaults.shape {} is not one of shapes",
                self.defaults.shape
            ));
        }
        if !(1..=BATCH_MAX).contains(&self.max_batch) {
            return Some(format!(
                "max_batch {} is outside 1..={BATCH_MAX}",
                self.max_batch
            ));
        }
        if self.text_tokens == 0 {
            return Some("text_tokens is 0".into());
        }
        None
    }

    /// A digest of everything that decides which bundles exist. Descriptions and defaults do not.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let list = |words: Vec<String>| words.join(" ");
        let text = format!(
            "{}\n{}\n{}\n{}\n{}\n{}\n{:?}\n",
            self.name,
            self.pipeline,
            list(self.shapes.iter().map(ToString::to_string).collect()),
            list(self.modes.iter().map(ToString::to_string).collect()),
            self.max_batch,
            self.text_tokens,
            self.extend_frames,
        );
        Digest::of(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
        name = "tiny"
        pipeline = "LTXConditionPipeline"
        description = "small"
        shapes = ["64x64@17f", "96x64@17f"]
        modes = ["t2v", "extend"]
        max_batch = 8
        text_tokens = 32
        [defaults]
        shape = "64x64@17f"
        fps = 8
        num_inference_steps = 20
        guidance_scale = 3.0
        negative_prompt = ""
    "#;

    fn parse(text: &str) -> Result<Menu, MenuError> {
        Menu::parse(text, Path::new("model.toml"))
    }

    #[test]
    fn a_menu_is_read() {
        let menu = parse(TOML).unwrap();
        assert_eq!(menu.shapes[1].to_string(), "96x64@17f");
        assert_eq!(menu.modes, [Mode::T2v, Mode::Extend]);
        assert_eq!(menu.extend_frames, None);
    }

    #[test]
    fn the_hash_follows_shapes_and_ignores_descriptions() {
        let hash = parse(TOML).unwrap().hash();
        assert_eq!(parse(&TOML.replace("small", "tiny")).unwrap().hash(), hash);
        assert_ne!(
            parse(&TOML.replace(", \"96x64@17f\"", "")).unwrap().hash(),
            hash
        );
    }

    #[test]
    fn menus_that_do_not_fit_together_are_refused_by_name() {
        let cases = [
            (
                TOML.replace("shape = \"64x64@17f\"", "shape = \"8x8@1f\""),
                "defaults.shape 8x8@1f",
            ),
            (
                TOML.replace("max_batch = 8", "max_batch = 0"),
                "max_batch 0",
            ),
            (
                TOML.replace("[\"t2v\", \"extend\"]", "[]"),
                "modes is empty",
            ),
            (TOML.replace("description", "descripton"), "descripton"),
            (TOML.replace("96x64@17f", "96x64"), "96x64"),
        ];
        for (text, expected) in cases {
            let message = parse(&text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
