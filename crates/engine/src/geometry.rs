//! The latent grid: its size, its tokens and where they lie in time and space.

use crate::error::ComputeError;
use reel_bundle::Latent;
use tch::{Kind, Tensor};

/// The latent space of one video.
#[derive(Debug)]
pub struct Geometry {
    /// Channels.
    pub channels: i64,
    /// Latent frames.
    pub frames: i64,
    /// Latent rows.
    pub height: i64,
    /// Latent columns.
    pub width: i64,
    temporal_ratio: i64,
    spatial_ratio: i64,
    mean: Tensor,
    std: Tensor,
    scaling_factor: f64,
}

impl Geometry {
    /// The geometry that a manifest describes.
    #[must_use]
    pub fn new(latent: &Latent, device: tch::Device) -> Self {
        let channels = i64::from(latent.channels);
        let per_channel = |values: &[f32]| {
            Tensor::from_slice(values)
                .view([1, channels, 1, 1, 1])
                .to_device(device)
        };
        Self {
            channels,
            frames: latent.frames.into(),
            height: latent.height.into(),
            width: latent.width.into(),
            temporal_ratio: latent.temporal_ratio.into(),
            spatial_ratio: latent.spatial_ratio.into(),
            mean: per_channel(&latent.mean),
            std: per_channel(&latent.std),
            scaling_factor: latent.scaling_factor.into(),
        }
    }

    /// Tokens of one latent frame.
    #[must_use]
    pub const fn tokens_per_frame(&self) -> i64 {
        self.height * self.width
    }

    /// Tokens of the whole video.
    #[must_use]
    pub const fn tokens(&self) -> i64 {
        self.frames * self.tokens_per_frame()
    }

    /// The size of one video's latents: `[1, channels, frames, height, width]`.
    #[must_use]
    pub const fn size(&self) -> [i64; 5] {
        [1, self.channels, self.frames, self.height, self.width]
    }

    /// Latents as tokens: `[1, c, f, h, w]` to `[1, f * h * w, c]`.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn pack(&self, latents: &Tensor) -> Result<Tensor, ComputeError> {
        Ok(latents.f_flatten(2, 4)?.f_transpose(1, 2)?.f_contiguous()?)
    }

    /// Tokens as latents: `[1, f * h * w, c]` to `[1, c, f, h, w]`.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn unpack(&self, tokens: &Tensor) -> Result<Tensor, ComputeError> {
        Ok(tokens
            .f_transpose(1, 2)?
            .f_contiguous()?
            .f_view(self.size())?)
    }

    /// From the autoencoder's scale to the transformer's. Given frames are not scaled by the factor: the
    /// pipeline does not.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn normalise(&self, latents: &Tensor) -> Result<Tensor, ComputeError> {
        Ok(latents.f_sub(&self.mean)?.f_div(&self.std)?)
    }

    /// From the transformer's scale to the autoencoder's.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn denormalise(&self, latents: &Tensor) -> Result<Tensor, ComputeError> {
        let scaled = latents
            .f_mul(&self.std)?
            .f_div_scalar(self.scaling_factor)?;
        Ok(scaled.f_add(&self.mean)?)
    }

    /// Where each token lies, f32 `[1, 3, tokens]`: seconds, pixel row, pixel column.
    pub fn coordinates(&self, fps: u32) -> Tensor {
        let tokens = (0..self.frames).flat_map(|frame| {
            (0..self.height)
                .flat_map(move |row| (0..self.width).map(move |column| (frame, row, column)))
        });
        let tokens: Vec<_> = tokens.collect();
        let seconds_per_frame = (1.0 / f64::from(fps)) as f32;
        let seconds = tokens
            .iter()
            .map(|token| self.first_frame(token.0) as f32 * seconds_per_frame);
        let rows = tokens
            .iter()
            .map(|token| (token.1 * self.spatial_ratio) as f32);
        let columns = tokens
            .iter()
            .map(|token| (token.2 * self.spatial_ratio) as f32);
        let values: Vec<f32> = seconds.chain(rows).chain(columns).collect();
        Tensor::from_slice(&values)
            .view([1, 3, self.tokens()])
            .to_kind(Kind::Float)
    }

    /// The first frame of a latent frame; the first latent frame holds one frame alone.
    fn first_frame(&self, latent_frame: i64) -> i64 {
        (latent_frame * self.temporal_ratio + 1 - self.temporal_ratio).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry() -> Geometry {
        let latent = Latent {
            channels: 2,
            frames: 3,
            height: 1,
            width: 2,
            temporal_ratio: 4,
            spatial_ratio: 16,
            mean: vec![1.0, 2.0],
            std: vec![2.0, 4.0],
            scaling_factor: 0.5,
        };
        Geometry::new(&latent, tch::Device::Cpu)
    }

    #[test]
    fn tokens_lie_in_frame_row_column_order() {
        let expected = [
            [0.0, 0.0, 0.125, 0.125, 0.625, 0.625],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 16.0, 0.0, 16.0, 0.0, 16.0],
        ];
        let flat: Vec<f32> = expected.concat();
        let got = Vec::<f32>::try_from(geometry().coordinates(8).flatten(0, 2)).unwrap();
        assert_eq!(got, flat);
    }

    #[test]
    fn unpacking_undoes_packing() {
        let geometry = geometry();
        let latents = Tensor::arange(12, (Kind::Float, tch::Device::Cpu)).view(geometry.size());
        let tokens = geometry.pack(&latents).unwrap();
        assert_eq!(tokens.size(), [1, 6, 2]);
        assert_eq!(geometry.unpack(&tokens).unwrap(), latents);
    }

    #[test]
    fn the_scaling_factor_counts_on_the_way_out_only() {
        let geometry = geometry();
        let ones = Tensor::ones(geometry.size(), (Kind::Float, tch::Device::Cpu));
        let value = |tensor: Tensor| f64::try_from(tensor.flatten(0, 4).get(0)).unwrap();
        assert_eq!(value(geometry.normalise(&ones).unwrap()), 0.0);
        assert_eq!(value(geometry.denormalise(&ones).unwrap()), 5.0);
    }
}
