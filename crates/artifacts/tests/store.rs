//! The store over a real directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use reel_artifacts::Store;
use reel_domain::JobId;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ID: JobId = JobId::from_bytes([1; 16]);
const OTHER: JobId = JobId::from_bytes([2; 16]);

fn store() -> (Store, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (Store::open(directory.path()).unwrap(), directory)
}

fn publish(store: &Store, id: JobId, attempt: u32, bytes: &[u8]) {
    let staging = store.stage(id, attempt).unwrap();
    fs::write(staging.path(), bytes).unwrap();
    store.publish(staging).unwrap();
}

fn read(store: &Store, id: JobId) -> Vec<u8> {
    let mut video = store.open_video(id).unwrap().unwrap();
    let mut bytes = Vec::new();
    video.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(video.bytes, bytes.len() as u64);
    bytes
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn a_published_video_is_there_with_its_size_and_digest() {
    let (store, _directory) = store();
    let staging = store.stage(ID, 1).unwrap();
    fs::write(staging.path(), "abc").unwrap();
    let published = store.publish(staging).unwrap();
    assert_eq!(published.bytes, 3);
    assert_eq!(
        published.sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(read(&store, ID), b"abc");
}

#[test]
fn nothing_is_visible_before_it_is_published() {
    let (store, _directory) = store();
    let staging = store.stage(ID, 1).unwrap();
    fs::write(staging.path(), "half").unwrap();
    assert!(store.open_video(ID).unwrap().is_none());
}

#[test]
fn a_staging_that_is_dropped_leaves_nothing() {
    let (store, directory) = store();
    let staging = store.stage(ID, 1).unwrap();
    fs::write(staging.path(), "half").unwrap();
    drop(staging);
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn publishing_what_was_never_written_is_an_error_that_names_the_file() {
    let (store, _directory) = store();
    let staging = store.stage(ID, 1).unwrap();
    let error = store.publish(staging).unwrap_err().to_string();
    assert!(error.contains(&format!("{ID}.1.")), "{error}");
    assert!(store.open_video(ID).unwrap().is_none());
}

#[test]
fn a_later_attempt_replaces_the_video_of_an_earlier_one() {
    let (store, _directory) = store();
    publish(&store, ID, 1, b"first");
    publish(&store, ID, 2, b"second");
    assert_eq!(read(&store, ID), b"second");
}

#[test]
fn a_start_removes_what_was_being_written_and_keeps_what_was_published() {
    let (store, directory) = store();
    publish(&store, ID, 1, b"whole");
    let staging = store.stage(OTHER, 1).unwrap();
    fs::write(staging.path(), "half").unwrap();
    std::mem::forget(staging);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(files(directory.path()), [store.video_path(ID)]);
}

#[test]
fn given_frames_come_back() {
    let (store, _directory) = store();
    store.put_given(ID, b"rgbrgb").unwrap();
    assert_eq!(store.given(ID).unwrap(), b"rgbrgb");
    assert!(store.given(OTHER).unwrap_err().is_missing());
}

#[test]
fn removing_a_job_leaves_nothing_of_it_and_everything_of_others() {
    let (store, directory) = store();
    for id in [ID, OTHER] {
        publish(&store, id, 1, b"video");
        store.put_given(id, b"frames").unwrap();
    }
    store.remove(ID).unwrap();
    store.remove(ID).unwrap();
    let left = files(directory.path());
    assert!(
        left.iter()
            .all(|path| path.to_string_lossy().contains(&OTHER.to_string()))
    );
    assert_eq!(left.len(), 2);
}

#[test]
fn an_open_video_stays_readable_when_its_job_is_removed() {
    let (store, _directory) = store();
    publish(&store, ID, 1, b"video");
    let mut open = store.open_video(ID).unwrap().unwrap();
    store.remove(ID).unwrap();
    let mut bytes = Vec::new();
    open.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"video");
}

#[test]
fn a_sweep_removes_what_no_job_owns_and_nothing_else() {
    let (store, directory) = store();
    for id in [ID, OTHER] {
        publish(&store, id, 1, b"video");
        store.put_given(id, b"frames").unwrap();
    }
    let half_written = directory.path().join(format!("inputs/{ID}.tmp"));
    let note = directory.path().join("artifacts/README");
    fs::write(&half_written, "half").unwrap();
    fs::write(&note, "an operator's note").unwrap();
    let swept = store.sweep(|id| id == ID).unwrap();
    assert_eq!((swept.videos, swept.given), (1, 2));
    assert!(note.exists() && !half_written.exists());
    assert!(store.open_video(OTHER).unwrap().is_none());
    assert_eq!(store.given(ID).unwrap(), b"frames");
}

#[test]
fn nobody_but_the_owner_enters_the_directories() {
    use std::os::unix::fs::PermissionsExt;
    let (_store, directory) = store();
    for name in ["artifacts", "inputs"] {
        let metadata = fs::metadata(directory.path().join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{name}");
    }
}

#[test]
fn what_an_encoder_of_a_killed_run_still_writes_is_in_nobodys_way() {
    let (store, directory) = store();
    let staging = directory.path().join("artifacts/.staging");
    fs::write(staging.join("half"), b"half a video").unwrap();
    // It could not be removed by the run before, and can be now.
    fs::create_dir(directory.path().join("artifacts/.staging-1")).unwrap();
    publish(&store, ID, 1, b"whole");
    let again = Store::open(directory.path()).unwrap();
    let left = fs::read_dir(directory.path().join("artifacts")).unwrap();
    let mut names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".staging", &ID.to_string()]);
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
    assert_eq!(read(&again, ID), b"whole");
}
