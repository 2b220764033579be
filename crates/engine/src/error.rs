//! What can go wrong while loading and while computing.

use reel_bundle::{BundleError, Mismatch, Role};
use reel_protocol::FailureClass;
use reel_worker::EngineError;
use std::io;
use std::path::PathBuf;
use tch::TchError;

/// A bundle cannot be loaded here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bundle is broken.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle was baked for something else.
    #[error("bundle {id} cannot be served here: {mismatch}")]
    Mismatch {
        /// Which bundle.
        id: String,
        /// The field that differs.
        mismatch: Mismatch,
    },
    /// A weights file cannot be mapped.
    #[error("cannot map {path}: {source}")]
    Map {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A weights file is not what it should be.
    #[error("{path} is not a weights file: {reason}")]
    Weights {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A package needs a constant that its weights file does not have.
    #[error("{role}: constant `{name}` is not in the weights file")]
    Constant {
        /// Which package.
        role: Role,
        /// The constant.
        name: String,
    },
    /// The tokenizer cannot be used.
    #[error("cannot read the tokenizer: {0}")]
    Tokenizer(String),
    /// libtorch refused.
    #[error("{what}: {source}")]
    Compute {
        /// What was being loaded.
        what: String,
        /// Why.
        source: ComputeError,
    },
}

impl From<LoadError> for EngineError {
    fn from(error: LoadError) -> Self {
        Self::boot(error.to_string())
    }
}

/// libtorch could not compute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// The device has no memory left.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The device is in a state that outlives the call.
    #[error("device error: {0}")]
    Device(String),
    /// The call cannot be done.
    #[error("{0}")]
    Failed(String),
}

/// What the allocators of libtorch say; operators reach us as text only.
const OUT_OF_MEMORY: [&str; 2] = ["out of memory", "can't allocate memory"];
/// How errors of the CUDA runtime begin.
const DEVICE: &str = "CUDA error";

impl From<TchError> for ComputeError {
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().to_owned();
        if OUT_OF_MEMORY.iter().any(|words| message.contains(words)) {
            Self::OutOfMemory(message)
        } else if message.contains(DEVICE) {
            Self::Device(message)
        } else {
            Self::Failed(message)
        }
    }
}

impl From<ComputeError> for EngineError {
    fn from(error: ComputeError) -> Self {
        let class = match error {
            ComputeError::OutOfMemory(_) => FailureClass::Oom,
            ComputeError::Device(_) => FailureClass::DeviceFatal,
            ComputeError::Failed(_) => FailureClass::Soft,
        };
        Self {
            class,
            message: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_operators_are_told_apart() {
        let class =
            |text: &str| EngineError::from(ComputeError::from(TchError::Torch(text.into()))).class;
        assert_eq!(
            class("CUDA out of memory. Tried to allocate 2 GiB\nstack"),
            FailureClass::Oom
        );
        assert_eq!(
            class("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            FailureClass::Oom
        );
        assert_eq!(
            class("CUDA error: an illegal memory access"),
            FailureClass::DeviceFatal
        );
        assert_eq!(class("shape '[2]' is invalid"), FailureClass::Soft);
    }
}
