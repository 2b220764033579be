//! Signatures of webhooks, as <https://www.standardwebhooks.com> has them: whoever knows the secret can tell that a
//! message is ours, whole, and not an old one sent again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::str::FromStr;

/// Shortest secret, in bytes.
pub const SECRET_BYTES_MIN: usize = 24;
/// Longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 64;
/// The header that holds the message's id, which is the same for every try to deliver it.
pub const ID_HEADER: &str = "webhook-id";
/// The header that holds the time of the try, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header that holds the signature.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

const PREFIX: &str = "whsec_";
const MINTED_BYTES: usize = 32;

/// What signs messages, and what their receiver checks them with. Shown in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

/// No secret. What was given is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Something else.
    #[error("a webhook secret is written whsec_ and base64")]
    Malformed,
    /// Too short or too long.
    #[error(
        "the webhook secret has {0} bytes; {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are allowed"
    )]
    Length(usize),
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl FromStr for WebhookSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError::Malformed)?;
        let key = STANDARD
            .decode(encoded)
            .map_err(|_| SecretError::Malformed)?;
        match key.len() {
            SECRET_BYTES_MIN..=SECRET_BYTES_MAX => Ok(Self(key)),
            length => Err(SecretError::Length(length)),
        }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(hidden)")
    }
}

impl WebhookSecret {
    /// A new one, which nobody can guess.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn mint() -> Result<Self, SecretError> {
        let mut key = vec![0; MINTED_BYTES];
        getrandom::fill(&mut key).map_err(SecretError::Random)?;
        Ok(Self(key))
    }

    /// The secret as its receiver needs it, once.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// The signature of a message. The id holds no full stop.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            unreachable!("HMAC takes keys of any length");
        };
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// The headers of one try to deliver a message.
    #[must_use]
    pub fn headers(&self, id: &str, timestamp_s: u64, body: &[u8]) -> [(&'static str, String); 3] {
        [
            (ID_HEADER, id.into()),
            (TIMESTAMP_HEADER, timestamp_s.to_string()),
            (SIGNATURE_HEADER, self.sign(id, timestamp_s, body)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_published_example_is_reproduced() {
        let secret: WebhookSecret = PUBLISHED.parse().unwrap();
        let [id, timestamp, signature] = secret.headers(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(id, ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".into()));
        assert_eq!(timestamp, ("webhook-timestamp", "1614265330".into()));
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature, ("webhook-signature", expected.into()));
    }

    #[test]
    fn a_secret_survives_being_written_down() {
        let secret: WebhookSecret = PUBLISHED.parse().unwrap();
        assert_eq!(secret.reveal(), PUBLISHED);
        let minted = WebhookSecret::mint().unwrap();
        assert_eq!(minted.reveal().parse(), Ok(minted.clone()));
        assert_ne!(WebhookSecret::mint().unwrap(), minted);
    }

    #[test]
    fn a_secret_is_not_in_what_is_logged() {
        let secret: WebhookSecret = PUBLISHED.parse().unwrap();
        assert_eq!(format!("{secret:?}"), "WebhookSecret(hidden)");
        let refused = "whsec_hunter2".parse::<WebhookSecret>().unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let of = |bytes: usize| format!("{PREFIX}{}", STANDARD.encode(vec![1; bytes]));
        for bytes in [24, 64] {
            assert!(of(bytes).parse::<WebhookSecret>().is_ok(), "{bytes}");
        }
        for bytes in [0, 23, 65] {
            let refused = of(bytes).parse::<WebhookSecret>();
            assert_eq!(refused, Err(SecretError::Length(bytes)));
        }
        for text in ["", "whsec", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_?"] {
            let refused = text.parse::<WebhookSecret>();
            assert_eq!(refused, Err(SecretError::Malformed), "{text}");
        }
    }
}
