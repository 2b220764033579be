//! Prompts to tokens, as the pipeline's tokenizer call does it: special tokens, cut and padded to one length.

use crate::error::LoadError;
use reel_bundle::Text;
use reel_worker::EngineError;
use std::path::Path;
use tch::Tensor;
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

/// A tokenizer that makes every prompt equally long.
#[derive(Debug)]
pub struct PromptTokenizer {
    tokenizer: Tokenizer,
}

/// A prompt as the text encoder takes it.
#[derive(Debug)]
pub struct Tokens {
    /// Token ids, i64 `[1, tokens]`.
    pub ids: Tensor,
    /// Which of them are not padding, bool `[1, tokens]`.
    pub mask: Tensor,
}

impl PromptTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file is not a tokenizer.
    pub fn load(path: &Path, text: &Text) -> Result<Self, LoadError> {
        let failed = |error: tokenizers::Error| LoadError::Tokenizer(error.to_string());
        let mut tokenizer = Tokenizer::from_file(path).map_err(failed)?;
        let length = text.tokens as usize;
        let truncation = TruncationParams {
            max_length: length,
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(failed)?;
        tokenizer.with_padding(Some(PaddingParams {
            strategy: PaddingStrategy::Fixed(length),
            pad_id: text.pad_id,
            pad_token: text.pad_token.clone(),
            ..PaddingParams::default()
        }));
        Ok(Self { tokenizer })
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// When the text cannot be tokenized.
    pub fn tokens(&self, prompt: &str) -> Result<Tokens, EngineError> {
        let encoding = self
            .tokenizer
            .encode(prompt, true)
            .map_err(|error| EngineError::soft(format!("cannot tokenize the prompt: {error}")))?;
        let ids: Vec<i64> = encoding.get_ids().iter().map(|id| i64::from(*id)).collect();
        let mask: Vec<bool> = encoding
            .get_attention_mask()
            .iter()
            .map(|bit| *bit != 0)
            .collect();
        Ok(Tokens {
            ids: Tensor::from_slice(&ids).unsqueeze(0),
            mask: Tensor::from_slice(&mask).unsqueeze(0),
        })
    }
}
