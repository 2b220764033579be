//! A seeded run through every package, reduced to one number. `reel_bake/canary.py` computes the same.

use crate::error::ComputeError;
use crate::noise::Noise;
use crate::pipeline::NativeEngine;
use crate::run::TextCondition;
use reel_bundle::Role;
use reel_domain::Mode;
use tch::{Kind, Tensor};

const FPS: u32 = 24;
const TIMESTEP: f64 = 500.0;

/// Computes the number: the mean sizes of the velocity of one step from noise, of its decoded video, and of
/// the latents of that video's first frames, added up.
///
/// # Errors
/// When a package cannot run.
pub fn compute(engine: &NativeEngine) -> Result<f32, ComputeError> {
    let geometry = &engine.geometry;
    let velocity = step(engine)?;
    let video = engine
        .packages
        .vae_decoder
        .run(&[&geometry.unpack(&velocity)?])?;
    let mut value = mean_size(&velocity)? + mean_size(&video)?;
    for mode in [Mode::I2v, Mode::Extend] {
        if let Some(encoder) = Role::encoder_of(mode).and_then(|role| engine.packages.encoder(role))
        {
            let frames = engine.bundle.manifest.conditioning.frames(mode);
            let moments =
                encoder.run(&[&video.f_narrow(2, 0, frames.into())?.f_contiguous()?])?;
            value += mean_size(&moments.f_narrow(1, 0, geometry.channels)?)?;
        }
    }
    Ok(value as f32)
}

fn step(engine: &NativeEngine) -> Result<Tensor, ComputeError> {
    let (geometry, device) = (&engine.geometry, engine.runtime.device);
    let padding = padding(engine)?;
    let mut noise = Noise::seeded(engine.bundle.manifest.canary.seed, device);
    let latents = noise
        .draw(&[1, geometry.tokens(), geometry.channels], Kind::Float)?
        .f_to_kind(engine.kind)?;
    let timesteps = Tensor::f_full([1, geometry.frames], TIMESTEP, (Kind::Float, device))?;
    let coordinates = geometry.coordinates(FPS).f_to_device(device)?;
    engine.packages.transformer.run(&[
        &latents,
        &padding.embeddings,
        &padding.mask,
        &timesteps,
        &coordinates,
    ])
}

/// A prompt of nothing but padding, all of it attended to.
fn padding(engine: &NativeEngine) -> Result<TextCondition, ComputeError> {
    let (text, device) = (&engine.bundle.manifest.text, engine.runtime.device);
    let size = [1, i64::from(text.tokens)];
    let ids = Tensor::f_full(size, i64::from(text.pad_id), (Kind::Int64, device))?;
    let mask = Tensor::f_ones(size, (Kind::Bool, device))?;
    Ok(TextCondition {
        embeddings: engine.packages.text_encoder.run(&[&ids, &mask])?,
        mask,
    })
}

fn mean_size(tensor: &Tensor) -> Result<f64, ComputeError> {
    Ok(tensor
        .f_to_kind(Kind::Double)?
        .f_abs()?
        .f_mean(Kind::Double)?
        .f_double_value(&[])?)
}
