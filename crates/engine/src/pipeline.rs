//! The pipeline behind the worker's `Engine` trait: what diffusers' `LTXConditionPipeline` does, step by step.

use crate::canary;
use crate::error::ComputeError;
use crate::frames;
use crate::geometry::Geometry;
use crate::noise::Noise;
use crate::package::Package;
use crate::run::{Run, TextCondition};
use crate::runtime::Runtime;
use crate::schedule::Schedule;
use crate::stand::Stand;
use crate::tokenizer::PromptTokenizer;
use reel_bundle::{Bundle, Role};
use reel_domain::Mode;
use reel_protocol::{Canary, Capabilities, Item, Saved};
use reel_worker::{Engine, EngineError};
use tch::{Kind, Tensor};

/// Bounds of an autoencoder's log variance (diffusers' `DiagonalGaussianDistribution`).
const LOG_VARIANCE: (f64, f64) = (-30.0, 20.0);

/// A loaded bundle.
#[derive(Debug)]
pub struct NativeEngine {
    pub(crate) bundle: Bundle,
    pub(crate) packages: Packages,
    pub(crate) tokenizer: PromptTokenizer,
    pub(crate) geometry: Geometry,
    pub(crate) kind: Kind,
    pub(crate) runtime: Runtime,
}

/// The packages of a bundle by role.
#[derive(Debug)]
pub(crate) struct Packages {
    pub(crate) text_encoder: Package,
    pub(crate) transformer: Package,
    pub(crate) vae_decoder: Package,
    pub(crate) vae_encoder_i2v: Option<Package>,
    pub(crate) vae_encoder_extend: Option<Package>,
}

impl Packages {
    pub(crate) const fn encoder(&self, role: Role) -> Option<&Package> {
        match role {
            Role::VaeEncoderI2v => self.vae_encoder_i2v.as_ref(),
            Role::VaeEncoderExtend => self.vae_encoder_extend.as_ref(),
            Role::TextEncoder | Role::Transformer | Role::VaeDecoder => None,
        }
    }
}

impl Engine for NativeEngine {
    type Run = Run;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: format!(
                "native {} (libtorch {})",
                env!("CARGO_PKG_VERSION"),
                reel_bundle::TORCH
            ),
            max_batch: self.bundle.manifest.max_batch,
            continuous: true,
            pausable: true,
            videos: false,
        }
    }

    fn bundle_id(&self) -> &str {
        &self.bundle.id
    }

    fn canary(&mut self) -> Result<Canary, EngineError> {
        self.runtime.enter();
        let got = canary::compute(self)?;
        self.runtime.trim();
        Ok(Canary {
            expected: self.bundle.manifest.canary.value,
            got,
        })
    }

    fn video_bytes(&self) -> usize {
        self.bundle.manifest.shape.video_bytes() as usize
    }

    fn frame_bytes(&self) -> usize {
        self.bundle.manifest.shape.frame_bytes() as usize
    }

    fn begin(&mut self, item: &Item, given: &[u8]) -> Result<Run, EngineError> {
        self.runtime.enter();
        let mode = self.check(item, given)?;
        let (latents, given_frames) = self.prepare_latents(item.seed, mode, given)?;
        let stand = Stand {
            latents,
            given_frames,
            step: 0,
        };
        self.run(item, stand)
    }

    fn state_bytes(&self) -> u64 {
        Stand::bytes(&self.geometry)
    }

    fn save(&mut self, run: &Run, state: &mut Vec<u8>) -> Result<(), EngineError> {
        Ok(run.stand.save(state)?)
    }

    fn resume(&mut self, item: &Item, saved: &Saved) -> Result<Run, EngineError> {
        self.runtime.enter();
        let stand = Stand::restore(saved, &self.geometry, self.runtime.device)
            .filter(|stand| stand.step <= item.steps as usize)
            .ok_or_else(|| EngineError::checkpoint("the checkpoint is of another shape"))?;
        self.run(item, stand)
    }

    fn step(&mut self, runs: &mut [&mut Run]) -> Result<(), EngineError> {
        self.runtime.enter();
        for batch in runs.chunks_mut(self.bundle.manifest.max_batch as usize) {
            self.step_batch(batch)?;
        }
        Ok(())
    }

    fn progress(&self, run: &Run) -> (u32, u32) {
        (run.stand.step as u32, run.schedule.steps() as u32)
    }

    fn decode(&mut self, run: Run, frames: &mut [u8]) -> Result<(), EngineError> {
        self.runtime.enter();
        let latents = self
            .geometry
            .denormalise(&self.geometry.unpack(&run.stand.latents)?)?;
        let latents = latents.f_to_kind(self.kind).map_err(ComputeError::from)?;
        let video = self.packages.vae_decoder.run(&[&latents])?;
        frames::from_video(&video, frames)?;
        drop(video);
        self.runtime.trim();
        Ok(())
    }
}

impl NativeEngine {
    fn check(&self, item: &Item, given: &[u8]) -> Result<Mode, EngineError> {
        let (mode, manifest) = (mode(item.mode), &self.bundle.manifest);
        if !manifest.modes.contains(&mode) {
            return Err(EngineError::soft(format!(
                "mode {mode} is not served by bundle {}",
                self.bundle.id
            )));
        }
        let expected = manifest.conditioning.frames(mode);
        if item.conditioning_frames != expected
            || given.len() != expected as usize * self.frame_bytes()
        {
            let (frames, bytes) = (item.conditioning_frames, given.len());
            let message =
                format!("mode {mode} takes {expected} given frames, got {frames} in {bytes} bytes");
            return Err(EngineError::soft(message));
        }
        if item.steps == 0 || item.fps == 0 {
            return Err(EngineError::soft(format!(
                "{} steps at {} fps",
                item.steps, item.fps
            )));
        }
        Ok(mode)
    }

    /// What a video needs beside where it stands follows from the item.
    fn run(&self, item: &Item, stand: Stand) -> Result<Run, EngineError> {
        let guided = item.guidance > 1.0;
        let negative = guided
            .then(|| self.encode_prompt(&item.negative_prompt))
            .transpose()?;
        Ok(Run {
            stand,
            prompt: self.encode_prompt(&item.prompt)?,
            negative,
            guidance: item.guidance.into(),
            coordinates: self
                .geometry
                .coordinates(item.fps)
                .to_device(self.runtime.device),
            schedule: Schedule::new(item.steps as usize, &self.bundle.manifest.scheduler),
        })
    }

    fn encode_prompt(&self, prompt: &str) -> Result<TextCondition, EngineError> {
        let tokens = self.tokenizer.tokens(prompt)?;
        let [ids, mask] =
            [tokens.ids, tokens.mask].map(|tensor| tensor.to_device(self.runtime.device));
        Ok(TextCondition {
            embeddings: self.packages.text_encoder.run(&[&ids, &mask])?,
            mask,
        })
    }

    /// Noise as tokens, with the given frames in place of the first latent frames; and how many those are.
    fn prepare_latents(
        &self,
        seed: u64,
        mode: Mode,
        given: &[u8],
    ) -> Result<(Tensor, usize), ComputeError> {
        let mut noise = Noise::seeded(seed, self.runtime.device);
        let latents = noise.draw(&self.geometry.size(), Kind::Float)?;
        let Some(encoder) = Role::encoder_of(mode).and_then(|role| self.packages.encoder(role))
        else {
            return Ok((self.geometry.pack(&latents)?, 0));
        };
        let condition = self.encode_frames(encoder, given, &mut noise)?;
        let frames = condition.size()[2];
        latents.f_narrow(2, 0, frames)?.f_copy_(&condition)?;
        Ok((self.geometry.pack(&latents)?, frames as usize))
    }

    /// Latents of given frames, on the transformer's scale: `[1, c, f, h, w]`.
    fn encode_frames(
        &self,
        encoder: &Package,
        given: &[u8],
        noise: &mut Noise,
    ) -> Result<Tensor, ComputeError> {
        let shape = self.bundle.manifest.shape;
        let video = frames::to_video(
            given,
            shape.height().into(),
            shape.width().into(),
            self.kind,
        )?;
        let moments = encoder.run(&[&video.f_to_device(self.runtime.device)?])?;
        let channels = self.geometry.channels;
        let (mean, spread) = (
            moments.f_narrow(1, 0, channels)?,
            moments.f_narrow(1, channels, channels)?,
        );
        let deviation = spread
            .f_clamp(LOG_VARIANCE.0, LOG_VARIANCE.1)?
            .f_mul_scalar(0.5)?
            .f_exp()?;
        let sample = mean.f_add(&deviation.f_mul(&noise.draw(&mean.size(), self.kind)?)?)?;
        Ok(self.geometry.normalise(&sample)?.f_to_kind(Kind::Float)?)
    }

    /// One call of the transformer for several runs, each at its own timestep.
    fn step_batch(&self, runs: &mut [&mut Run]) -> Result<(), ComputeError> {
        let velocity = self.velocity(runs)?;
        let mut row = 0;
        for run in runs {
            let rows = run.rows().count() as i64;
            run.advance(&velocity.f_narrow(0, row, rows)?, &self.geometry)?;
            row += rows;
        }
        Ok(())
    }

    /// The velocity of every row of every run: `[rows, tokens, channels]`.
    fn velocity(&self, runs: &[&mut Run]) -> Result<Tensor, ComputeError> {
        let (mut latents, mut embeddings, mut masks) = (vec![], vec![], vec![]);
        let (mut timesteps, mut coordinates) = (vec![], vec![]);
        for run in runs {
            for text in run.rows() {
                latents.push(&run.stand.latents);
                embeddings.push(&text.embeddings);
                masks.push(&text.mask);
                timesteps.extend(run.timesteps(self.geometry.frames));
                coordinates.push(&run.coordinates);
            }
        }
        let timesteps = Tensor::f_from_slice(&timesteps)?.f_view([-1, self.geometry.frames])?;
        self.packages.transformer.run(&[
            &Tensor::f_cat(&latents, 0)?.f_to_kind(self.kind)?,
            &Tensor::f_cat(&embeddings, 0)?,
            &Tensor::f_cat(&masks, 0)?,
            &timesteps.f_to_device(self.runtime.device)?,
            &Tensor::f_cat(&coordinates, 0)?,
        ])
    }
}

const fn mode(mode: reel_protocol::Mode) -> Mode {
    match mode {
        reel_protocol::Mode::T2v => Mode::T2v,
        reel_protocol::Mode::I2v => Mode::I2v,
        reel_protocol::Mode::Extend => Mode::Extend,
    }
}
