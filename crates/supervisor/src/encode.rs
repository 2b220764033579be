//! Frames to a published video, as a task of its own: the device is free meanwhile.

use reel_artifacts::Store;
use reel_domain::{AttemptId, Failure, FailureCode, Fps, Shape};
use reel_journal::VideoMeta;
use reel_media::Ffmpeg;
use reel_protocol::Pixels;

/// Encodes, hashes and publishes one attempt's frames.
pub(crate) async fn publish_video(
    ffmpeg: Ffmpeg,
    store: Store,
    attempt: AttemptId,
    pixels: Pixels,
    shape: Shape,
    fps: Fps,
) -> Result<VideoMeta, Failure> {
    let staging = blocking({
        let store = store.clone();
        move || store.stage(attempt.job, attempt.number)
    })
    .await?;
    ffmpeg
        .encode(pixels.into_file(), shape, fps, staging.path())
        .await
        .map_err(|error| failed(attempt, &error))?;
    let published = blocking(move || store.publish(staging)).await?;
    Ok(VideoMeta {
        bytes: published.bytes,
        sha256: published.sha256,
    })
}

/// Runs file work off the loop.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Failure>
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(not_stored(&error)),
        Err(error) => Err(not_stored(&error)),
    }
}

fn failed(attempt: AttemptId, error: &dyn std::error::Error) -> Failure {
    tracing::error!(%attempt, error = %chain(error), "the video could not be encoded");
    Failure {
        code: FailureCode::EncodingFailed,
        message: "the video could not be encoded".into(),
    }
}

fn not_stored(error: &dyn std::error::Error) -> Failure {
    tracing::error!(error = %chain(error), "the video could not be stored");
    Failure {
        code: FailureCode::EncodingFailed,
        message: "the video could not be stored".into(),
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
