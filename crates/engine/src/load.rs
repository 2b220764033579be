//! From a bundle on disk to an engine that can serve.

use crate::error::LoadError;
use crate::geometry::Geometry;
use crate::package::{self, Package};
use crate::pipeline::{NativeEngine, Packages};
use crate::runtime::Runtime;
use crate::tokenizer::PromptTokenizer;
use crate::weights::Weights;
use reel_bundle::{Bundle, Cache, Component, Device, Dtype, Host, Mismatch, Role};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use tch::Kind;

/// How an engine is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Where.
    pub device: DeviceChoice,
    /// Threads of the CPU that it may use.
    pub threads: usize,
}

/// Where an engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// On the CPU.
    Cpu,
    /// On a GPU, by its index among the visible ones.
    Cuda(usize),
}

impl NativeEngine {
    /// Loads a bundle: verifies it, maps its weights, loads its packages.
    ///
    /// # Errors
    /// When the bundle is broken or was baked for something else; see [`LoadError`].
    pub fn load(bundle_dir: &Path, cache_dir: &Path, options: &Options) -> Result<Self, LoadError> {
        let (bundle, cache) = (Bundle::open(bundle_dir)?, Cache::new(cache_dir));
        check_recipe(&bundle)?;
        check_device(&bundle, options.device)?;
        bundle.verify(&cache)?;
        let runtime = Runtime::start(options.device, options.threads).map_err(|source| {
            LoadError::Compute {
                what: "libtorch".into(),
                source,
            }
        })?;
        check_environment(&bundle, options.device)?;
        let packages = load_packages(&bundle, &cache, runtime)?;
        let tokenizer = PromptTokenizer::load(&bundle.tokenizer(), &bundle.manifest.text)?;
        let geometry = Geometry::new(&bundle.manifest.latent, runtime.device);
        let kind = kind(bundle.manifest.dtype);
        Ok(Self {
            bundle,
            packages,
            tokenizer,
            geometry,
            kind,
            runtime,
        })
    }
}

fn check_recipe(bundle: &Bundle) -> Result<(), LoadError> {
    let [expected, found] = [reel_bundle::RECIPE, bundle.manifest.recipe].map(|r| r.to_string());
    Mismatch::unless_equal("recipe", &expected, &found).map_err(|mismatch| LoadError::Mismatch {
        id: bundle.id.clone(),
        mismatch,
    })
}

fn check_device(bundle: &Bundle, choice: DeviceChoice) -> Result<(), LoadError> {
    let expected = match choice {
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Cuda(_) => Device::Cuda,
    };
    Mismatch::unless_equal("device", expected.as_str(), bundle.manifest.device.as_str()).map_err(
        |mismatch| LoadError::Mismatch {
            id: bundle.id.clone(),
            mismatch,
        },
    )
}

fn check_environment(bundle: &Bundle, choice: DeviceChoice) -> Result<(), LoadError> {
    let gpu = match choice {
        DeviceChoice::Cpu => None,
        DeviceChoice::Cuda(index) => Some(package::cuda_architecture(index as i32).map_err(
            |source| LoadError::Compute {
                what: format!("GPU {index}"),
                source,
            },
        )?),
    };
    let host = Host {
        torch: Some(package::torch_version()),
        gpu,
        ..Host::detect()
    };
    let checked = bundle.manifest.environment.check(&host);
    checked.map_err(|mismatch| LoadError::Mismatch {
        id: bundle.id.clone(),
        mismatch,
    })
}

fn load_packages(bundle: &Bundle, cache: &Cache, runtime: Runtime) -> Result<Packages, LoadError> {
    let mut loader = Loader {
        bundle,
        cache,
        runtime,
        mapped: BTreeMap::new(),
    };
    Ok(Packages {
        text_encoder: loader.required(Role::TextEncoder)?,
        transformer: loader.required(Role::Transformer)?,
        vae_decoder: loader.required(Role::VaeDecoder)?,
        vae_encoder_i2v: loader.optional(Role::VaeEncoderI2v)?,
        vae_encoder_extend: loader.optional(Role::VaeEncoderExtend)?,
    })
}

/// Loads packages; those that share weights share one mapping.
struct Loader<'a> {
    bundle: &'a Bundle,
    cache: &'a Cache,
    runtime: Runtime,
    mapped: BTreeMap<String, Rc<Weights>>,
}

impl Loader<'_> {
    fn required(&mut self, role: Role) -> Result<Package, LoadError> {
        // The manifest was refused if it lacked one of these.
        self.optional(role)?.ok_or(LoadError::Constant {
            role,
            name: "*".into(),
        })
    }

    fn optional(&mut self, role: Role) -> Result<Option<Package>, LoadError> {
        let component = self.bundle.manifest.component(role);
        component
            .map(|component| self.load(role, component))
            .transpose()
    }

    fn load(&mut self, role: Role, component: &Component) -> Result<Package, LoadError> {
        let weights = self.weights(component)?;
        Package::load(
            role,
            &self.bundle.package(component),
            self.runtime.device_index(),
            weights,
        )
    }

    fn weights(&mut self, component: &Component) -> Result<Rc<Weights>, LoadError> {
        if let Some(weights) = self.mapped.get(&component.weights.file) {
            return Ok(weights.clone());
        }
        let path = self.bundle.weights(component, self.cache);
        let weights = Rc::new(Weights::map(&path, self.runtime.device)?);
        self.mapped
            .insert(component.weights.file.clone(), weights.clone());
        Ok(weights)
    }
}

const fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::Float32 => Kind::Float,
        Dtype::Bfloat16 => Kind::BFloat16,
    }
}
