//! Stills in a real directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use reel_artifacts::{OpenStill, StillStaging, Store};
use reel_domain::{JobId, Still, Variant};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ID: JobId = JobId::from_bytes([1; 16]);
const OTHER: JobId = JobId::from_bytes([2; 16]);
/// Of `abc`.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn store() -> (Store, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (Store::open(directory.path()).unwrap(), directory)
}

fn publish_video(store: &Store, id: JobId, attempt: u32, bytes: &str) {
    let staging = store.stage(id, attempt).unwrap();
    fs::write(staging.path(), bytes).unwrap();
    store.publish(staging).unwrap();
}

fn written(store: &Store, id: JobId, still: Still, bytes: &str) -> StillStaging {
    let staging = store.stage_still(id, still).unwrap().unwrap();
    fs::write(staging.path(), bytes).unwrap();
    staging
}

fn publish_still(store: &Store, id: JobId, still: Still, bytes: &str) {
    let staging = written(store, id, still, bytes);
    store.publish_still(staging).unwrap().unwrap();
}

fn open(store: &Store, id: JobId, still: Still) -> Option<OpenStill> {
    store.open_still(id, still).unwrap()
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
fn variants_have_their_names_and_media_types() {
    let told = Variant::ALL.map(|variant| {
        format!(
            "{variant}.{} {}",
            variant.extension(),
            variant.content_type()
        )
    });
    assert_eq!(
        told,
        [
            "video.mp4 video/mp4",
            "thumbnail.webp image/webp",
            "spritesheet.jpg image/jpeg"
        ]
    );
    assert_eq!(Variant::Video.still(), None);
    for still in Still::ALL {
        assert_eq!(still.variant().still(), Some(still));
    }
}

#[test]
fn a_published_still_is_there_with_its_own_size_and_digest() {
    let (store, _directory) = store();
    publish_video(&store, ID, 1, "video");
    let staging = written(&store, ID, Still::Thumbnail, "abc");
    assert_eq!(staging.video_path(), store.video_path(ID));
    assert!(open(&store, ID, Still::Thumbnail).is_none());
    let published = store.publish_still(staging).unwrap().unwrap();
    assert_eq!((published.bytes, published.sha256.as_str()), (3, ABC));
    let still = open(&store, ID, Still::Thumbnail).unwrap();
    assert_eq!((still.bytes, still.sha256.as_str()), (3, ABC));
    assert!(open(&store, ID, Still::Spritesheet).is_none());
    assert!(open(&store, OTHER, Still::Thumbnail).is_none());
}

#[test]
fn a_part_of_a_still_can_be_read() {
    let (store, _directory) = store();
    publish_video(&store, ID, 1, "video");
    publish_still(&store, ID, Still::Spritesheet, "abcdef");
    let mut still = open(&store, ID, Still::Spritesheet).unwrap();
    still.file.seek(SeekFrom::Start(2)).unwrap();
    let mut part = String::new();
    still.file.take(3).read_to_string(&mut part).unwrap();
    assert_eq!(part, "cde");
}

#[test]
fn what_has_no_video_gets_no_still() {
    let (store, directory) = store();
    assert!(store.stage_still(ID, Still::Thumbnail).unwrap().is_none());
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_still_that_is_dropped_or_was_never_written_leaves_nothing() {
    let (store, directory) = store();
    publish_video(&store, ID, 1, "video");
    drop(written(&store, ID, Still::Thumbnail, "half"));
    let unwritten = store.stage_still(ID, Still::Thumbnail).unwrap().unwrap();
    assert!(store.publish_still(unwritten).is_err());
    assert_eq!(files(directory.path()), [store.video_path(ID)]);
}

#[test]
fn a_start_removes_a_still_that_was_never_published() {
    let (store, directory) = store();
    publish_video(&store, ID, 1, "video");
    std::mem::forget(written(
        &store,
        ID,
        Still::Thumbnail,
        "whole, but not there",
    ));
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(files(directory.path()), [store.video_path(ID)]);
    assert!(open(&store, ID, Still::Thumbnail).is_none());
}

#[test]
fn a_start_keeps_published_stills() {
    let (store, directory) = store();
    publish_video(&store, ID, 1, "video");
    publish_still(&store, ID, Still::Thumbnail, "abc");
    let store = Store::open(directory.path()).unwrap();
    let swept = store.sweep(|_| true).unwrap();
    assert_eq!((swept.videos, swept.stills), (0, 0));
    assert_eq!(open(&store, ID, Still::Thumbnail).unwrap().sha256, ABC);
}

#[test]
fn stills_go_with_their_video() {
    let (store, directory) = store();
    publish_video(&store, ID, 1, "video");
    for still in Still::ALL {
        publish_still(&store, ID, still, "still");
    }
    let mut opened = open(&store, ID, Still::Thumbnail).unwrap();
    store.remove(ID).unwrap();
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
    let mut text = String::new();
    opened.file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still");
}

#[test]
fn a_sweep_removes_stills_of_unknown_jobs_and_those_without_a_video() {
    let (store, directory) = store();
    for id in [ID, OTHER] {
        publish_video(&store, id, 1, "video");
        for still in Still::ALL {
            publish_still(&store, id, still, "still");
        }
    }
    fs::remove_file(store.video_path(ID)).unwrap();
    let swept = store.sweep(|_| true).unwrap();
    assert_eq!((swept.videos, swept.stills), (0, 2));
    assert!(!store.video_path(ID).parent().unwrap().exists());
    assert_eq!(files(directory.path()).len(), 3);
    let swept = store.sweep(|_| false).unwrap();
    assert_eq!((swept.videos, swept.stills), (1, 0));
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_sweep_leaves_a_strangers_file_beside_an_orphan_alone() {
    let (store, directory) = store();
    publish_video(&store, ID, 1, "video");
    publish_still(&store, ID, Still::Thumbnail, "still");
    let note = store
        .video_path(ID)
        .with_file_name("thumbnail-of-mine.webp");
    fs::write(&note, "an operator's note").unwrap();
    fs::remove_file(store.video_path(ID)).unwrap();
    assert_eq!(store.sweep(|_| true).unwrap().stills, 1);
    assert_eq!(files(directory.path()), [note]);
}

#[test]
fn a_still_of_a_removed_video_is_not_published() {
    let (store, directory) = store();
    publish_video(&store, ID, 1, "video");
    let late = written(&store, ID, Still::Thumbnail, "late");
    store.remove(ID).unwrap();
    assert_eq!(store.publish_still(late).unwrap(), None);
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_video_that_is_replaced_has_no_still_of_the_one_before() {
    let (store, directory) = store();
    publish_video(&store, ID, 1, "first");
    publish_still(&store, ID, Still::Thumbnail, "of the first");
    let late = written(&store, ID, Still::Spritesheet, "of the first");
    publish_video(&store, ID, 2, "second");
    assert_eq!(store.publish_still(late).unwrap(), None);
    assert_eq!(files(directory.path()), [store.video_path(ID)]);
    publish_still(&store, ID, Still::Thumbnail, "abc");
    assert_eq!(open(&store, ID, Still::Thumbnail).unwrap().sha256, ABC);
}

#[test]
fn a_still_that_is_made_twice_is_there_once() {
    let (store, directory) = store();
    publish_video(&store, ID, 1, "video");
    publish_still(&store, ID, Still::Thumbnail, "one");
    publish_still(&store, ID, Still::Thumbnail, "abc");
    assert_eq!(files(directory.path()).len(), 2);
    assert_eq!(open(&store, ID, Still::Thumbnail).unwrap().sha256, ABC);
}

#[test]
fn videos_and_stills_that_come_and_go_at_once_leave_nothing_behind() {
    let (store, directory) = store();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for attempt in 1..=100 {
                publish_video(&store, ID, attempt, "video");
                store.remove(ID).unwrap();
            }
        });
        for still in Still::ALL {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..300 {
                    if let Some(staging) = store.stage_still(ID, still).unwrap() {
                        fs::write(staging.path(), "still").unwrap();
                        store.publish_still(staging).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}
