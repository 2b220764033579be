//! `manifest.json`: what a bundle holds.
//!
//! Manifests are input that is not trusted: unknown fields, names that could leave their directory, and
//! values that do not fit together are refused before anybody uses them.

use crate::SCHEMA;
use crate::digest::Digest;
use crate::environment::Environment;
use crate::text;
use reel_domain::{Mode, ModelName, Shape};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The file's name in a bundle's directory.
pub const FILE: &str = "manifest.json";
/// Largest manifest that is read at all, in bytes.
pub const BYTES_MAX: u64 = 1 << 20;
/// Largest difference from eager execution in float32 that a bake accepts.
pub const FLOAT32_ERROR_MAX: f64 = 1e-4;
/// How far a reproduced canary may lie from the recorded one, relative to its size: wide enough for
/// another number of threads, far too narrow for wrong weights.
pub const CANARY_TOLERANCE: f32 = 1e-3;

/// Everything about one bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format.
    pub schema: u32,
    /// The revision of what the bake did.
    pub recipe: u32,
    /// The model.
    #[serde(with = "text")]
    pub model: ModelName,
    /// The digest of the model's directory.
    #[serde(with = "text")]
    pub model_digest: Digest,
    /// The diffusers pipeline that is reproduced.
    pub pipeline: String,
    /// The shape that every package is compiled for.
    #[serde(with = "text")]
    pub shape: Shape,
    /// The modes that are served.
    #[serde(with = "text::list")]
    pub modes: Vec<Mode>,
    /// Videos that can be carried through one step; the transformer takes twice as many rows.
    pub max_batch: u32,
    /// The type of weights and activations.
    pub dtype: Dtype,
    /// The kind of device.
    pub device: Device,
    /// The packages by role.
    pub components: BTreeMap<Role, Component>,
    /// The latent space.
    pub latent: Latent,
    /// The text part.
    pub text: Text,
    /// Given frames by mode.
    pub conditioning: Conditioning,
    /// The noise schedule.
    pub scheduler: Scheduler,
    /// What it was compiled for.
    pub environment: Environment,
    /// A computation to reproduce before serving.
    pub canary: Canary,
}

/// The type of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    Float32,
    /// 16-bit floats with the exponent of 32-bit ones.
    Bfloat16,
}

/// The kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The CPU.
    Cpu,
    /// One NVIDIA GPU.
    Cuda,
}

/// What a package does in the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Tokens to embeddings.
    TextEncoder,
    /// One denoising step.
    Transformer,
    /// Latents to frames.
    VaeDecoder,
    /// The first frame to latents.
    VaeEncoderI2v,
    /// The frames of an earlier video to latents.
    VaeEncoderExtend,
}

/// One package and its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The package, in the bundle's `aot` directory.
    pub package: FileEntry,
    /// The weights, in the model's weights directory; packages may share them.
    pub weights: FileEntry,
    /// The digest of everything that decided the package's code. Equal keys, equal code.
    #[serde(with = "text")]
    pub key: Digest,
    /// The largest difference from eager execution that the bake saw.
    pub max_abs_error: f64,
}

/// A file by name, size and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name; never a path.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// The digest of its content.
    #[serde(with = "text")]
    pub sha256: Digest,
}

/// The latent space of one video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latent {
    /// Channels.
    pub channels: u32,
    /// Latent frames.
    pub frames: u32,
    /// Latent rows.
    pub height: u32,
    /// Latent columns.
    pub width: u32,
    /// Frames per latent frame; the first latent frame holds one frame alone.
    pub temporal_ratio: u32,
    /// Pixels per latent cell, in both directions.
    pub spatial_ratio: u32,
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
    /// Scale on top of the normalisation.
    pub scaling_factor: f32,
}

impl Latent {
    /// Tokens of one video: the transformer sees one token per latent cell.
    #[must_use]
    pub const fn tokens(&self) -> u32 {
        self.frames * self.height * self.width
    }
}

/// The text part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Tokens of every prompt, padding included.
    pub tokens: u32,
    /// Width of one embedding.
    pub width: u32,
    /// The token that pads.
    pub pad_id: u32,
    /// The text of the token that pads.
    pub pad_token: String,
    /// The tokenizer, in the bundle's directory.
    pub tokenizer: FileEntry,
}

/// Given frames by mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditioning {
    /// Frames that `i2v` takes.
    pub i2v: u32,
    /// Frames that `extend` takes.
    pub extend: u32,
}

impl Conditioning {
    /// Frames that a mode takes.
    #[must_use]
    pub const fn frames(&self, mode: Mode) -> u32 {
        match mode {
            Mode::T2v => 0,
            Mode::I2v => self.i2v,
            Mode::Extend => self.extend,
        }
    }
}

/// The values of the model's flow-match Euler scheduler that decide its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    /// Timesteps per unit of sigma.
    pub num_train_timesteps: u32,
    /// Static shift of the sigmas.
    pub shift: f64,
    /// The sigma that the schedule is stretched to end at.
    pub shift_terminal: Option<f64>,
}

/// A seeded run through every package, reduced to one number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The seed.
    pub seed: u64,
    /// What came out at the bake.
    pub value: f32,
}

impl Canary {
    /// Whether a reproduced value is the recorded one.
    #[must_use]
    pub fn agrees(&self, got: f32) -> bool {
        (got - self.value).abs() <= CANARY_TOLERANCE * self.value.abs()
    }
}

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is of another format.
    #[error("schema is {found}, expected {SCHEMA}")]
    Schema {
        /// The version that it names.
        found: u32,
    },
    /// It is not the JSON that is expected; the message has the field or the line.
    #[error("not a manifest: {0}")]
    Parse(#[from] serde_json::Error),
    /// A value that cannot be.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize)]
struct SchemaOnly {
    schema: u32,
}

impl Manifest {
    /// Reads a manifest and checks it in itself.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        match serde_json::from_slice::<SchemaOnly>(json)? {
            SchemaOnly { schema: SCHEMA } => (),
            SchemaOnly { schema: found } => return Err(ManifestError::Schema { found }),
        }
        let manifest: Self = serde_json::from_slice(json)?;
        manifest.check_names()?;
        manifest.check_roles()?;
        manifest.check_latent()?;
        manifest.check_numbers()?;
        Ok(manifest)
    }

    /// The package of a role.
    #[must_use]
    pub fn component(&self, role: Role) -> Option<&Component> {
        self.components.get(&role)
    }

    /// Size of its weights, each file once, in bytes.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        let files = self.components.values();
        let sizes: BTreeMap<_, _> = files
            .map(|component| (&component.weights.file, component.weights.bytes))
            .collect();
        sizes.values().sum()
    }

    fn check_names(&self) -> Result<(), ManifestError> {
        check_name("text.tokenizer.file", &self.text.tokenizer.file)?;
        self.components.iter().try_for_each(|(role, component)| {
            check_name(
                &format!("components.{role}.package.file"),
                &component.package.file,
            )?;
            check_name(
                &format!("components.{role}.weights.file"),
                &component.weights.file,
            )
        })
    }

    fn check_roles(&self) -> Result<(), ManifestError> {
        let always = [Role::TextEncoder, Role::Transformer, Role::VaeDecoder];
        let by_mode = self.modes.iter().filter_map(|mode| Role::encoder_of(*mode));
        match always
            .into_iter()
            .chain(by_mode)
            .find(|role| !self.components.contains_key(role))
        {
            Some(role) => Err(invalid(format!("components.{role}"), "is missing")),
            None => Ok(()),
        }
    }

    fn check_latent(&self) -> Result<(), ManifestError> {
        let Latent {
            channels,
            temporal_ratio,
            spatial_ratio,
            ..
        } = self.latent;
        if temporal_ratio == 0 || spatial_ratio == 0 {
            return Err(invalid("latent", "a ratio is 0"));
        }
        let sizes = [
            (
                "latent.frames",
                (self.shape.frames() - 1) / temporal_ratio + 1,
                self.latent.frames,
            ),
            (
                "latent.height",
                self.shape.height() / spatial_ratio,
                self.latent.height,
            ),
            (
                "latent.width",
                self.shape.width() / spatial_ratio,
                self.latent.width,
            ),
            ("latent.mean", channels, self.latent.mean.len() as u32),
            ("latent.std", channels, self.latent.std.len() as u32),
        ];
        match sizes
            .into_iter()
            .find(|(_, expected, found)| expected != found)
        {
            Some((field, expected, found)) => Err(invalid(
                field,
                &format!("is {found}, but the shape and the ratios make it {expected}"),
            )),
            None => self.check_conditioning(),
        }
    }

    fn check_conditioning(&self) -> Result<(), ManifestError> {
        let given = self.modes.iter().filter(|mode| **mode != Mode::T2v);
        match given
            .map(|mode| (mode, self.conditioning.frames(*mode)))
            .find(|(_, n)| !self.fits(*n))
        {
            Some((mode, frames)) => Err(invalid(
                format!("conditioning.{mode}"),
                &format!("{frames} frames do not fill whole latent frames within the shape"),
            )),
            None => Ok(()),
        }
    }

    /// Given frames are one frame and then whole latent frames, not more than the video has.
    const fn fits(&self, frames: u32) -> bool {
        let ratio = self.latent.temporal_ratio;
        frames > 0 && frames <= self.shape.frames() && (frames - 1).is_multiple_of(ratio)
    }

    fn check_numbers(&self) -> Result<(), ManifestError> {
        if self.max_batch == 0 || self.max_batch > crate::menu::BATCH_MAX {
            return Err(invalid(
                "max_batch",
                &format!("{} is out of range", self.max_batch),
            ));
        }
        if self.scheduler.num_train_timesteps == 0 {
            return Err(invalid("scheduler.num_train_timesteps", "is 0"));
        }
        if self.text.tokens == 0 || self.text.width == 0 {
            return Err(invalid("text", "tokens or width is 0"));
        }
        self.components
            .iter()
            .try_for_each(|(role, component)| self.check_error(*role, component))
    }

    fn check_error(&self, role: Role, component: &Component) -> Result<(), ManifestError> {
        let error = component.max_abs_error;
        let refused = error.is_nan() || error > FLOAT32_ERROR_MAX;
        if self.dtype == Dtype::Float32 && refused {
            let field = format!("components.{role}.max_abs_error");
            return Err(invalid(
                field,
                &format!("{error} is above {FLOAT32_ERROR_MAX}"),
            ));
        }
        Ok(())
    }
}

fn invalid(field: impl Into<String>, reason: &str) -> ManifestError {
    ManifestError::Invalid {
        field: field.into(),
        reason: reason.into(),
    }
}

/// A name that cannot leave the directory that it is joined to.
fn check_name(field: &str, name: &str) -> Result<(), ManifestError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts_well = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts_well && name.len() <= 255 && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(invalid(
            field,
            &format!("`{}` is not a file name", name.escape_debug()),
        ))
    }
}

impl Role {
    /// The encoder that a mode needs for its given frames.
    #[must_use]
    pub const fn encoder_of(mode: Mode) -> Option<Self> {
        match mode {
            Mode::T2v => None,
            Mode::I2v => Some(Self::VaeEncoderI2v),
            Mode::Extend => Some(Self::VaeEncoderExtend),
        }
    }

    /// The name in files and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::Transformer => "transformer",
            Self::VaeDecoder => "vae_decoder",
            Self::VaeEncoderI2v => "vae_encoder_i2v",
            Self::VaeEncoderExtend => "vae_encoder_extend",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Dtype {
    /// The name in files and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
        }
    }
}

impl Device {
    /// The name in files and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}
