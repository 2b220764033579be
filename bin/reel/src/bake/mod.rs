//! `reel bake`: compiles what the menus need and the cache lacks.
//!
//! The work is done by `python -m reel_bake`, a fresh process for each shape, which reports events as lines
//! of JSON; here they become progress, results and errors.

mod child;
mod events;
mod progress;

use reel_bundle::{Bundle, BundleError, Cache, Device, Dtype, Model, Requirements, State};
use reel_domain::Shape;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

pub(crate) use events::Progress;

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/bin/python");
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");

/// How to bake.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Where bundles and weights go.
    pub(crate) cache: Cache,
    /// The Python that has torch; `None`: the one of the checkout that this program was built from.
    pub(crate) python: Option<PathBuf>,
    /// What bundles must be to serve here.
    pub(crate) needs: Requirements,
    /// Components that are compiled at a time; `None`: two, or one on a single core.
    pub(crate) jobs: Option<u32>,
    /// Yield to everything else on the machine (nice(2)); for bakes beside a server.
    pub(crate) background: bool,
}

/// What a bake did.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Summary {
    /// Shapes that were baked, and how long each took.
    pub(crate) baked: Vec<(Shape, Duration)>,
    /// Shapes that were there already.
    pub(crate) unchanged: Vec<Shape>,
}

/// A shape cannot be baked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BakeError {
    /// The bake's program cannot be started.
    #[error("cannot start {}: {source}; run `make setup`, or name a Python that has torch", python.display())]
    Start {
        /// The program.
        python: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bake says why it failed.
    #[error("{shape}{}: {message}; {fix}", of(component.as_deref()))]
    Refused {
        /// Which shape.
        shape: Shape,
        /// Which component, when it is one.
        component: Option<String>,
        /// What is wrong.
        message: String,
        /// What would help.
        fix: String,
    },
    /// The bake ended without saying why.
    #[error("{shape}: the bake ended with {status}; its last words:\n{tail}")]
    Died {
        /// Which shape.
        shape: Shape,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to stderr.
        tail: String,
    },
    /// The bake's program cannot be listened to.
    #[error("{shape}: lost the bake: {source}")]
    Lost {
        /// Which shape.
        shape: Shape,
        /// Why.
        source: io::Error,
    },
    /// What was published cannot be read.
    #[error("{shape}: the published bundle cannot be used: {source}")]
    Published {
        /// Which shape.
        shape: Shape,
        /// Why.
        source: BundleError,
    },
}

fn of(component: Option<&str>) -> String {
    component
        .map(|name| format!(", {name}"))
        .unwrap_or_default()
}

/// Bakes every shape of the menus that is missing or stale, with a bar for each on the terminal.
///
/// # Errors
/// The first shape that cannot be baked.
pub(crate) fn run(options: &Options, models: &[Model]) -> Result<Summary, BakeError> {
    let mut summary = Summary::default();
    for model in models {
        for &shape in &model.menu.shapes {
            bake_missing(options, model, shape, &mut summary)?;
        }
    }
    Ok(summary)
}

fn bake_missing(
    options: &Options,
    model: &Model,
    shape: Shape,
    summary: &mut Summary,
) -> Result<(), BakeError> {
    let bar = progress::Bar::new(&model.menu.name, shape);
    if let State::Ready(bundle) = options.cache.state(model, shape, &options.needs) {
        bar.unchanged(&bundle.id);
        summary.unchanged.push(shape);
        return Ok(());
    }
    let started = Instant::now();
    let bundle = bake_shape(options, model, shape, &mut |progress| bar.show(progress))?;
    bar.baked(&bundle.id);
    summary.baked.push((shape, started.elapsed()));
    Ok(())
}

/// Bakes one shape and returns its bundle. Blocks until it is done; the bake dies with the calling thread.
///
/// # Errors
/// See [`BakeError`].
pub(crate) fn bake_shape(
    options: &Options,
    model: &Model,
    shape: Shape,
    show: &mut dyn FnMut(&Progress),
) -> Result<Bundle, BakeError> {
    let dir = child::bake(options, model, shape, show)?;
    Bundle::open(&dir).map_err(|source| BakeError::Published { shape, source })
}

impl Options {
    /// The Python that bakes.
    fn python(&self) -> &Path {
        self.python.as_deref().unwrap_or(Path::new(PYTHON))
    }

    /// Where `reel_bake` lies: installed beside this program, or in the checkout that it was built from.
    fn packages() -> PathBuf {
        let program = std::env::current_exe().ok();
        let prefix = program
            .as_deref()
            .and_then(Path::parent)
            .and_then(Path::parent);
        let installed = prefix.map(|prefix| prefix.join("share/reel/python"));
        installed
            .filter(|path| path.is_dir())
            .unwrap_or_else(|| PACKAGES.into())
    }

    const fn device(&self) -> Device {
        self.needs.device
    }

    const fn dtype(&self) -> Dtype {
        self.needs.dtype
    }
}
