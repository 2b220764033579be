//! Weights files, mapped: every worker of a model shares the same pages.

use crate::error::LoadError;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The tensors of one weights file.
#[derive(Debug)]
pub struct Weights {
    // Before `_mapping`: on the CPU they are views of it.
    tensors: BTreeMap<String, Tensor>,
    _mapping: Mmap,
}

impl Weights {
    /// Maps a safetensors file. On the CPU nothing is read before it is used; on a GPU the tensors are copied
    /// there.
    ///
    /// # Errors
    /// When the file cannot be mapped or is not a safetensors file.
    pub fn map(path: &Path, device: Device) -> Result<Self, LoadError> {
        let mapping = map(path)?;
        let parsed =
            SafeTensors::deserialize(&mapping).map_err(|error| broken(path, error.to_string()))?;
        let tensors = parsed
            .iter()
            .map(|(name, view)| {
                let kind = kind(view.dtype())
                    .ok_or_else(|| broken(path, unsupported(name, view.dtype())))?;
                let size: Vec<i64> = view.shape().iter().map(|side| *side as i64).collect();
                Ok((name.to_owned(), tensor(view.data(), &size, kind, device)))
            })
            .collect::<Result<_, LoadError>>()?;
        Ok(Self {
            tensors,
            _mapping: mapping,
        })
    }

    /// A tensor by name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }
}

fn map(path: &Path) -> Result<Mmap, LoadError> {
    let failed = |source| LoadError::Map {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    // SAFETY: weights files are published read-only by rename and never changed in place, so the pages behind
    // the mapping do not change while it lives.
    unsafe { Mmap::map(&file) }.map_err(failed)
}

fn tensor(data: &[u8], size: &[i64], kind: Kind, device: Device) -> Tensor {
    // SAFETY: `data` lies in the mapping, holds exactly `size` elements of `kind` (safetensors checks that),
    // and the mapping outlives the tensor (field order of `Weights`). Packages only read their constants.
    let view = unsafe { Tensor::from_blob(data.as_ptr(), size, &[], kind, Device::Cpu) };
    if device == Device::Cpu {
        view
    } else {
        view.to_device(device)
    }
}

const fn kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F16 => Some(Kind::Half),
        Dtype::I64 => Some(Kind::Int64),
        Dtype::BOOL => Some(Kind::Bool),
        _ => None,
    }
}

fn unsupported(name: &str, dtype: Dtype) -> String {
    format!("`{name}` is of type {dtype:?}, which no package takes")
}

fn broken(path: &Path, reason: String) -> LoadError {
    LoadError::Weights {
        path: path.into(),
        reason,
    }
}
