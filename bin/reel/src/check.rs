//! `reel check`: what a configuration would serve, without starting anything.

use crate::baker;
use crate::catalog;
use crate::config::Config;
use crate::startup::{self, UsageError};
use reel_bundle::{Cache, State};
use reel_media::Ffmpeg;
use std::io::Write;

/// Prints the models, their shapes and how each stands in the cache.
pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    config.check()?;
    config.scheduler()?;
    let models = catalog::load_models(config)?;
    catalog::catalog(&models)?;
    let devices = startup::find_devices(config)?;
    let worker = startup::find_worker(config)?;
    let ffmpeg = Ffmpeg::locate(config.media.ffmpeg.as_deref()).map_err(UsageError::Ffmpeg)?;
    let cache = Cache::new(config.cache_dir());
    let mut out = std::io::stdout().lock();
    writeln!(out, "listen     {}", config.server.listen)?;
    writeln!(out, "data       {}", config.paths.data_dir.display())?;
    writeln!(out, "cache      {}", cache.root().display())?;
    writeln!(out, "worker     {}", worker.display())?;
    writeln!(out, "ffmpeg     {}", ffmpeg.program().display())?;
    let slots = config
        .pool
        .slots_per_device
        .count(catalog::menu(&models).len());
    for device in &devices {
        writeln!(out, "device     {} with {} slots", device.name, slots)?;
    }
    let needs = baker::requirements(config)?;
    for model in &models {
        writeln!(
            out,
            "model      {} ({})",
            model.menu.name, model.menu.pipeline
        )?;
        for &shape in &model.menu.shapes {
            let state = match cache.state(model, shape, &needs) {
                State::Missing => "not baked yet".to_owned(),
                State::Stale(mismatch) => format!("must be baked again: {mismatch}"),
                State::Ready(bundle) => format!("baked, bundle {}", bundle.id),
            };
            writeln!(out, "  {shape:<14} {state}")?;
        }
    }
    writeln!(out, "the configuration is good")?;
    Ok(())
}
