//! A program that never ends, and what becomes of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use reel_domain::{Fps, Shape};
use reel_media::{
    APPEND_DEADLINE, Clip, ENCODE_DEADLINE, Ffmpeg, LAST_FRAMES_DEADLINE, MediaError,
    STILL_DEADLINE,
};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const NOWHERE: &str = "/nowhere/at/all";

/// A program that says that it has begun and then does nothing. What it says it with is closed when it is gone.
struct Hanging {
    directory: TempDir,
}

impl Hanging {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hanging = Self { directory };
        let made = Command::new("mkfifo").arg(hanging.pipe()).status();
        assert!(made.unwrap().success());
        let text = format!(
            "#!/bin/sh\nexec 9>'{}'\nprintf . >&9\nexec sleep 1000\n",
            hanging.pipe().display()
        );
        fs::write(hanging.program(), text).unwrap();
        fs::set_permissions(hanging.program(), Permissions::from_mode(0o700)).unwrap();
        hanging
    }

    fn pipe(&self) -> PathBuf {
        self.directory.path().join("pipe")
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("ffmpeg")
    }

    fn ffmpeg(&self) -> Ffmpeg {
        Ffmpeg::locate(Some(&self.program())).unwrap()
    }

    /// Its pipe, after it has begun.
    async fn begun(&self) -> File {
        let pipe = self.pipe();
        blocking(move || {
            let mut pipe = File::open(pipe)?;
            pipe.read_exact(&mut [0])?;
            Ok(pipe)
        })
        .await
    }
}

/// A clock that stands still does not go on while this runs.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap().unwrap()
}

async fn assert_gone(mut pipe: File) {
    let rest = blocking(move || {
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).map(|_| rest)
    });
    assert_eq!(rest.await, Vec::<u8>::new());
}

async fn assert_killed_at(
    deadline: Duration,
    work: impl AsyncFnOnce(Ffmpeg) -> Result<(), MediaError>,
) {
    let hanging = Hanging::new();
    let (result, pipe) = tokio::join!(work(hanging.ffmpeg()), hanging.begun());
    assert!(matches!(result, Err(MediaError::Deadline(after)) if after == deadline));
    assert_gone(pipe).await;
}

fn nowhere() -> &'static Path {
    Path::new(NOWHERE)
}

fn clip() -> Clip {
    Clip::new("64x48@1f".parse().unwrap(), Fps::new(8).unwrap())
}

fn frames(shape: Shape) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(shape.video_bytes()).unwrap();
    file
}

#[tokio::test(start_paused = true)]
async fn a_program_that_hangs_is_killed_at_the_deadline_of_its_work() {
    assert_killed_at(ENCODE_DEADLINE, async |ffmpeg| {
        ffmpeg
            .encode(frames(clip().shape()), clip(), nowhere())
            .await
    })
    .await;
    assert_killed_at(STILL_DEADLINE, async |ffmpeg| {
        ffmpeg.thumbnail(nowhere(), nowhere()).await
    })
    .await;
    assert_killed_at(STILL_DEADLINE, async |ffmpeg| {
        ffmpeg.spritesheet(nowhere(), nowhere()).await.map(drop)
    })
    .await;
    assert_killed_at(LAST_FRAMES_DEADLINE, async |ffmpeg| {
        let last = ffmpeg.last_frames(nowhere(), 1, clip().shape()).await;
        last.map(drop)
    })
    .await;
    assert_killed_at(APPEND_DEADLINE, async |ffmpeg| {
        ffmpeg
            .append(nowhere(), nowhere(), nowhere())
            .await
            .map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_program_whose_work_nobody_waits_for_is_killed() {
    let hanging = Hanging::new();
    let ffmpeg = hanging.ffmpeg();
    let work = tokio::spawn(async move { ffmpeg.thumbnail(nowhere(), nowhere()).await });
    let pipe = hanging.begun().await;
    work.abort();
    assert_gone(pipe).await;
}
