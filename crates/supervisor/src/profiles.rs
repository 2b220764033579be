//! What was learned of each bundle, kept over restarts: a server that starts again knows what its workers need.

use reel_scheduler::{BATCH_SIZES, Profile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The version of the file's form; another one is not read.
const SCHEMA: u32 = 1;

/// The profiles by bundle id: of another bake or for another device nothing is known.
#[derive(Debug)]
pub struct Profiles {
    path: PathBuf,
    known: BTreeMap<String, Profile>,
    /// Counts what was to be written.
    version: u64,
    /// What was written last; whoever writes holds it.
    written: Arc<Mutex<u64>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    bundles: BTreeMap<String, Entry>,
}

/// A profile as it is written; the weights belong to the bundle itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    spawn_us: u64,
    service_us: u64,
    private_bytes: u64,
    step_us: Vec<u64>,
}

impl Profiles {
    /// Reads what an earlier run left. A file that cannot be read is begun anew: everything in it can be learned again.
    #[must_use]
    pub fn load(path: PathBuf) -> Self {
        let known = match read(&path) {
            Ok(known) => known,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what was learned of bundles is forgotten");
                BTreeMap::new()
            }
        };
        Self {
            path,
            known,
            version: 0,
            written: Arc::default(),
        }
    }

    /// What is known of a bundle; zeros where nothing is.
    #[must_use]
    pub fn get(&self, bundle_id: &str) -> Profile {
        self.known.get(bundle_id).copied().unwrap_or_default()
    }

    /// Remembers; the file is written by [`save`](Self::save).
    pub(crate) fn set(&mut self, bundle_id: &str, profile: Profile) {
        self.known.insert(bundle_id.to_owned(), profile);
    }

    /// What writes the file when it is called, with what is known now; not over something newer.
    pub(crate) fn save(&mut self) -> impl FnOnce() + Send + 'static {
        self.version += 1;
        let (path, known, version) = (self.path.clone(), self.known.clone(), self.version);
        let written = Arc::clone(&self.written);
        move || {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            if *written >= version {
                return;
            }
            *written = version;
            if let Err(error) = write(&path, &known) {
                tracing::warn!(path = %path.display(), %error, "what was learned of bundles cannot be kept");
            }
        }
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Profile>> {
    let file: File = serde_json::from_slice(&fs::read(path)?)?;
    if file.schema != SCHEMA {
        let reason = format!("schema {} instead of {SCHEMA}", file.schema);
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let entries = file.bundles.into_iter();
    Ok(entries.map(|(id, entry)| (id, entry.into())).collect())
}

/// By rename: a reader sees the old file or the new one.
fn write(path: &Path, known: &BTreeMap<String, Profile>) -> io::Result<()> {
    let bundles = known
        .iter()
        .map(|(id, &profile)| (id.clone(), profile.into()));
    let file = File {
        schema: SCHEMA,
        bundles: bundles.collect(),
    };
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::to_vec_pretty(&file)?)?;
    fs::rename(temporary, path)
}

impl From<Entry> for Profile {
    fn from(entry: Entry) -> Self {
        let mut step_us = [0; BATCH_SIZES];
        for (known, us) in step_us.iter_mut().zip(entry.step_us) {
            *known = us;
        }
        Self {
            spawn_us: entry.spawn_us,
            service_us: entry.service_us,
            weights_bytes: 0,
            private_bytes: entry.private_bytes,
            step_us,
        }
    }
}

impl From<Profile> for Entry {
    fn from(profile: Profile) -> Self {
        Self {
            spawn_us: profile.spawn_us,
            service_us: profile.service_us,
            private_bytes: profile.private_bytes,
            step_us: profile.step_us.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("profiles.json");
        let mut profiles = Profiles::load(path.clone());
        let learned = Profile {
            spawn_us: 280_000,
            service_us: 300_000,
            private_bytes: 1 << 30,
            step_us: [7; BATCH_SIZES],
            ..Profile::default()
        };
        profiles.set("b1", learned);
        profiles.save()();
        let again = Profiles::load(path);
        assert_eq!(again.get("b1"), learned);
        assert_eq!(again.get("b2"), Profile::default());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("profiles.json");
        for wrong in ["{", r#"{"schema": 9, "bundles": {}}"#] {
            fs::write(&path, wrong).expect("written");
            let mut profiles = Profiles::load(path.clone());
            assert_eq!(profiles.get("b1"), Profile::default());
            profiles.set("b1", Profile::default());
            profiles.save()();
            assert!(read(&path).is_ok());
        }
    }
}
