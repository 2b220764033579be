//! Where everything lies, and whether a shape is missing, stale or ready.

use crate::digest::Digest;
use crate::environment::{Host, Mismatch};
use crate::manifest::{self, Component, Device, Dtype, FileEntry, Manifest, ManifestError};
use crate::model::Model;
use crate::{RECIPE, SCHEMA};
use reel_domain::{BundleKey, ModelName, Shape};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Hexadecimal digits of a bundle's name.
pub const ID_DIGITS: usize = 16;

/// A cache of bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

/// A bundle whose manifest was read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Its name: the first digits of its manifest's digest.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
}

/// What a bundle must be to serve here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirements {
    /// The kind of device.
    pub device: Device,
    /// The type of weights and activations.
    pub dtype: Dtype,
    /// What is known about the machine.
    pub host: Host,
}

/// Whether a shape of a model can be served.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It was never baked.
    Missing,
    /// It was baked, but for something else.
    Stale(Mismatch),
    /// It can be served.
    Ready(Box<Bundle>),
}

/// A bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its manifest cannot be used.
    #[error("{path}: {source}")]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// Its directory's name is not the digest of its manifest.
    #[error("{dir}: bundle_id is {found}, expected {expected}")]
    Id {
        /// Which bundle.
        dir: PathBuf,
        /// The digest of its manifest.
        expected: String,
        /// Its name.
        found: String,
    },
    /// One of its files is not the one that its manifest names.
    #[error("{path}: {field} is {found}, expected {expected}")]
    File {
        /// Which file.
        path: PathBuf,
        /// `bytes` or `sha256`.
        field: &'static str,
        /// What the manifest says.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl Requirements {
    /// What a CPU slot of this machine needs.
    #[must_use]
    pub fn cpu() -> Self {
        Self::on(Device::Cpu)
    }

    /// What a slot on a GPU of this machine needs. The GPU itself is compared by the worker that opens it.
    #[must_use]
    pub fn cuda() -> Self {
        Self::on(Device::Cuda)
    }

    fn on(device: Device) -> Self {
        Self {
            device,
            dtype: Dtype::Float32,
            host: Host::detect(),
        }
    }
}

impl Cache {
    /// A cache in a directory, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a model's weights lie, for all shapes.
    #[must_use]
    pub fn weights_dir(&self, model: &ModelName) -> PathBuf {
        self.root.join("weights").join(model.as_str())
    }

    /// Where the bundles of a model at a shape lie.
    #[must_use]
    pub fn shape_dir(&self, model: &ModelName, shape: Shape) -> PathBuf {
        self.root
            .join("per-shape")
            .join(model.as_str())
            .join(shape.to_string())
    }

    /// The bundle that is served, as the link names it.
    #[must_use]
    pub fn current(&self, key: &BundleKey) -> PathBuf {
        self.shape_dir(&key.model, key.shape).join("current")
    }

    /// Where the digests of a model's files are remembered.
    #[must_use]
    pub fn memo(&self, model: &str) -> PathBuf {
        self.root.join("digests").join(format!("{model}.json"))
    }

    /// Whether a shape of a model can be served here.
    ///
    /// Reads the manifest and looks at the sizes of the files it names; their contents are verified by the
    /// worker that loads them.
    #[must_use]
    pub fn state(&self, model: &Model, shape: Shape, needs: &Requirements) -> State {
        let link = self.shape_dir(&model.menu.name, shape).join("current");
        let Ok(dir) = fs::canonicalize(&link) else {
            return State::Missing;
        };
        let bundle = match Bundle::open(&dir) {
            Ok(bundle) => bundle,
            Err(error) => return State::Stale(unreadable(&error)),
        };
        match bundle
            .check(model, shape, needs)
            .and_then(|()| self.check_files(&bundle))
        {
            Ok(()) => State::Ready(Box::new(bundle)),
            Err(mismatch) => State::Stale(mismatch),
        }
    }

    fn check_files(&self, bundle: &Bundle) -> Result<(), Mismatch> {
        bundle.check_sizes(self).map_err(|error| {
            Mismatch::new("files", "as the manifest names them", error.to_string())
        })
    }
}

fn unreadable(error: &BundleError) -> Mismatch {
    Mismatch::new(
        "manifest",
        format!("schema {SCHEMA}, complete"),
        error.to_string(),
    )
}

impl Bundle {
    /// Reads a bundle's manifest and checks it in itself and against the directory's name.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn open(dir: &Path) -> Result<Self, BundleError> {
        // `current` is a link; the bundle's name is where it points.
        let dir = fs::canonicalize(dir).map_err(|source| read_error(dir, source))?;
        let path = dir.join(manifest::FILE);
        let json = read_bounded(&path).map_err(|source| read_error(&path, source))?;
        let manifest =
            Manifest::parse(&json).map_err(|source| BundleError::Manifest { path, source })?;
        let expected = Digest::of(&json).short(ID_DIGITS);
        let found = dir
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        match found == expected {
            true => Ok(Self {
                id: expected,
                dir,
                manifest,
            }),
            false => Err(BundleError::Id {
                dir,
                expected,
                found,
            }),
        }
    }

    /// Compares with what is asked for.
    ///
    /// # Errors
    /// The first field that differs.
    pub fn check(&self, model: &Model, shape: Shape, needs: &Requirements) -> Result<(), Mismatch> {
        let Manifest { environment, .. } = &self.manifest;
        let found = Wanted::of(&self.manifest);
        let expected = Wanted::by(model, shape, needs, &self.manifest);
        expected
            .fields()
            .into_iter()
            .zip(found.fields())
            .try_for_each(|((field, expected), (_, found))| {
                Mismatch::unless_equal(field, &expected, &found)
            })?;
        environment.check(&needs.host)
    }

    /// Where a package lies.
    #[must_use]
    pub fn package(&self, component: &Component) -> PathBuf {
        self.dir.join("aot").join(&component.package.file)
    }

    /// Where a package's weights lie.
    #[must_use]
    pub fn weights(&self, component: &Component, cache: &Cache) -> PathBuf {
        cache
            .weights_dir(&self.manifest.model)
            .join(&component.weights.file)
    }

    /// Where the tokenizer lies.
    #[must_use]
    pub fn tokenizer(&self) -> PathBuf {
        self.dir.join(&self.manifest.text.tokenizer.file)
    }

    /// Verifies what is small enough to be read at every start: packages and tokenizer by content, weights by
    /// size. Weights are mapped, not read, so their content is vouched for by the canary.
    ///
    /// # Errors
    /// The first file that differs.
    pub fn verify(&self, cache: &Cache) -> Result<(), BundleError> {
        self.check_sizes(cache)?;
        self.small_files()
            .into_iter()
            .try_for_each(|(path, entry)| check_content(&path, entry))
    }

    /// Verifies the content of every file, weights included.
    ///
    /// # Errors
    /// The first file that differs.
    pub fn verify_all(&self, cache: &Cache) -> Result<(), BundleError> {
        self.verify(cache)?;
        self.weight_files(cache)
            .into_iter()
            .try_for_each(|(path, entry)| check_content(&path, entry))
    }

    fn check_sizes(&self, cache: &Cache) -> Result<(), BundleError> {
        let mut all = self.small_files();
        all.extend(self.weight_files(cache));
        all.into_iter()
            .try_for_each(|(path, entry)| check_size(&path, entry))
    }

    fn small_files(&self) -> Vec<(PathBuf, &FileEntry)> {
        let packages = self
            .manifest
            .components
            .values()
            .map(|part| (self.package(part), &part.package));
        packages
            .chain([(self.tokenizer(), &self.manifest.text.tokenizer)])
            .collect()
    }

    fn weight_files(&self, cache: &Cache) -> Vec<(PathBuf, &FileEntry)> {
        let parts = self.manifest.components.values();
        parts
            .map(|part| (self.weights(part, cache), &part.weights))
            .collect()
    }
}

/// The values that must be equal, as text.
struct Wanted {
    recipe: u32,
    model: String,
    model_digest: Digest,
    pipeline: String,
    shape: Shape,
    modes: String,
    max_batch: u32,
    dtype: Dtype,
    device: Device,
    text_tokens: u32,
    extend_frames: u32,
}

impl Wanted {
    fn of(manifest: &Manifest) -> Self {
        Self {
            recipe: manifest.recipe,
            model: manifest.model.to_string(),
            model_digest: manifest.model_digest,
            pipeline: manifest.pipeline.clone(),
            shape: manifest.shape,
            modes: words(&manifest.modes),
            max_batch: manifest.max_batch,
            dtype: manifest.dtype,
            device: manifest.device,
            text_tokens: manifest.text.tokens,
            extend_frames: manifest.conditioning.extend,
        }
    }

    fn by(model: &Model, shape: Shape, needs: &Requirements, manifest: &Manifest) -> Self {
        let menu = &model.menu;
        // Two latent frames and the first one, unless the menu says otherwise.
        let extend_frames = menu
            .extend_frames
            .unwrap_or(2 * manifest.latent.temporal_ratio + 1);
        Self {
            recipe: RECIPE,
            model: menu.name.to_string(),
            model_digest: model.digest,
            pipeline: menu.pipeline.clone(),
            shape,
            modes: words(&menu.modes),
            max_batch: menu.max_batch,
            dtype: needs.dtype,
            device: needs.device,
            text_tokens: menu.text_tokens,
            extend_frames,
        }
    }

    fn fields(&self) -> [(&'static str, String); 11] {
        [
            ("recipe", self.recipe.to_string()),
            ("model", self.model.clone()),
            ("model_digest", self.model_digest.to_string()),
            ("pipeline", self.pipeline.clone()),
            ("shape", self.shape.to_string()),
            ("modes", self.modes.clone()),
            ("max_batch", self.max_batch.to_string()),
            ("dtype", self.dtype.as_str().into()),
            ("device", self.device.as_str().into()),
            ("text.tokens", self.text_tokens.to_string()),
            ("conditioning.extend", self.extend_frames.to_string()),
        ]
    }
}

fn words(modes: &[reel_domain::Mode]) -> String {
    modes
        .iter()
        .map(|mode| mode.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut json = Vec::new();
    File::open(path)?
        .take(manifest::BYTES_MAX + 1)
        .read_to_end(&mut json)?;
    match json.len() as u64 > manifest::BYTES_MAX {
        true => Err(io::Error::other(format!(
            "larger than {} bytes",
            manifest::BYTES_MAX
        ))),
        false => Ok(json),
    }
}

fn read_error(path: &Path, source: io::Error) -> BundleError {
    BundleError::Read {
        path: path.into(),
        source,
    }
}

fn check_size(path: &Path, entry: &FileEntry) -> Result<(), BundleError> {
    let found = fs::metadata(path)
        .map_err(|source| read_error(path, source))?
        .len();
    match found == entry.bytes {
        true => Ok(()),
        false => Err(file_error(path, "bytes", &entry.bytes, &found)),
    }
}

fn check_content(path: &Path, entry: &FileEntry) -> Result<(), BundleError> {
    let found = Digest::of_file(path).map_err(|source| read_error(path, source))?;
    match found == entry.sha256 {
        true => Ok(()),
        false => Err(file_error(path, "sha256", &entry.sha256, &found)),
    }
}

fn file_error(
    path: &Path,
    field: &'static str,
    expected: &impl ToString,
    found: &impl ToString,
) -> BundleError {
    BundleError::File {
        path: path.into(),
        field,
        expected: expected.to_string(),
        found: found.to_string(),
    }
}
