//! What a client may choose about one generation, each value with its range.

use crate::limits::{
    FPS_MAX, FPS_MIN, GUIDANCE_MAX, GUIDANCE_MIN, PROMPT_CHARS_MAX, SEED_MAX, STEPS_MAX, STEPS_MIN,
};

/// A value lies outside its range. The message is what the client sees.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{value} is outside {min}..={max}")]
pub struct RangeError {
    /// What was given.
    pub value: f64,
    /// Smallest allowed value.
    pub min: f64,
    /// Largest allowed value.
    pub max: f64,
}

fn in_range(value: f64, min: f64, max: f64) -> Result<(), RangeError> {
    // Written so that NaN is refused too.
    if value >= min && value <= max {
        Ok(())
    } else {
        Err(RangeError { value, min, max })
    }
}

/// Number of denoising steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps(u32);

impl Steps {
    /// # Errors
    /// Outside [`STEPS_MIN`]..=[`STEPS_MAX`].
    pub fn new(value: u32) -> Result<Self, RangeError> {
        in_range(value.into(), STEPS_MIN.into(), STEPS_MAX.into()).map(|()| Self(value))
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

/// Strength of classifier-free guidance (Ho and Salimans, 2022).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance(f32);

impl Guidance {
    /// # Errors
    /// Outside [`GUIDANCE_MIN`]..=[`GUIDANCE_MAX`], or not a number.
    pub fn new(value: f32) -> Result<Self, RangeError> {
        in_range(value.into(), GUIDANCE_MIN.into(), GUIDANCE_MAX.into()).map(|()| Self(value))
    }

    /// The strength.
    #[must_use]
    pub const fn value(self) -> f32 {
        self.0
    }
}

/// Playback speed in frames per second; also conditions models that know about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fps(u32);

impl Fps {
    /// # Errors
    /// Outside [`FPS_MIN`]..=[`FPS_MAX`].
    pub fn new(value: u32) -> Result<Self, RangeError> {
        in_range(value.into(), FPS_MIN.into(), FPS_MAX.into()).map(|()| Self(value))
    }

    /// Frames per second.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

/// The seed of the noise generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// # Errors
    /// Above [`SEED_MAX`].
    pub fn new(value: u64) -> Result<Self, RangeError> {
        if value <= SEED_MAX {
            Ok(Self(value))
        } else {
            Err(RangeError {
                value: value as f64,
                min: 0.0,
                max: SEED_MAX as f64,
            })
        }
    }

    /// The seed.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// Text that steers the model: not empty, at most [`PROMPT_CHARS_MAX`] characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Prompt(String);

/// Why a prompt was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// Nothing but white space.
    #[error("the prompt is empty")]
    Empty,
    /// Too long.
    #[error("the prompt has {chars} characters; at most {PROMPT_CHARS_MAX} are allowed")]
    TooLong {
        /// Its length in Unicode scalar values.
        chars: usize,
    },
}

impl Prompt {
    /// A prompt that must say something.
    ///
    /// # Errors
    /// See [`PromptError`].
    pub fn new(text: String) -> Result<Self, PromptError> {
        if text.trim().is_empty() {
            return Err(PromptError::Empty);
        }
        Self::optional(text)
    }

    /// A text that may be empty (a negative prompt).
    ///
    /// # Errors
    /// [`PromptError::TooLong`].
    pub fn optional(text: String) -> Result<Self, PromptError> {
        match text.chars().count() {
            chars if chars > PROMPT_CHARS_MAX => Err(PromptError::TooLong { chars }),
            _ => Ok(Self(text)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Prompt {
    // Prompts are the client's private text: logs say only how long they are.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prompt({} bytes)", self.0.len())
    }
}

/// Everything that decides the pixels, besides model, shape and conditioning frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// What to show.
    pub prompt: Prompt,
    /// What to steer away from; may be empty.
    pub negative_prompt: Prompt,
    /// Seed of the noise.
    pub seed: Seed,
    /// Denoising steps.
    pub steps: Steps,
    /// Classifier-free guidance.
    pub guidance: Guidance,
    /// Playback speed.
    pub fps: Fps,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_refuse_what_lies_outside_and_not_a_number() {
        assert!(Steps::new(0).is_err() && Steps::new(201).is_err() && Steps::new(200).is_ok());
        assert!(
            Guidance::new(f32::NAN).is_err()
                && Guidance::new(-0.1).is_err()
                && Guidance::new(20.0).is_ok()
        );
        assert!(Seed::new(u64::MAX).is_err() && Seed::new(SEED_MAX).is_ok());
        assert_eq!(
            Steps::new(201).unwrap_err().to_string(),
            "201 is outside 1..=200"
        );
    }

    #[test]
    fn prompts_count_characters_not_bytes() {
        assert!(Prompt::new("ä".repeat(2_000)).is_ok());
        assert_eq!(
            Prompt::new("ä".repeat(2_001)),
            Err(PromptError::TooLong { chars: 2_001 })
        );
        assert_eq!(Prompt::new(" \n\t".into()), Err(PromptError::Empty));
    }

    #[test]
    fn a_prompt_never_prints_its_text() {
        assert!(!format!("{:?}", Prompt::new("a secret".into()).unwrap()).contains("secret"));
    }
}
