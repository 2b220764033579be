//! Pixels on both ends of the autoencoder.

use crate::error::ComputeError;
use tch::{Kind, Tensor};

/// Given frames for the autoencoder: 8-bit RGB `[frames, height, width, 3]` to `[1, 3, frames, height, width]`
/// in -1..1.
///
/// # Errors
/// When `bytes` has another size.
pub fn to_video(bytes: &[u8], height: i64, width: i64, kind: Kind) -> Result<Tensor, ComputeError> {
    let pixels = Tensor::f_from_slice(bytes)?.f_view([1, -1, height, width, 3])?;
    let unit = pixels.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
    let video = unit.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?;
    Ok(video
        .f_permute([0, 4, 1, 2, 3])?
        .f_contiguous()?
        .f_to_kind(kind)?)
}

/// The autoencoder's video as 8-bit RGB: `[1, 3, frames, height, width]` in -1..1 fills
/// `[frames, height, width, 3]`.
///
/// # Errors
/// When `bytes` has another size.
pub fn from_video(video: &Tensor, bytes: &mut [u8]) -> Result<(), ComputeError> {
    let unit = video
        .f_to_kind(Kind::Float)?
        .f_mul_scalar(0.5)?
        .f_add_scalar(0.5)?
        .f_clamp(0.0, 1.0)?;
    let pixels = unit
        .f_mul_scalar(255.0)?
        .f_round()?
        .f_to_kind(Kind::Uint8)?;
    let pixels = pixels
        .f_squeeze_dim(0)?
        .f_permute([1, 2, 3, 0])?
        .f_contiguous()?
        .f_to_device(tch::Device::Cpu)?;
    Ok(pixels.f_copy_data_u8(bytes, bytes.len())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_survive_the_way_to_the_autoencoder_and_back() {
        let bytes: Vec<u8> = (0..2 * 2 * 3 * 3).map(|value| (value * 7) as u8).collect();
        let video = to_video(&bytes, 2, 3, Kind::Float).unwrap();
        assert_eq!(video.size(), [1, 3, 2, 2, 3]);
        let mut back = vec![0; bytes.len()];
        from_video(&video, &mut back).unwrap();
        assert_eq!(back, bytes);
    }

    #[test]
    fn values_beyond_the_range_are_cut() {
        let video = Tensor::from_slice(&[-3.0_f32, 0.0, 3.0]).view([1, 3, 1, 1, 1]);
        let mut bytes = [0; 3];
        from_video(&video, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 128, 255]);
    }
}
