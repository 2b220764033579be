//! Frames to a published video, as a task of its own: the device is free meanwhile.
//!
//! Most of the time of a short encoding is the start of the program, so it is started while the last steps are
//! still being computed.

use reel_artifacts::{Staging, Store, StoreError};
use reel_domain::{AttemptId, Failure, FailureCode, Job, Origin};
use reel_journal::VideoMeta;
use reel_media::{Clip, Encoder, Ffmpeg, MediaError};
use reel_protocol::{Pixels, Video};
use std::fs::File;

/// Larger videos are read by the encoder straight from their memory file: beside their length, the start of
/// the program does not count, and a copy through a pipe would.
const PREPARED_VIDEO_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// With less space than this a disk is full.
const FULL_BYTES: u64 = 1 << 20;

/// What a video is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    clip: Clip,
    /// It goes on with an earlier video, and begins with that.
    extends: bool,
}

impl Form {
    /// The form of a job's video. Of an extension, the frames that it goes on from are in the earlier video already.
    pub(crate) fn of(job: &Job) -> Self {
        let clip = Clip::new(job.bundle.shape, job.sampling.fps);
        match job.origin {
            Some(Origin::Extension { .. }) => Self {
                // Frames that it adds were asked for: there are some.
                clip: clip.without_first(job.conditioning_frames).unwrap_or(clip),
                extends: true,
            },
            _ => Self {
                clip,
                extends: false,
            },
        }
    }

    /// It pays to start an encoder before the frames exist.
    pub(crate) fn is_worth_preparing(self) -> bool {
        !self.extends && self.clip.shape().video_bytes() <= PREPARED_VIDEO_BYTES_MAX
    }
}

/// An encoder that has started before its frames exist, and where it will write.
#[derive(Debug)]
pub(crate) struct Prepared {
    encoder: Encoder,
    staging: Staging,
}

/// Starts an encoder while the frames are still being made.
pub(crate) async fn prepare(
    ffmpeg: Ffmpeg,
    store: Store,
    attempt: AttemptId,
    form: Form,
) -> Result<Prepared, Failure> {
    let stage = store.clone();
    let staging = blocking(move || stage.stage(attempt.job, attempt.number)).await?;
    let encoder = ffmpeg
        .prepare(form.clip, staging.path())
        .map_err(|error| failed(attempt, &error, &store))?;
    Ok(Prepared { encoder, staging })
}

/// Nobody wants what an encoder was started for. Its file goes when it cannot write to it any more.
pub(crate) fn abandon(prepared: Option<Prepared>) {
    if let Some(Prepared { encoder, staging }) = prepared {
        tokio::spawn(async move {
            encoder.abandon().await;
            drop(staging);
        });
    }
}

/// Encodes, hashes and publishes one attempt's frames.
pub(crate) async fn publish_video(
    ffmpeg: Ffmpeg,
    store: Store,
    attempt: AttemptId,
    pixels: Pixels,
    form: Form,
    prepared: Option<Prepared>,
) -> Result<VideoMeta, Failure> {
    let frames = pixels.into_file();
    let staging = match early(attempt, &frames, prepared).await {
        Some(staging) => staging,
        None => {
            let stage = store.clone();
            let staging = blocking(move || stage.stage(attempt.job, attempt.number)).await?;
            let encoded = match form.extends {
                false => ffmpeg.encode(frames, form.clip, staging.path()).await,
                true => extend(&ffmpeg, &store, attempt, frames, (form.clip, &staging)).await,
            };
            encoded.map_err(|error| failed(attempt, &error, &store))?;
            staging
        }
    };
    let published = blocking(move || store.publish(staging)).await?;
    Ok(VideoMeta {
        bytes: published.bytes,
        sha256: published.sha256,
    })
}

/// Encodes what is new, and puts it behind the video that it goes on with.
async fn extend(
    ffmpeg: &Ffmpeg,
    store: &Store,
    attempt: AttemptId,
    frames: File,
    (clip, staging): (Clip, &Staging),
) -> Result<(), MediaError> {
    // In the same directory, which every start empties.
    let part = staging.path().with_extension("part.mp4");
    let whole = async {
        ffmpeg.encode(frames, clip, &part).await?;
        let prior = store.prior_path(attempt.job);
        ffmpeg.append(&prior, &part, staging.path()).await
    };
    let appended = whole.await;
    let _ = tokio::fs::remove_file(&part).await;
    appended.map(drop)
}

/// Publishes a video that its worker has made whole; blocks on the disk.
pub(crate) fn publish_ready_made(
    store: &Store,
    attempt: AttemptId,
    video: &Video,
) -> Result<VideoMeta, Failure> {
    let mp4 = video.read().map_err(|error| not_stored(&error, false))?;
    let published = store.publish_bytes(attempt, &mp4);
    let published = published.map_err(|error| not_stored(&error, error.is_out_of_space()))?;
    Ok(VideoMeta {
        bytes: published.bytes,
        sha256: published.sha256,
    })
}

/// Encodes with the encoder that was started ahead; what it cannot do, a fresh one tries again.
async fn early(attempt: AttemptId, frames: &File, prepared: Option<Prepared>) -> Option<Staging> {
    let Prepared { encoder, staging } = prepared?;
    let encoded = match frames.try_clone() {
        Ok(frames) => encoder.encode(frames).await,
        Err(error) => Err(error.into()),
    };
    match encoded {
        Ok(()) => Some(staging),
        Err(error) => {
            tracing::warn!(%attempt, %error, "the early encoder failed; starting another");
            None
        }
    }
}

/// Runs file work off the loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(not_stored(&error, error.is_out_of_space())),
        Err(error) => Err(not_stored(&error, false)),
    }
}

/// The encoder does not say why it could not write; the disk does.
fn failed(attempt: AttemptId, error: &dyn std::error::Error, store: &Store) -> Failure {
    tracing::error!(%attempt, error = %chain(error), "the video could not be encoded");
    if store.free_bytes().is_ok_and(|free| free < FULL_BYTES) {
        return no_space();
    }
    Failure {
        code: FailureCode::EncodingFailed,
        message: "the video could not be encoded".into(),
    }
}

fn not_stored(error: &dyn std::error::Error, out_of_space: bool) -> Failure {
    tracing::error!(error = %chain(error), "the video could not be stored");
    if out_of_space {
        return no_space();
    }
    Failure {
        code: FailureCode::EncodingFailed,
        message: "the video could not be stored".into(),
    }
}

fn no_space() -> Failure {
    Failure {
        code: FailureCode::StorageFull,
        message: "the video found no space on the server's disk".into(),
    }
}

/// An error and everything that it came from, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
