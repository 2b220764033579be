//! Seeded noise, drawn as diffusers draws it: on the CPU, from one generator, in one order.

use crate::error::ComputeError;
use tch::{Device, Kind, Tensor};

/// A seeded stream of normal numbers. There is one generator in the process, so only one stream may be in use.
#[derive(Debug)]
pub struct Noise {
    device: Device,
}

impl Noise {
    /// A stream that begins at the seed; what it draws ends up on `device`.
    #[must_use]
    pub fn seeded(seed: u64, device: Device) -> Self {
        // Seeds are limited to 63 bits where they are validated.
        tch::manual_seed(seed as i64);
        Self { device }
    }

    /// The next normal numbers of the stream.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn draw(&mut self, size: &[i64], kind: Kind) -> Result<Tensor, ComputeError> {
        Ok(Tensor::f_randn(size, (kind, Device::Cpu))?.f_to_device(self.device)?)
    }
}
