//! A model's directory: its menu, and the digest of what it computes with.

use crate::digest::Digest;
use crate::menu::{Menu, MenuError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const INDEX: &str = "model_index.json";
const EXTENSIONS: [&str; 4] = ["json", "safetensors", "model", "txt"];

/// A model on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Where it lies.
    pub dir: PathBuf,
    /// What it can serve.
    pub menu: Menu,
    /// The digest of `model_index.json` and of the files in the components' directories. Cards, pictures and
    /// `model.toml` are not part of it.
    pub digest: Digest,
}

/// A model's directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its menu cannot be used.
    #[error(transparent)]
    Menu(#[from] MenuError),
    /// One of its files cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Model {
    /// Reads the menu and the digest.
    ///
    /// Digests of files are remembered in `memo` by size and time of change, so that a model of many
    /// gigabytes is read once and not at every start.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load(dir: &Path, memo: Option<&Path>) -> Result<Self, ModelError> {
        let menu = Menu::load(dir)?;
        let digest = digest(dir, memo)?;
        Ok(Self {
            dir: dir.into(),
            menu,
            digest,
        })
    }
}

/// Remembered digests by path.
type Memo = BTreeMap<String, Remembered>;

#[derive(PartialEq, Serialize, Deserialize)]
struct Remembered {
    bytes: u64,
    changed_ns: i128,
    inode: u64,
    #[serde(with = "crate::text")]
    sha256: Digest,
}

fn digest(dir: &Path, memo: Option<&Path>) -> Result<Digest, ModelError> {
    let known = memo.map(read_memo).unwrap_or_default();
    let mut current = Memo::new();
    for (name, path) in files(dir).map_err(|source| read_error(dir, source))? {
        let remembered =
            remember(&name, &path, &known).map_err(|source| read_error(&path, source))?;
        current.insert(name, remembered);
    }
    if let Some(memo) = memo.filter(|_| current != known) {
        write_memo(memo, &current);
    }
    let line =
        |(name, file): (&String, &Remembered)| format!("{name}\0{}\0{}\n", file.bytes, file.sha256);
    Ok(Digest::of(
        current.iter().map(line).collect::<String>().as_bytes(),
    ))
}

fn remember(name: &str, path: &Path, known: &Memo) -> io::Result<Remembered> {
    let metadata = fs::metadata(path)?;
    let stamp = (metadata.len(), changed_ns(&metadata), metadata.ino());
    let sha256 = match known.get(name) {
        Some(old) if (old.bytes, old.changed_ns, old.inode) == stamp => old.sha256,
        _ => Digest::of_file(path)?,
    };
    Ok(Remembered {
        bytes: stamp.0,
        changed_ns: stamp.1,
        inode: stamp.2,
        sha256,
    })
}

fn changed_ns(metadata: &Metadata) -> i128 {
    i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
}

/// The files that decide what a model computes, by their names relative to its directory.
fn files(dir: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::from([(INDEX.into(), dir.join(INDEX))]);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && !hidden(&path) {
            for entry in fs::read_dir(&path)? {
                files.extend(counted(dir, entry?.path()));
            }
        }
    }
    Ok(files)
}

fn counted(dir: &Path, path: PathBuf) -> Option<(String, PathBuf)> {
    let extension = path.extension()?.to_str()?;
    let name = path.strip_prefix(dir).ok()?.to_str()?.to_owned();
    (EXTENSIONS.contains(&extension) && !hidden(&path) && path.is_file()).then_some((name, path))
}

fn hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn read_error(path: &Path, source: io::Error) -> ModelError {
    ModelError::Read {
        path: path.into(),
        source,
    }
}

fn read_memo(path: &Path) -> Memo {
    // A memo that cannot be read costs time, nothing else.
    fs::read(path)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default()
}

fn write_memo(path: &Path, memo: &Memo) {
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    let written = serde_json::to_vec(memo)
        .map_err(io::Error::from)
        .and_then(|json| {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&partial, json)?;
            fs::rename(&partial, path)
        });
    // The next start computes it again.
    drop(written);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(dir: &Path) {
        fs::create_dir(dir.join("vae")).unwrap();
        fs::write(dir.join(INDEX), "{}").unwrap();
        fs::write(dir.join("vae/config.json"), "{\"a\":1}").unwrap();
        fs::write(dir.join("vae/weights.safetensors"), "weights").unwrap();
        fs::write(dir.join("README.md"), "card").unwrap();
        fs::write(dir.join("vae/sample.png"), "picture").unwrap();
    }

    #[test]
    fn the_digest_is_the_one_that_the_bake_computes() {
        let dir = tempfile::tempdir().unwrap();
        model(dir.path());
        // The same value stands in python/tests/test_bake_model.py.
        let expected = "33b41130d185bd7fe8d6f67e51298156d8df394a3e1eb42c70ad9fbdcf9ffaf8";
        assert_eq!(digest(dir.path(), None).unwrap().to_string(), expected);
    }

    #[test]
    fn only_what_is_computed_with_changes_the_digest() {
        let dir = tempfile::tempdir().unwrap();
        model(dir.path());
        let before = digest(dir.path(), None).unwrap();
        fs::write(dir.path().join("README.md"), "another card").unwrap();
        assert_eq!(digest(dir.path(), None).unwrap(), before);
        fs::write(dir.path().join("vae/weights.safetensors"), "changed").unwrap();
        assert_ne!(digest(dir.path(), None).unwrap(), before);
    }

    #[test]
    fn remembered_digests_are_used_until_a_file_changes() {
        let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        model(dir.path());
        let memo = cache.path().join("digests/tiny.json");
        let first = digest(dir.path(), Some(&memo)).unwrap();
        assert_eq!(digest(dir.path(), Some(&memo)).unwrap(), first);
        fs::write(dir.path().join("vae/config.json"), "{\"a\":2}").unwrap();
        assert_eq!(
            digest(dir.path(), Some(&memo)).unwrap(),
            digest(dir.path(), None).unwrap()
        );
    }

    #[test]
    fn a_directory_that_is_no_model_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            Model::load(dir.path(), None)
                .unwrap_err()
                .to_string()
                .contains("model.toml")
        );
    }
}
