//! The file of keys in memory, and whose key a presented text is.

use crate::file::KeyFileError;
use crate::key::{self, Key, KeyDigest, KeyError};
use crate::stored::{self, Keys};
use crate::{KEY_FILE_BYTES_MAX, KEYS_MAX};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bits of a mode that somebody else should not have: the group may read, others may nothing.
const EXPOSING_BITS: u32 = 0o027;

/// Keys that can be asked.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    keys: Keys,
    exposure: Option<Exposure>,
}

/// Others can read the file of keys, or the group can write it: a warning, not a reason to stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} has mode {mode:03o}: others may read or change it; `chmod 600 {}` mends it", path.display(), path.display())]
pub struct Exposure {
    /// Which file.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

impl KeyRing {
    /// Reads a file of keys. Where there is none, there are no keys.
    ///
    /// # Errors
    /// When it cannot be read, or is not what it should be: no key is left out silently.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        read(path).map(|found| found.map_or_else(Self::default, |(ring, _)| ring))
    }

    /// Whose key it is. An unknown id takes the same work as a wrong secret, and says the same.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn verify(&self, presented: &str, now_ms: u64) -> Result<&Key, KeyError> {
        let (id, secret) = key::read(presented)?;
        let found = self.keys.get(id);
        let expected = found.map_or_else(KeyDigest::of_nobody, |key| key.sha256);
        let same = bool::from(expected.same(&KeyDigest::of(secret)));
        let key = found.filter(|_| same).ok_or(KeyError::Unknown)?;
        match key.refusal(now_ms) {
            Some(refusal) => Err(refusal),
            None => Ok(key),
        }
    }

    /// The key of this id, whether or not it can still be used.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    /// Every key, by id; revoked and expired ones too.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.keys.values()
    }

    /// There is no key at all. A revoked one counts: whoever revokes the last key does not open the door.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether others can get at the file that it was read from.
    #[must_use]
    pub const fn exposure(&self) -> Option<&Exposure> {
        self.exposure.as_ref()
    }

    /// Takes in a new key.
    pub(crate) fn insert(&mut self, key: Key) -> Result<(), KeyFileError> {
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyFileError::Full);
        }
        self.keys.insert(key.id.clone(), key);
        Ok(())
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Key> {
        self.keys.get_mut(id)
    }

    pub(crate) fn render(&self) -> Result<String, String> {
        stored::render(&self.keys)
    }
}

/// What tells one state of a file from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: (i64, i64),
    bytes: u64,
    inode: u64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.size(),
            inode: metadata.ino(),
        }
    }
}

/// Reads the file, if there is one, with the stamp of what was read.
pub(crate) fn read(path: &Path) -> Result<Option<(KeyRing, Stamp)>, KeyFileError> {
    let failed = |source| KeyFileError::Read {
        path: path.into(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Before the text: what changes in between is then seen as a change.
    let metadata = file.metadata().map_err(failed)?;
    let mut text = String::new();
    let bytes = file
        .take(KEY_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let broken = |reason| KeyFileError::Broken {
        path: path.into(),
        reason,
    };
    if bytes as u64 > KEY_FILE_BYTES_MAX {
        return Err(broken(format!(
            "it has more than {KEY_FILE_BYTES_MAX} bytes"
        )));
    }
    let ring = KeyRing {
        keys: stored::parse(&text).map_err(broken)?,
        exposure: exposure(path, metadata.mode()),
    };
    Ok(Some((ring, Stamp::of(&metadata))))
}

fn exposure(path: &Path, mode: u32) -> Option<Exposure> {
    (mode & EXPOSING_BITS != 0).then(|| Exposure {
        path: path.into(),
        mode: mode & 0o777,
    })
}
