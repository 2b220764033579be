//! One key: what is known of it, and how its text is read.

use reel_domain::{Priority, TenantName};
use sha2::{Digest, Sha256};
use std::fmt;
use std::num::NonZeroU32;
use subtle::{Choice, ConstantTimeEq};

/// What every key begins with.
pub(crate) const PREFIX: &str = "reel_";
/// Characters of an id: lower-case hexadecimal digits.
pub(crate) const ID_CHARS: usize = 12;
/// What secrets are made of: digits and letters, so that a double click takes the whole key and `_` only ever separates.
pub(crate) const SECRET_ALPHABET: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of a secret: the fewest that carry 256 bits in this alphabet.
pub(crate) const SECRET_CHARS: usize = 43;

/// The SHA-256 of a secret: what is stored instead of it.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Of a secret's text.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// What no secret has, as far as anybody knows: stands in where there is no key to compare with.
    pub(crate) const fn of_nobody() -> Self {
        Self([0; 32])
    }

    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    pub(crate) fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Takes the same time whatever the difference is.
    pub(crate) fn same(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.same(other).into()
    }
}

impl Eq for KeyDigest {}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest")
    }
}

/// What webhooks of a key are signed with. It has to be readable, because both ends compute with it: it lies in the
/// file as it is, which is why that file is its owner's alone.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(String);

impl WebhookSecret {
    /// A secret that somebody chose.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, with its `whsec_`.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

/// A key, as the file has it. Moments are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Which key, for people and logs: 12 hexadecimal digits. It is no secret.
    pub id: String,
    /// The SHA-256 of its secret.
    pub sha256: KeyDigest,
    /// Who asks with it.
    pub tenant: TenantName,
    /// When it was made.
    pub created_ms: u64,
    /// When it ends; `None`: never.
    pub expires_ms: Option<u64>,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
    /// It may look at and change the pool.
    pub admin: bool,
    /// Creations in one minute; `None`: as many as the pool takes.
    pub rate_per_minute: Option<NonZeroU32>,
    /// Jobs that may wait or run at once; `None`: as many as a tenant may have.
    pub unfinished_jobs_max: Option<NonZeroU32>,
    /// The most urgent class it may ask for; `None`: any.
    pub priority_max: Option<Priority>,
    /// Where the end of a job is reported.
    pub callback_url: Option<String>,
    /// What such reports are signed with.
    pub webhook_secret: Option<WebhookSecret>,
    /// Whatever its maker wanted to remember.
    pub note: Option<String>,
}

impl Key {
    /// Whether it may ask for this class.
    #[must_use]
    pub fn allows(&self, priority: Priority) -> bool {
        // The most urgent is the smallest.
        self.priority_max.is_none_or(|ceiling| priority >= ceiling)
    }

    /// Why it cannot be used now, if it cannot.
    #[must_use]
    pub fn refusal(&self, now_ms: u64) -> Option<KeyError> {
        match (self.revoked_ms, self.expires_ms) {
            (Some(_), _) => Some(KeyError::Revoked),
            (None, Some(expires_ms)) if expires_ms <= now_ms => Some(KeyError::Expired),
            (None, _) => None,
        }
    }
}

/// Why a presented key opens nothing. An unknown id and a wrong secret are the same to whoever presents them; only the
/// holder of the secret learns that a key was revoked or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form of a key.
    #[error("this is not a key: keys look like reel_0123456789ab_…")]
    Malformed,
    /// No such key.
    #[error("there is no such key")]
    Unknown,
    /// Somebody revoked it.
    #[error("this key was revoked")]
    Revoked,
    /// Its time is up.
    #[error("this key has expired")]
    Expired,
}

/// A key's text, taken apart: id and secret.
pub(crate) fn read(presented: &str) -> Result<(&str, &str), KeyError> {
    let (id, secret) = presented
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('_'))
        .ok_or(KeyError::Malformed)?;
    let good_secret =
        secret.len() == SECRET_CHARS && secret.bytes().all(|byte| SECRET_ALPHABET.contains(&byte));
    match is_id(id) && good_secret {
        true => Ok((id, secret)),
        false => Err(KeyError::Malformed),
    }
}

/// A key's text, put together.
pub(crate) fn write(id: &str, secret: &str) -> String {
    format!("{PREFIX}{id}_{secret}")
}

pub(crate) fn is_id(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == ID_CHARS && text.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mint;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let (id, secret) = (mint::id().unwrap(), mint::secret().unwrap());
        assert_eq!(
            read(&write(&id, &secret)),
            Ok((id.as_str(), secret.as_str()))
        );
    }

    #[test]
    fn whatever_has_not_the_form_is_malformed() {
        let secret = "a".repeat(SECRET_CHARS);
        let bad = [
            "",
            "reel_",
            "sk-abc",
            "reel_0123456789ab",
            &format!("reel_0123456789ab_{}", &secret[1..]),
            &format!("reel_0123456789ab_{secret}a"),
            &format!("reel_0123456789AB_{secret}"),
            &format!("reel_0123456789a_{secret}"),
            &format!("REEL_0123456789ab_{secret}"),
            &format!("reel_0123456789ab_{}_", &secret[1..]),
            &format!("reel_0123456789ab_{}ä", &secret[2..]),
            &format!(" reel_0123456789ab_{secret}"),
        ];
        for text in bad {
            assert_eq!(read(text), Err(KeyError::Malformed), "{text}");
        }
    }

    #[test]
    fn nothing_that_is_printed_has_a_secret() {
        let digest = KeyDigest::of("secret");
        assert!(!format!("{digest:?}").contains(&digest.to_hex()[..8]));
        assert!(!format!("{:?}", WebhookSecret::new("whsec_x".into())).contains("whsec"));
    }

    #[test]
    fn a_secret_carries_at_least_256_bits() {
        let bits = SECRET_CHARS as f64 * (SECRET_ALPHABET.len() as f64).log2();
        assert!(bits >= 256.0, "{bits}");
    }
}
