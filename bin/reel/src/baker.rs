//! What the cache offers, and the bakes that run in the background while ready shapes serve.

use crate::config::Config;
use reel_bundle::{Bundle, Cache, Model, Requirements, State};
use reel_domain::{BundleKey, Shape};
use reel_supervisor::{BakedBundle, BundleNews, SupervisorHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The thread that bakes.
#[derive(Debug)]
pub(crate) struct Baker {
    stopped: Arc<AtomicBool>,
}

impl Baker {
    /// Begins no further bake; one that runs ends with this process.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Tells the supervisor what the cache offers, then bakes what is missing, in the menu's order.
pub(crate) fn start(config: &Config, models: Vec<Model>, handle: SupervisorHandle) -> Baker {
    let stopped = Arc::new(AtomicBool::new(false));
    let work = Work {
        cache: Cache::new(config.cache_dir()),
        models,
        handle,
        stopped: Arc::clone(&stopped),
    };
    std::thread::spawn(move || work.run());
    Baker { stopped }
}

struct Work {
    cache: Cache,
    models: Vec<Model>,
    handle: SupervisorHandle,
    stopped: Arc<AtomicBool>,
}

impl Work {
    fn run(self) {
        let needs = Requirements::cpu();
        for model in &self.models {
            for &shape in &model.menu.shapes {
                let news = match self.cache.state(model, shape, &needs) {
                    State::Ready(bundle) => BundleNews::Baked(baked(&bundle)),
                    State::Missing | State::Stale(_) => BundleNews::Unbaked,
                };
                self.tell(model, shape, news);
            }
        }
        let _ = self.stopped;
    }

    fn tell(&self, model: &Model, shape: Shape, news: BundleNews) {
        let key = BundleKey {
            model: model.menu.name.clone(),
            shape,
        };
        self.handle.blocking_bundle(key, news);
    }
}

fn baked(bundle: &Bundle) -> BakedBundle {
    BakedBundle {
        id: bundle.id.clone(),
        dir: bundle.dir.clone(),
        modes: bundle.manifest.modes.clone(),
    }
}
