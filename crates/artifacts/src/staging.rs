//! A video that is being written.

use crate::durable;
use reel_domain::{AttemptId, Durability, Variant};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes that are hashed at a time.
const HASH_CHUNK_BYTES: usize = 256 * 1024;

/// A place to write one attempt's video. Dropped without being published, its file is removed.
#[derive(Debug)]
pub struct Staging {
    attempt: AttemptId,
    path: PathBuf,
    /// Nothing is to be removed any more.
    left: AtomicBool,
}

/// A video or a still that is complete and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, as 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl Staging {
    pub(crate) fn new(directory: &Path, attempt: AttemptId) -> Self {
        let name = format!("{}.{}", attempt.job, attempt.number);
        Self {
            attempt,
            path: directory.join(staged_name(&name, Variant::Video)),
            left: AtomicBool::new(false),
        }
    }

    /// Where to write. Nothing is there yet.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The attempt that writes.
    #[must_use]
    pub const fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// The file has moved to where it is published.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Syncs and digests what was written.
    pub(crate) fn seal(&self, durability: Durability) -> io::Result<Published> {
        let file = File::open(&self.path)?;
        durable::sync(&file, durability)?;
        digest(file)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // A leftover is swept at the next start.
        if !*self.left.get_mut() {
            let _ = durable::remove_file(&self.path);
        }
    }
}

/// A name that no other writer has: two of one attempt (an encoder that came too late, say) never share a file.
pub(crate) fn staged_name(of: &str, variant: Variant) -> String {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!("{of}.{serial}.{}", variant.extension())
}

/// What is known of bytes that are at hand already.
pub(crate) fn digest_of(bytes: &[u8]) -> Published {
    Published {
        bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
    }
}

pub(crate) fn digest(mut file: File) -> io::Result<Published> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; HASH_CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => {
                hash.update(&chunk[..read]);
                bytes += read as u64;
            }
        }
    }
    Ok(Published {
        bytes,
        sha256: hex::encode(hash.finalize()),
    })
}
