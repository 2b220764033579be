//! Keys on disk and in memory, as an operator and a server use them at the same time.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use reel_domain::Priority;
use reel_keys::{
    CreatedKey, KEY_FILE_NAME, KeyError, KeyFile, KeyFileError, KeyRing, KeyRingEvent, NewKey,
    SharedKeyRing,
};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const NOW_MS: u64 = 1_900_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

fn data_dir() -> (TempDir, KeyFile) {
    let directory = tempfile::tempdir().unwrap();
    let file = KeyFile::of(directory.path());
    (directory, file)
}

fn create(file: &KeyFile) -> CreatedKey {
    file.create(NewKey::default(), NOW_MS).unwrap()
}

fn ring(file: &KeyFile) -> KeyRing {
    KeyRing::load(file.path()).unwrap()
}

#[track_caller]
fn verify(file: &KeyFile, text: &str, now_ms: u64) -> Result<String, KeyError> {
    ring(file).verify(text, now_ms).map(|key| key.id.clone())
}

#[test]
fn a_new_key_opens_and_only_its_hash_is_stored() {
    let (_directory, file) = data_dir();
    let CreatedKey { key, text } = create(&file);
    assert_eq!(verify(&file, &text, NOW_MS), Ok(key.id.clone()));
    let secret = text.rsplit_once('_').unwrap().1;
    let stored = fs::read_to_string(file.path()).unwrap();
    assert!(stored.contains(&key.id) && !stored.contains(secret));
    assert_eq!(ring(&file).get(&key.id), Some(&key));
}

#[test]
fn everything_that_its_maker_decides_reaches_the_ring() {
    let (_directory, file) = data_dir();
    let new = NewKey {
        tenant: "acme".parse().unwrap(),
        expires_ms: Some(NOW_MS + 1_000),
        admin: true,
        rate_per_minute: 60.try_into().ok(),
        unfinished_jobs_max: 8.try_into().ok(),
        priority_max: Some(Priority::Interactive),
        callback_url: Some("https://example.com/hook".into()),
        note: Some("the \"CI\"\nof \u{1f600}".into()),
    };
    let created = file.create(new, NOW_MS).unwrap();
    let ring = ring(&file);
    let key = ring.verify(&created.text, NOW_MS).unwrap();
    assert_eq!(key, &created.key);
    assert!(key.allows(Priority::Batch) && key.allows(Priority::Interactive));
    assert!(!key.allows(Priority::Realtime));
    let secret = key.webhook_secret.as_ref().unwrap();
    assert!(secret.expose().starts_with("whsec_"));
}

#[test]
fn a_wrong_secret_and_an_unknown_id_are_the_same() {
    let (_directory, file) = data_dir();
    let (one, other) = (create(&file), create(&file));
    let secret = other.text.rsplit_once('_').unwrap().1;
    let mixed = format!("reel_{}_{secret}", one.key.id);
    assert_eq!(verify(&file, &mixed, NOW_MS), Err(KeyError::Unknown));
    let unknown = format!("reel_000000000000_{secret}");
    assert_eq!(verify(&file, &unknown, NOW_MS), Err(KeyError::Unknown));
    assert_eq!(verify(&file, "sk-1234", NOW_MS), Err(KeyError::Malformed));
}

#[test]
fn a_key_ends_when_it_said() {
    let (_directory, file) = data_dir();
    let new = NewKey {
        expires_ms: Some(NOW_MS + 5_000),
        ..NewKey::default()
    };
    let created = file.create(new, NOW_MS).unwrap();
    let at = |now_ms| verify(&file, &created.text, now_ms);
    assert_eq!(at(NOW_MS + 4_999), Ok(created.key.id.clone()));
    assert_eq!(at(NOW_MS + 5_000), Err(KeyError::Expired));
}

#[test]
fn a_revoked_key_says_so_to_its_holder_alone_and_keeps_the_ring_from_being_empty() {
    let (_directory, file) = data_dir();
    assert!(ring(&file).is_empty());
    let (gone, stays) = (create(&file), create(&file));
    let revoked = file.revoke(&gone.key.id, NOW_MS + 1_000).unwrap();
    assert_eq!(revoked.revoked_ms, Some(NOW_MS + 1_000));
    assert_eq!(verify(&file, &gone.text, NOW_MS), Err(KeyError::Revoked));
    let guessed = format!("reel_{}_{}", gone.key.id, "a".repeat(43));
    assert_eq!(verify(&file, &guessed, NOW_MS), Err(KeyError::Unknown));
    assert!(verify(&file, &stays.text, NOW_MS).is_ok());
    file.revoke(&stays.key.id, NOW_MS).unwrap();
    assert!(!ring(&file).is_empty());
}

#[test]
fn what_cannot_be_revoked_is_named() {
    let (_directory, file) = data_dir();
    let id = create(&file).key.id;
    let unknown = file.revoke("abc", NOW_MS).unwrap_err();
    assert!(matches!(unknown, KeyFileError::Unknown { id } if id == "abc"));
    file.revoke(&id, NOW_MS).unwrap();
    let again = file.revoke(&id, NOW_MS).unwrap_err();
    assert!(matches!(again, KeyFileError::Revoked { id: twice } if twice == id));
}

#[test]
fn keys_that_are_made_at_once_are_all_there() {
    let (_directory, file) = data_dir();
    let texts: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..5).map(|_| create(&file).text).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let ids: BTreeSet<_> = texts
        .iter()
        .map(|text| verify(&file, text, NOW_MS).unwrap())
        .collect();
    assert_eq!(ids.len(), 20);
}

#[test]
fn the_file_is_its_owners_alone_and_another_mode_is_a_warning() {
    let (directory, file) = data_dir();
    create(&file);
    let mode = fs::metadata(file.path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(file.list().unwrap().exposure(), None);
    fs::set_permissions(file.path(), Permissions::from_mode(0o640)).unwrap();
    assert_eq!(file.list().unwrap().exposure(), None);
    fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
    let ring = file.list().unwrap();
    let warning = ring.exposure().unwrap().to_string();
    assert!(
        warning.contains("mode 644") && warning.contains("chmod 600"),
        "{warning}"
    );
    // The next change mends it, and nothing is left beside the file and its lock.
    create(&file);
    assert_eq!(file.list().unwrap().exposure(), None);
    let names: BTreeSet<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        names,
        BTreeSet::from(["keys.toml".into(), "keys.toml.lock".into()])
    );
}

#[test]
fn a_broken_file_is_never_written_over() {
    let (_directory, file) = data_dir();
    create(&file);
    let broken = fs::read_to_string(file.path()).unwrap() + "\n[[keys]]\nid = 3\n";
    fs::write(file.path(), &broken).unwrap();
    let error = file.create(NewKey::default(), NOW_MS).unwrap_err();
    assert!(error.to_string().contains("keys.toml"), "{error}");
    assert_eq!(fs::read_to_string(file.path()).unwrap(), broken);
}

/// A ring that follows a file, and what it said.
struct Following {
    shared: SharedKeyRing,
    said: Arc<Mutex<Vec<String>>>,
    start: Instant,
}

impl Following {
    fn new(path: &Path) -> Self {
        let said = Arc::new(Mutex::new(Vec::new()));
        let start = Instant::now();
        let sink = Arc::clone(&said);
        let on_event = move |event: KeyRingEvent| {
            let text = match event {
                KeyRingEvent::Reloaded { keys, .. } => format!("{keys} keys"),
                KeyRingEvent::Refused(error) => error.to_string(),
            };
            sink.lock().unwrap().push(text);
        };
        Self {
            shared: SharedKeyRing::open(path, start, on_event).unwrap(),
            said,
            start,
        }
    }

    /// Whether it knows the key, `seconds` after the start.
    fn knows(&self, text: &str, seconds: u32) -> bool {
        let ring = self.shared.ring(self.start + seconds * SECOND);
        ring.verify(text, NOW_MS).is_ok()
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }
}

#[test]
fn a_running_server_sees_new_and_revoked_keys_within_a_second() {
    let (_directory, file) = data_dir();
    let following = Following::new(file.path());
    assert!(following.shared.is_empty(following.start));
    let created = create(&file);
    assert!(
        !following.knows(&created.text, 0),
        "looked twice in a second"
    );
    assert!(following.knows(&created.text, 1));
    file.revoke(&created.key.id, NOW_MS).unwrap();
    assert!(following.knows(&created.text, 1));
    assert!(!following.knows(&created.text, 2));
    assert!(!following.knows(&created.text, 3));
    assert_eq!(following.said(), ["1 keys", "1 keys"]);
}

#[test]
fn a_broken_file_changes_nothing_and_is_reported_once() {
    let (_directory, file) = data_dir();
    let created = create(&file);
    let good = fs::read(file.path()).unwrap();
    let following = Following::new(file.path());
    fs::write(file.path(), "[[keys]]\ntenent = \"acme\"\n").unwrap();
    for seconds in 1..5 {
        assert!(following.knows(&created.text, seconds));
    }
    let said = following.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("did you mean `tenant`?"), "{said:?}");
    fs::write(file.path(), good).unwrap();
    assert!(following.knows(&created.text, 6));
    assert_eq!(following.said(), ["1 keys"]);
}

#[test]
fn keys_that_vanish_keep_the_door_shut() {
    let (_directory, file) = data_dir();
    let created = create(&file);
    let following = Following::new(file.path());
    fs::remove_file(file.path()).unwrap();
    assert!(following.knows(&created.text, 1));
    fs::write(file.path(), "").unwrap();
    assert!(following.knows(&created.text, 2));
    assert!(!following.shared.is_empty(following.start + 3 * SECOND));
    let said = following.said();
    assert!(
        said.len() == 2 && said.iter().all(|text| text.contains("are gone")),
        "{said:?}"
    );
}

#[test]
fn a_server_does_not_start_with_a_file_that_it_cannot_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(KEY_FILE_NAME);
    fs::write(&path, "keys = 3").unwrap();
    let opened = SharedKeyRing::open(&path, Instant::now(), |_| {});
    assert!(matches!(opened, Err(KeyFileError::Broken { .. })));
}
