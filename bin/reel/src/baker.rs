//! What the cache offers, and the bakes that run in the background while ready shapes serve.

use crate::bake::{self, Options};
use crate::catalog;
use crate::config::Config;
use crate::startup;
use reel_bundle::{Bundle, Cache, Model, Requirements, State};
use reel_domain::{BundleKey, Mode, Shape};
use reel_supervisor::{BakedBundle, BundleNews, SupervisorHandle};

/// `reel bake`: bakes in the foreground, with progress, and says what it did.
pub(crate) fn run(config: &Config, jobs: Option<u32>) -> anyhow::Result<()> {
    let models = catalog::load_models(config)?;
    let summary = bake::run(
        &Options {
            jobs,
            background: false,
            ..options(config)?
        },
        &models,
    )?;
    if summary.baked.is_empty() {
        eprintln!(
            "nothing to bake: all {} shapes are in {}",
            summary.unchanged.len(),
            config.cache_dir().display()
        );
    }
    Ok(())
}

/// What bundles must be for the devices that the configuration asks for.
pub(crate) fn requirements(config: &Config) -> Result<Requirements, startup::UsageError> {
    let on_cpu = startup::find_devices(config)?
        .iter()
        .all(reel_supervisor::Device::is_cpu);
    Ok(if on_cpu {
        Requirements::cpu()
    } else {
        Requirements::cuda()
    })
}

fn options(config: &Config) -> Result<Options, startup::UsageError> {
    Ok(Options {
        cache: Cache::new(config.cache_dir()),
        python: config.bake.python.clone(),
        needs: requirements(config)?,
        jobs: None,
        background: true,
    })
}

/// Tells the supervisor what the cache offers, then bakes what is missing, in the menu's order. The thread
/// and the bake that it runs end with the process.
pub(crate) fn start(
    config: &Config,
    models: Vec<Model>,
    handle: SupervisorHandle,
) -> anyhow::Result<()> {
    let baker = Baker {
        options: options(config)?,
        models,
        handle,
        disabled: config.bake.disabled,
    };
    std::thread::Builder::new()
        .name("baker".into())
        .spawn(move || baker.run())?;
    Ok(())
}

struct Baker {
    options: Options,
    models: Vec<Model>,
    handle: SupervisorHandle,
    disabled: bool,
}

impl Baker {
    fn run(&self) {
        let missing = self.offer();
        if self.disabled {
            return;
        }
        for (model, shape) in missing {
            self.bake(model, shape);
        }
    }

    /// Offers what is baked; returns what is not.
    fn offer(&self) -> Vec<(&Model, Shape)> {
        let mut missing = Vec::new();
        for model in &self.models {
            for &shape in &model.menu.shapes {
                match self.options.cache.state(model, shape, &self.options.needs) {
                    State::Ready(bundle) => {
                        self.tell(model, shape, BundleNews::Baked(baked(&bundle)));
                    }
                    State::Missing => missing.push((model, shape)),
                    State::Stale(mismatch) => {
                        tracing::info!(%shape, %mismatch, "the bundle must be baked again");
                        missing.push((model, shape));
                    }
                }
            }
        }
        missing
    }

    fn bake(&self, model: &Model, shape: Shape) {
        tracing::info!(model = %model.menu.name, %shape, "baking");
        self.tell(model, shape, BundleNews::Baking { percent: 0 });
        let mut shown = 0;
        let result = bake::bake_shape(&self.options, model, shape, &mut |progress| {
            let percent = (progress.fraction() * 100.0) as u8;
            if percent > shown {
                shown = percent;
                self.tell(model, shape, BundleNews::Baking { percent });
            }
        });
        match result {
            Ok(bundle) => {
                tracing::info!(model = %model.menu.name, %shape, bundle = bundle.id, "baked");
                self.tell(model, shape, BundleNews::Baked(baked(&bundle)));
            }
            Err(error) => {
                tracing::error!(model = %model.menu.name, %shape, "cannot bake: {error}");
                self.tell(
                    model,
                    shape,
                    BundleNews::Failed {
                        reason: error.to_string(),
                    },
                );
            }
        }
    }

    fn tell(&self, model: &Model, shape: Shape, news: BundleNews) {
        let key = BundleKey {
            model: model.menu.name.clone(),
            shape,
        };
        self.handle.blocking_bundle(key, news);
    }
}

fn extend_frames(bundle: &Bundle) -> Option<u32> {
    let extends = bundle.manifest.modes.contains(&Mode::Extend);
    extends.then_some(bundle.manifest.conditioning.extend)
}

fn baked(bundle: &Bundle) -> BakedBundle {
    BakedBundle {
        id: bundle.id.clone(),
        dir: bundle.dir.clone(),
        modes: bundle.manifest.modes.clone(),
        extend_frames: extend_frames(bundle),
        weights_bytes: bundle.manifest.weights_bytes(),
    }
}
