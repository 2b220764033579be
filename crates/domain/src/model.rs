//! Models and the key of the bundle that serves one of their shapes.

use crate::limits::MODEL_NAME_BYTES_MAX;
use crate::shape::Shape;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a servable pipeline. Safe as one component of a path: letters, digits, `.`, `_`, `-`,
/// and the first character is a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a model name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a model name (letters, digits, `.`, `_`, `-`; at most {MODEL_NAME_BYTES_MAX} bytes)"
)]
pub struct ModelNameError(String);

impl FromStr for ModelName {
    type Err = ModelNameError;

    fn from_str(text: &str) -> Result<Self, ModelNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let starts_well = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if starts_well && text.len() <= MODEL_NAME_BYTES_MAX && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(ModelNameError(
                text.chars().take(MODEL_NAME_BYTES_MAX).collect(),
            ))
        }
    }
}

/// What a worker is pinned to: a model at a shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleKey {
    /// The model.
    pub model: ModelName,
    /// The shape.
    pub shape: Shape,
}

impl fmt::Display for BundleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.model, self.shape)
    }
}

/// The text is not `model/shape`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not name a bundle; one looks like `tiny-shapes/64x64@17f`")]
pub struct BundleKeyError(String);

impl FromStr for BundleKey {
    type Err = BundleKeyError;

    fn from_str(text: &str) -> Result<Self, BundleKeyError> {
        let parsed = text.split_once('/').and_then(|(model, shape)| {
            Some(Self {
                model: model.parse().ok()?,
                shape: shape.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| BundleKeyError(text.chars().take(128).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_cannot_be_paths() {
        assert!("Wan2.1-T2V-1.3B".parse::<ModelName>().is_ok());
        for text in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "-rf",
            "a b",
            "ä",
            &"x".repeat(97),
        ] {
            assert!(text.parse::<ModelName>().is_err(), "{text}");
        }
    }
}
