//! What a client says beside the work itself: where to call back, which trace it belongs to, which key makes it one.

use crate::limits::{CALLBACK_URL_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Where a job's end is told: a URL of bounded length. Whether it may be called is for whoever calls it to say.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallbackUrl(Arc<str>);

/// The text cannot be a callback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an http or https URL of at most {CALLBACK_URL_BYTES_MAX} printable ASCII characters"
)]
pub struct CallbackUrlError;

impl CallbackUrl {
    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CallbackUrl {
    type Err = CallbackUrlError;

    fn from_str(text: &str) -> Result<Self, CallbackUrlError> {
        let begins_well = ["https://", "http://"].iter().any(|scheme| {
            text.strip_prefix(scheme)
                .is_some_and(|rest| !rest.is_empty())
        });
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        match begins_well && plain && text.len() <= CALLBACK_URL_BYTES_MAX {
            true => Ok(Self(text.into())),
            false => Err(CallbackUrlError),
        }
    }
}

// The path of a callback may be a secret of its receiver.
impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackUrl")
    }
}

/// The trace that a request belongs to: version 00 of the header `traceparent` (W3C Trace Context).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceParent(Arc<str>);

/// The text is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of version 00")]
pub struct TraceParentError;

impl TraceParent {
    /// The header's value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trace's id: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let parts: Vec<&str> = text.split('-').collect();
        let hexadecimal = |part: &str, digits: usize| {
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            part.len() == digits && part.bytes().all(lower)
        };
        let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        match parts[..] {
            ["00", trace, parent, flags]
                if hexadecimal(trace, 32)
                    && hexadecimal(parent, 16)
                    && hexadecimal(flags, 2)
                    && !zero(trace)
                    && !zero(parent) =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(TraceParentError),
        }
    }
}

/// What makes two requests the same one, in the words of their client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(Arc<str>);

/// The text cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        let plain = text
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        match plain && (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()) {
            true => Ok(Self(text.into())),
            false => Err(IdempotencyKeyError),
        }
    }
}

/// A key, and what the request that it came with asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's word for this request.
    pub key: IdempotencyKey,
    /// SHA-256 of everything that the request asks for.
    pub digest: [u8; 32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_has_four_parts_and_is_not_all_zero() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace: TraceParent = good.parse().unwrap();
        assert_eq!(trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        for bad in [
            "",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_and_callbacks_are_bounded_and_printable() {
        assert!("a".repeat(256).parse::<IdempotencyKey>().is_ok());
        for bad in ["", "a\n", "ä", &"a".repeat(257)] {
            assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad}");
        }
        assert!("https://a.example/hook?x=1".parse::<CallbackUrl>().is_ok());
        for bad in [
            "",
            "ftp://a",
            "https://",
            "https://a b",
            &format!("https://{}", "a".repeat(2_048)),
        ] {
            assert!(bad.parse::<CallbackUrl>().is_err(), "{bad}");
        }
    }
}
