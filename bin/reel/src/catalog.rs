//! The models of a deployment: read once at the start, then unchanged.

use crate::config::Config;
use crate::startup::UsageError;
use reel_bundle::{Cache, Model};
use reel_domain::{BundleKey, Fps, Guidance, Prompt, Steps};
use reel_pool::{Catalog, Defaults, ModelEntry};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// The built-in model's place under a share directory or a checkout.
const BUILT_IN: &str = "models/tiny-shapes";

/// Reads every configured model, the default one first.
pub(crate) fn load_models(config: &Config) -> anyhow::Result<Vec<Model>> {
    let cache = Cache::new(config.cache_dir());
    let paths: Vec<PathBuf> = match config.models.as_slice() {
        [] => vec![built_in()],
        models => models.iter().map(|model| model.path.clone()).collect(),
    };
    paths.iter().map(|path| load_model(path, &cache)).collect()
}

fn load_model(path: &std::path::Path, cache: &Cache) -> anyhow::Result<Model> {
    let menu = reel_bundle::Menu::load(path).map_err(|source| UsageError::Model {
        path: path.into(),
        source: Box::new(source),
    })?;
    let memo = cache.memo(menu.name.as_str());
    Ok(
        Model::load(path, Some(&memo)).map_err(|source| UsageError::Model {
            path: path.into(),
            source: Box::new(source),
        })?,
    )
}

/// Installed beside the program (`../share/reel`), or in the checkout that the program was built from.
fn built_in() -> PathBuf {
    let installed = std::env::current_exe()
        .ok()
        .and_then(|program| {
            Some(
                program
                    .parent()?
                    .parent()?
                    .join("share/reel")
                    .join(BUILT_IN),
            )
        })
        .filter(|path| path.is_dir());
    installed.unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(BUILT_IN)
    })
}

/// What the gateway may know of the models.
pub(crate) fn catalog(models: &[Model]) -> anyhow::Result<Catalog> {
    let entries = models
        .iter()
        .map(entry)
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Catalog::new(entries).map_err(|error| UsageError::Value(error.to_string()))?)
}

/// Every bundle that the deployment serves, in the order of the menus.
pub(crate) fn menu(models: &[Model]) -> Vec<BundleKey> {
    let keys = |model: &Model| {
        let name = model.menu.name.clone();
        let shapes = model.menu.shapes.clone();
        shapes.into_iter().map(move |shape| BundleKey {
            model: name.clone(),
            shape,
        })
    };
    models.iter().flat_map(keys).collect()
}

fn entry(model: &Model) -> anyhow::Result<ModelEntry> {
    let menu = &model.menu;
    let defaults = &menu.defaults;
    let wrong = |what: &str, error: &dyn std::fmt::Display| {
        let path = model.dir.join("model.toml");
        UsageError::Value(format!("{}: defaults.{what}: {error}", path.display()))
    };
    Ok(ModelEntry {
        name: menu.name.clone(),
        description: menu.description.clone(),
        shapes: menu.shapes.clone(),
        modes: menu.modes.clone(),
        defaults: Defaults {
            shape: defaults.shape,
            fps: Fps::new(defaults.fps).map_err(|error| wrong("fps", &error))?,
            steps: Steps::new(defaults.num_inference_steps)
                .map_err(|error| wrong("num_inference_steps", &error))?,
            guidance: Guidance::new(defaults.guidance_scale)
                .map_err(|error| wrong("guidance_scale", &error))?,
            negative_prompt: Prompt::optional(defaults.negative_prompt.clone())
                .map_err(|error| wrong("negative_prompt", &error))?,
        },
        created_at_s: created_at_s(model),
    })
}

fn created_at_s(model: &Model) -> u64 {
    let modified =
        std::fs::metadata(model.dir.join("model_index.json")).and_then(|file| file.modified());
    let since = modified
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}
