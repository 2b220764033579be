//! The file of keys on disk: made, looked at and changed by one process at a time.

use crate::key::{self, Key, KeyDigest, WebhookSecret};
use crate::{KEY_FILE_NAME, KEYS_MAX, KeyRing, durable, mint};
use reel_domain::{Priority, TenantName};
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for another process that changes the file.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);
/// Pause between two tries to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Ids that are drawn before it is given up that one is free.
const ID_DRAWS_MAX: u32 = 8;

/// Why keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read the keys in {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a file of keys.
    #[error("the keys in {} cannot be used: {reason}", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It was there, with keys, and is gone or has none now. Taken as an accident: no keys would mean no lock.
    #[error("the keys in {} are gone; revoke keys instead of removing them", path.display())]
    Gone {
        /// Which file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write the keys to {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else changes it, and takes too long.
    #[error("another process holds {} for more than {} s", path.display(), LOCK_WAIT_MAX.as_secs())]
    Locked {
        /// The lock's file.
        path: PathBuf,
    },
    /// No place for another key.
    #[error("there are {KEYS_MAX} keys already; remove revoked ones from the file")]
    Full,
    /// No such key.
    #[error("there is no key `{id}`; `reel key list` names those there are")]
    Unknown {
        /// What was asked for.
        id: String,
    },
    /// It was revoked before.
    #[error("key {id} was revoked before")]
    Revoked {
        /// Which one.
        id: String,
    },
    /// The kernel gives no randomness.
    #[error("no randomness for a new key: {0}")]
    Random(#[from] getrandom::Error),
}

/// What the maker of a key decides.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// Who asks with it.
    pub tenant: TenantName,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
    /// It may look at and change the pool.
    pub admin: bool,
    /// Creations in one minute.
    pub rate_per_minute: Option<NonZeroU32>,
    /// Jobs that may wait or run at once.
    pub unfinished_jobs_max: Option<NonZeroU32>,
    /// The most urgent class.
    pub priority_max: Option<Priority>,
    /// Where the end of a job is told that does not say.
    pub callback_url: Option<String>,
    /// Whatever its maker wants to remember.
    pub note: Option<String>,
}

/// A new key, and the only copy of its text.
#[derive(Clone)]
pub struct CreatedKey {
    /// As it is stored.
    pub key: Key,
    /// What its holder presents.
    pub text: String,
}

impl fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedKey")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// The file of keys of one data directory. Works beside a running server, which follows what is written.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The keys of this data directory. Nothing needs to be there yet.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join(KEY_FILE_NAME),
        }
    }

    /// Where they lie.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a key. Its text is in the answer, and nowhere else.
    ///
    /// # Errors
    /// When the file cannot be read or written, or nothing new fits into it.
    pub fn create(&self, new: NewKey, now_ms: u64) -> Result<CreatedKey, KeyFileError> {
        let _lock = self.lock()?;
        let mut ring = KeyRing::load(&self.path)?;
        let created = make(new, free_id(&ring)?, now_ms)?;
        ring.insert(created.key.clone())?;
        self.write(&ring)?;
        Ok(created)
    }

    /// Every key there is, with whatever is wrong with the file's permissions.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self) -> Result<KeyRing, KeyFileError> {
        KeyRing::load(&self.path)
    }

    /// Ends a key at once. It stays in the file, so that its id is never used again.
    ///
    /// # Errors
    /// [`KeyFileError::Unknown`], [`KeyFileError::Revoked`], or when the file cannot be read or written.
    pub fn revoke(&self, id: &str, now_ms: u64) -> Result<Key, KeyFileError> {
        let _lock = self.lock()?;
        let mut ring = KeyRing::load(&self.path)?;
        let key = ring
            .get_mut(id)
            .ok_or_else(|| KeyFileError::Unknown { id: id.into() })?;
        if key.revoked_ms.is_some() {
            return Err(KeyFileError::Revoked { id: id.into() });
        }
        key.revoked_ms = Some(now_ms);
        let revoked = key.clone();
        self.write(&ring)?;
        Ok(revoked)
    }

    fn write(&self, ring: &KeyRing) -> Result<(), KeyFileError> {
        let text = ring
            .render()
            .map_err(|reason| self.not_written(io::Error::other(reason)))?;
        durable::replace(&self.path, text.as_bytes()).map_err(|error| self.not_written(error))
    }

    fn not_written(&self, source: io::Error) -> KeyFileError {
        KeyFileError::Write {
            path: self.path.clone(),
            source,
        }
    }

    /// Whoever holds it may read, change and replace the file. The kernel takes it back with the process.
    fn lock(&self) -> Result<File, KeyFileError> {
        let path = self.path.with_added_extension("lock");
        let lock = self
            .lock_file(&path)
            .map_err(|error| self.not_written(error))?;
        let deadline = Instant::now() + LOCK_WAIT_MAX;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(self.not_written(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(KeyFileError::Locked { path });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            }
        }
    }

    fn lock_file(&self, path: &Path) -> io::Result<File> {
        self.path
            .parent()
            .map_or(Ok(()), durable::private_directory)?;
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
    }
}

fn free_id(ring: &KeyRing) -> Result<String, KeyFileError> {
    for _ in 0..ID_DRAWS_MAX {
        let id = mint::id()?;
        if ring.get(&id).is_none() {
            return Ok(id);
        }
    }
    Err(KeyFileError::Full)
}

fn make(new: NewKey, id: String, now_ms: u64) -> Result<CreatedKey, KeyFileError> {
    let secret = mint::secret()?;
    let webhook_secret = Some(WebhookSecret::new(mint::webhook_secret()?));
    let text = key::write(&id, &secret);
    let key = Key {
        id,
        sha256: KeyDigest::of(&secret),
        tenant: new.tenant,
        // The file has seconds: what is returned is what will be read.
        created_ms: whole_seconds(now_ms),
        expires_ms: new.expires_ms.map(whole_seconds),
        revoked_ms: None,
        admin: new.admin,
        rate_per_minute: new.rate_per_minute,
        unfinished_jobs_max: new.unfinished_jobs_max,
        priority_max: new.priority_max,
        callback_url: new.callback_url,
        webhook_secret,
        note: new.note,
    };
    Ok(CreatedKey { key, text })
}

const fn whole_seconds(at_ms: u64) -> u64 {
    at_ms / 1_000 * 1_000
}
