//! New identities and secrets, from the kernel's randomness.

use crate::key::{ID_CHARS, SECRET_ALPHABET, SECRET_CHARS};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Bytes of a webhook's secret.
const WEBHOOK_SECRET_BYTES: usize = 32;
/// What the Standard Webhooks specification puts before a secret.
const WEBHOOK_SECRET_PREFIX: &str = "whsec_";
/// Random bytes below it fall evenly on the alphabet; the others are thrown away.
const EVEN_BELOW: u8 = (256 / SECRET_ALPHABET.len() * SECRET_ALPHABET.len()) as u8;

/// The identity of a key: lower-case hexadecimal digits.
pub(crate) fn id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; ID_CHARS / 2];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// A secret, each character drawn evenly and by itself.
pub(crate) fn secret() -> Result<String, getrandom::Error> {
    let mut secret = String::with_capacity(SECRET_CHARS);
    while secret.len() < SECRET_CHARS {
        let mut bytes = [0; SECRET_CHARS];
        getrandom::fill(&mut bytes)?;
        let drawn = bytes
            .into_iter()
            .filter(|byte| *byte < EVEN_BELOW)
            .map(|byte| char::from(SECRET_ALPHABET[usize::from(byte) % SECRET_ALPHABET.len()]));
        secret.extend(drawn.take(SECRET_CHARS - secret.len()));
    }
    Ok(secret)
}

/// `whsec_` and base64, as the Standard Webhooks specification has it.
pub(crate) fn webhook_secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; WEBHOOK_SECRET_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{WEBHOOK_SECRET_PREFIX}{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_character_of_the_alphabet_is_drawn() {
        let drawn: BTreeSet<char> = (0..200)
            .flat_map(|_| secret().unwrap().chars().collect::<Vec<_>>())
            .collect();
        assert_eq!(drawn.len(), SECRET_ALPHABET.len());
    }

    #[test]
    fn nothing_is_drawn_twice() {
        let secrets: BTreeSet<String> = (0..100).map(|_| secret().unwrap()).collect();
        assert_eq!(secrets.len(), 100);
        assert_ne!(webhook_secret().unwrap(), webhook_secret().unwrap());
        assert_ne!(id().unwrap(), id().unwrap());
    }

    #[test]
    fn a_webhooks_secret_is_32_bytes_in_base64() {
        let secret = webhook_secret().unwrap();
        let bytes = STANDARD
            .decode(secret.strip_prefix(WEBHOOK_SECRET_PREFIX).unwrap())
            .unwrap();
        assert_eq!(bytes.len(), WEBHOOK_SECRET_BYTES);
    }
}
