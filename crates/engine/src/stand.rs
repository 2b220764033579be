//! Where a video stands between two steps: all that cannot be computed again from its item.
//!
//! The sampler (flow-match Euler) draws no noise after the first latents, so latents and step are its whole state.
//!
//! ```text
//! saved: given latent frames u32 | latents f32 [tokens, channels]      little endian
//! ```

use crate::error::ComputeError;
use crate::geometry::Geometry;
use reel_protocol::Saved;
use tch::{Device, Kind, Tensor};

const FRAMES_BYTES: usize = 4;
const FLOAT_BYTES: usize = 4;

/// What a step changes, and what it must leave alone.
#[derive(Debug)]
pub(crate) struct Stand {
    /// Tokens, f32 `[1, tokens, channels]`.
    pub(crate) latents: Tensor,
    /// Latent frames, counted from the first, that are given and stay as they are.
    pub(crate) given_frames: usize,
    /// Steps taken.
    pub(crate) step: usize,
}

impl Stand {
    /// Bytes of a saved one.
    pub(crate) const fn bytes(geometry: &Geometry) -> u64 {
        let values = geometry.tokens() * geometry.channels;
        (FRAMES_BYTES + values as usize * FLOAT_BYTES) as u64
    }

    pub(crate) fn save(&self, state: &mut Vec<u8>) -> Result<(), ComputeError> {
        let latents = self.latents.f_to_device(Device::Cpu)?.f_contiguous()?;
        let values = latents.numel();
        state.extend((self.given_frames as u32).to_le_bytes());
        let begin = state.len();
        state.resize(begin + values * FLOAT_BYTES, 0);
        latents.f_copy_data_u8(&mut state[begin..], values)?;
        Ok(())
    }

    /// `None`: the state is not one of this geometry.
    pub(crate) fn restore(saved: &Saved, geometry: &Geometry, device: Device) -> Option<Self> {
        if saved.state.len() as u64 != Self::bytes(geometry) {
            return None;
        }
        let (frames, latents) = saved.state.split_first_chunk()?;
        let given_frames = u32::from_le_bytes(*frames) as usize;
        let size = [1, geometry.tokens(), geometry.channels];
        let latents = Tensor::f_from_data_size(latents, &size, Kind::Float).ok()?;
        (given_frames as i64 <= geometry.frames).then_some(())?;
        Some(Self {
            latents: latents.f_to_device(device).ok()?,
            given_frames,
            step: saved.step as usize,
        })
    }
}
