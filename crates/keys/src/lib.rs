//! Who may ask: API keys, what each of them may do, and addresses that carry their own permission.
//!
//! - A key is `reel_<id>_<secret>`. Whoever has the text has the key: only the SHA-256 of the secret is stored, in
//!   `DATA_DIR/keys.toml`, which [`KeyFile`] writes and people may read and edit.
//! - [`KeyRing`] is that file in memory, and answers whose key a presented text is. [`SharedKeyRing`] follows the file
//!   while a server runs.
//! - [`RateLimiter`] is the arithmetic of `rate_per_minute`.
//! - [`UrlSigner`] makes and checks addresses that are good for one file, for one tenant, for some time.
//!
//! A secret has 256 random bits, so one plain SHA-256 is enough: there is nothing to guess, and nothing to slow down.
//! Nothing here knows of HTTP. Files are read and written in place, so an asynchronous caller does it on a thread that
//! may wait.
#![forbid(unsafe_code)]

mod durable;
mod file;
mod key;
mod mint;
mod moment;
mod rate;
mod ring;
mod server_secret;
mod shared;
mod signed_url;
mod stored;

pub use file::{CreatedKey, KeyFile, KeyFileError, NewKey};
pub use key::{Key, KeyDigest, KeyError, WebhookSecret};
pub use rate::{Limited, RateLimiter};
pub use ring::{Exposure, KeyRing};
pub use server_secret::{WebhookSecretError, server_webhook_secret};
pub use shared::{KeyRingEvent, SharedKeyRing};
pub use signed_url::{SignedUrlError, SigningSecretError, UrlSigner};

/// The file of keys inside a data directory.
pub const KEY_FILE_NAME: &str = "keys.toml";
/// The file of the signing secret inside a data directory.
pub const SIGNING_SECRET_FILE_NAME: &str = "secret";
/// The file of the server's own webhook secret inside a data directory.
pub const WEBHOOK_SECRET_FILE_NAME: &str = "webhook-secret";
/// Keys in one file, revoked ones included.
pub const KEYS_MAX: usize = 10_000;
/// Bytes of one file of keys.
pub const KEY_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
