//! Stills that are made when somebody asks for them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use reel_artifacts::{Gallery, OpenStill, StillError, Store};
use reel_domain::{Fps, JobId, Still};
use reel_media::{Clip, Ffmpeg};
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet, yield_now};

const ID: JobId = JobId::from_bytes([1; 16]);
const OTHER: JobId = JobId::from_bytes([2; 16]);

type Asked = Result<Option<OpenStill>, StillError>;

/// A gallery whose stills are copies of their videos, made when the test lets them.
struct Fixture {
    gallery: Gallery,
    store: Store,
    /// How many may be made to the end.
    permits: Semaphore,
    begun: AtomicUsize,
    directory: TempDir,
}

impl Fixture {
    fn new(permits: usize) -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for (id, text) in [(ID, "a video"), (OTHER, "another")] {
            let staging = store.stage(id, 1).unwrap();
            fs::write(staging.path(), text).unwrap();
            store.publish(staging).unwrap();
        }
        Arc::new(Self {
            gallery: Gallery::new(store.clone()),
            store,
            permits: Semaphore::new(permits),
            begun: AtomicUsize::new(0),
            directory,
        })
    }

    async fn ask(&self, id: JobId, still: Still) -> Asked {
        let make = async |video: PathBuf, out: PathBuf| {
            self.begun.fetch_add(1, Ordering::SeqCst);
            fs::write(&out, "half")?;
            self.permits.acquire().await.unwrap().forget();
            fs::copy(video, out).map(drop)
        };
        self.gallery.open(id, still, make).await
    }

    fn spawn(self: &Arc<Self>, id: JobId, still: Still) -> JoinHandle<Asked> {
        let fixture = Arc::clone(self);
        tokio::spawn(async move { fixture.ask(id, still).await })
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// Waits until as many have begun.
    async fn have_begun(&self, count: usize) {
        while self.begun() < count {
            yield_now().await;
        }
    }

    fn staged(&self) -> usize {
        let staging = self.directory.path().join("artifacts/.staging");
        fs::read_dir(staging).unwrap().count()
    }
}

fn text(still: Option<OpenStill>) -> String {
    let mut still = still.unwrap();
    let mut text = String::new();
    still.file.read_to_string(&mut text).unwrap();
    assert_eq!(still.bytes, text.len() as u64);
    text
}

#[tokio::test]
async fn a_still_is_made_when_it_is_asked_for_first_and_only_then() {
    let fixture = Fixture::new(10);
    for _ in 0..3 {
        let still = fixture.ask(ID, Still::Thumbnail).await.unwrap();
        assert_eq!(text(still), "a video");
    }
    assert_eq!(fixture.begun(), 1);
    let still = fixture.ask(OTHER, Still::Thumbnail).await.unwrap();
    assert_eq!(text(still), "another");
    fixture.ask(ID, Still::Spritesheet).await.unwrap().unwrap();
    assert_eq!((fixture.begun(), fixture.staged()), (3, 0));
}

#[tokio::test]
async fn however_many_ask_at_once_it_is_made_once() {
    let fixture = Fixture::new(0);
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        let fixture = Arc::clone(&fixture);
        asking.spawn(async move { fixture.ask(ID, Still::Thumbnail).await });
    }
    fixture.have_begun(1).await;
    fixture.permits.add_permits(50);
    for asked in asking.join_all().await {
        assert_eq!(text(asked.unwrap()), "a video");
    }
    assert_eq!(fixture.begun(), 1);
}

#[tokio::test]
async fn stills_of_different_videos_do_not_wait_for_each_other() {
    let fixture = Fixture::new(0);
    let asking = [
        fixture.spawn(ID, Still::Thumbnail),
        fixture.spawn(ID, Still::Spritesheet),
        fixture.spawn(OTHER, Still::Thumbnail),
    ];
    fixture.have_begun(3).await;
    fixture.permits.add_permits(3);
    for asked in asking {
        assert!(asked.await.unwrap().unwrap().is_some());
    }
}

#[tokio::test]
async fn if_the_first_who_asked_goes_away_the_next_makes_it() {
    let fixture = Fixture::new(0);
    let first = fixture.spawn(ID, Still::Thumbnail);
    fixture.have_begun(1).await;
    let second = fixture.spawn(ID, Still::Thumbnail);
    first.abort();
    fixture.have_begun(2).await;
    fixture.permits.add_permits(1);
    assert_eq!(text(second.await.unwrap().unwrap()), "a video");
    assert_eq!(fixture.staged(), 0);
}

#[tokio::test]
async fn an_error_names_the_still_and_who_asks_later_tries_again() {
    let fixture = Fixture::new(10);
    let fail = async |_, out: PathBuf| -> io::Result<()> {
        fs::write(out, "half")?;
        Err(io::Error::other("no such codec"))
    };
    let error = fixture.gallery.open(ID, Still::Thumbnail, fail).await;
    let expected = format!("the thumbnail of {ID} could not be made: no such codec");
    assert_eq!(error.unwrap_err().to_string(), expected);
    assert_eq!(fixture.staged(), 0);
    let still = fixture.ask(ID, Still::Thumbnail).await.unwrap();
    assert_eq!(text(still), "a video");
}

#[tokio::test]
async fn ffmpeg_makes_both_stills_of_a_video() {
    let fixture = Fixture::new(0);
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let clip = Clip::new("64x48@3f".parse().unwrap(), Fps::new(8).unwrap());
    let frames = tempfile::tempfile().unwrap();
    frames.set_len(clip.shape().video_bytes()).unwrap();
    let staging = fixture.store.stage(ID, 2).unwrap();
    ffmpeg.encode(frames, clip, staging.path()).await.unwrap();
    fixture.store.publish(staging).unwrap();
    let (gallery, ffmpeg) = (&fixture.gallery, &ffmpeg);
    let thumbnail = async |video: PathBuf, out: PathBuf| ffmpeg.thumbnail(&video, &out).await;
    let thumbnail = gallery.open(ID, Still::Thumbnail, thumbnail).await;
    let sheet =
        async |video: PathBuf, out: PathBuf| ffmpeg.spritesheet(&video, &out).await.map(drop);
    let sheet = gallery.open(ID, Still::Spritesheet, sheet).await;
    for (made, start) in [(thumbnail, &b"RIFF"[..]), (sheet, &b"\xff\xd8\xff"[..])] {
        let mut still = made.unwrap().unwrap();
        let mut bytes = Vec::new();
        still.file.read_to_end(&mut bytes).unwrap();
        assert!(bytes.starts_with(start));
    }
}

#[tokio::test]
async fn a_job_without_a_video_has_no_still_and_nothing_is_made() {
    let fixture = Fixture::new(10);
    fixture.store.remove(ID).unwrap();
    assert!(fixture.ask(ID, Still::Thumbnail).await.unwrap().is_none());
    assert_eq!(fixture.begun(), 0);
}

#[tokio::test]
async fn a_video_that_is_replaced_while_its_still_is_made_has_none() {
    let fixture = Fixture::new(0);
    let asking = fixture.spawn(ID, Still::Thumbnail);
    fixture.have_begun(1).await;
    fixture.store.remove(ID).unwrap();
    let staging = fixture.store.stage(ID, 2).unwrap();
    fs::write(staging.path(), "the next").unwrap();
    fixture.store.publish(staging).unwrap();
    fixture.permits.add_permits(1);
    assert!(asking.await.unwrap().unwrap().is_none());
    assert_eq!(fixture.staged(), 0);
}
