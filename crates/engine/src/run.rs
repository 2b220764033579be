//! The state of one attempt between two steps.

use crate::error::ComputeError;
use crate::geometry::Geometry;
use crate::schedule::Schedule;
use crate::stand::Stand;
use tch::{Kind, Tensor};

/// One video on its way from noise to latents.
#[derive(Debug)]
pub struct Run {
    /// Where it stands.
    pub(crate) stand: Stand,
    /// What to show.
    pub(crate) prompt: TextCondition,
    /// What to steer away from; absent without guidance.
    pub(crate) negative: Option<TextCondition>,
    /// Strength of the guidance.
    pub(crate) guidance: f64,
    /// Where the tokens lie, f32 `[1, 3, tokens]`.
    pub(crate) coordinates: Tensor,
    /// The steps to take.
    pub(crate) schedule: Schedule,
}

/// An encoded prompt.
#[derive(Debug)]
pub(crate) struct TextCondition {
    /// `[1, text_tokens, width]`.
    pub(crate) embeddings: Tensor,
    /// bool `[1, text_tokens]`.
    pub(crate) mask: Tensor,
}

impl Run {
    /// The prompts of the rows that this run takes up: the one to steer away from comes first.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &TextCondition> {
        self.negative.iter().chain([&self.prompt])
    }

    /// The timestep of each latent frame; given frames are free of noise.
    pub(crate) fn timesteps(&self, frames: i64) -> Vec<f32> {
        let timestep = self.schedule.timestep(self.stand.step);
        (0..frames as usize)
            .map(|frame| {
                if frame < self.stand.given_frames {
                    0.0
                } else {
                    timestep
                }
            })
            .collect()
    }

    /// Moves the latents along the velocity, `[rows, tokens, channels]`, that was computed for this run.
    pub(crate) fn advance(
        &mut self,
        velocity: &Tensor,
        geometry: &Geometry,
    ) -> Result<(), ComputeError> {
        let velocity = self.guided(velocity)?.f_to_kind(Kind::Float)?;
        let strides: Vec<f32> = self
            .timesteps(geometry.frames)
            .iter()
            .map(|timestep| self.schedule.stride(*timestep))
            .collect();
        let strides = Tensor::f_from_slice(&strides)?.f_to_device(velocity.device())?;
        let strides = strides
            .f_repeat_interleave_self_int(geometry.tokens_per_frame(), 0, geometry.tokens())?
            .f_view([1, -1, 1])?;
        self.stand.latents = self.stand.latents.f_sub(&strides.f_mul(&velocity)?)?;
        self.stand.step += 1;
        Ok(())
    }

    fn guided(&self, velocity: &Tensor) -> Result<Tensor, ComputeError> {
        if self.negative.is_none() {
            return Ok(velocity.shallow_clone());
        }
        let [away, towards] = [velocity.f_narrow(0, 0, 1)?, velocity.f_narrow(0, 1, 1)?];
        Ok(away.f_add(&towards.f_sub(&away)?.f_mul_scalar(self.guidance)?)?)
    }
}
