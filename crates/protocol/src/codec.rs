//! The only place that knows bincode.
//!
//! Little endian, variable-length integers, at most [`MESSAGE_BYTES_MAX`] bytes. The version is pinned
//! (2.0.1; 3.0.0 on the registry is an empty farewell release), and golden vectors in the tests hold the
//! bytes still.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

/// Longest message, in bytes. Anything larger is a memfd.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MESSAGE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();

/// A message could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It is longer than [`MESSAGE_BYTES_MAX`].
    #[error("message of {bytes} bytes is longer than {MESSAGE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The value cannot be represented.
    #[error("message cannot be encoded: {0}")]
    Value(#[from] bincode::error::EncodeError),
}

/// Bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the expected type, or cut short.
    #[error("{bytes} bytes are not a message: {source}")]
    Malformed {
        /// How many bytes came.
        bytes: usize,
        /// What bincode says.
        source: bincode::error::DecodeError,
    },
    /// A message, and then something more.
    #[error("{extra} bytes follow the message")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

/// One message as bytes.
///
/// # Errors
/// See [`EncodeError`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, EncodeError> {
    let bytes = bincode::serde::encode_to_vec(message, CONFIG)?;
    match bytes.len() {
        0..=MESSAGE_BYTES_MAX => Ok(bytes),
        bytes => Err(EncodeError::TooLong { bytes }),
    }
}

/// Exactly one message from bytes.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (message, used) = bincode::serde::decode_from_slice(bytes, CONFIG).map_err(|source| {
        DecodeError::Malformed {
            bytes: bytes.len(),
            source,
        }
    })?;
    match bytes.len() - used {
        0 => Ok(message),
        extra => Err(DecodeError::Trailing { extra }),
    }
}
