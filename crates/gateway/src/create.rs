//! Requests for new videos: from nothing, from an earlier prompt, from an earlier video.

use crate::caller::Caller;
use crate::gateway::{Found, Gateway, blocking};
use crate::respond::ApiError;
use crate::submit::Asked;
use crate::{fetch, sync, videos, view};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use reel_api::{CreateVideo, ExtendVideo, IMAGE_FIELD, ImageSource, Invalid, RemixVideo};
use reel_domain::{Job, JobId, JobStatus, Rejection, Shape};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a place to decode an image.
const DECODER_WAIT_MAX: Duration = Duration::from_secs(30);

/// `POST /v1/videos`: answers when the job is durable.
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = Asked::read(&gateway, caller.clone(), request).await?;
    let id = new_video(&gateway, asked).await?;
    videos::show(&gateway, &caller, id).await
}

/// `POST /v1/videos/sync`: answers with the video, or with where to find it when that takes too long.
pub(crate) async fn create_sync(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let mut asked = Asked::read(&gateway, caller, request).await?;
    // Its answer is the video.
    let _attempt = asked.attempt.take();
    let id = new_video(&gateway, asked).await?;
    sync::video(&gateway, id).await
}

/// `POST /v1/videos/extensions`
pub(crate) async fn extend(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = Asked::read(&gateway, caller.clone(), request).await?;
    let id = match asked.earlier()? {
        Some(id) => id,
        None => extension(&gateway, asked).await?,
    };
    videos::show(&gateway, &caller, id).await
}

async fn extension(gateway: &Gateway, mut asked: Asked<'_>) -> Result<JobId, ApiError> {
    asked.refuse_image()?;
    let request = ExtendVideo::from_fields(std::mem::take(&mut asked.upload.fields))?;
    let source = gateway.find(request.video, &asked.caller).await?;
    let (job, video) = match (source.status(), &source) {
        (JobStatus::Completed, Found::Stored(record)) => (&record.job, record.job.id),
        (JobStatus::Expired, _) => return Err(Rejection::SourceGone { id: request.video }.into()),
        (status, _) => return Err(ApiError::NoContent(status)),
    };
    let shapes = view::continuations(&job.bundle.model, &gateway.pool.state());
    let job = request.into_job(job, &shapes, asked.stamp(false)?)?;
    let (count, shape) = (job.conditioning_frames, job.bundle.shape);
    let path = gateway.store.video_path(video);
    let given = match gateway.ffmpeg.last_frames(&path, count, shape).await {
        Ok(given) => given,
        // It has expired or was deleted since it was found.
        Err(_) if !tokio::fs::try_exists(&path).await.unwrap_or(true) => {
            return Err(Rejection::SourceGone { id: video }.into());
        }
        Err(error) => return Err(error.into()),
    };
    asked.submit(gateway, job, given).await
}

/// `POST /v1/videos/{id}/remix`
pub(crate) async fn remix(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<String>, PathRejection>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let source = videos::video_id(id)?;
    let mut asked = Asked::read(&gateway, caller.clone(), request).await?;
    let id = match asked.earlier()? {
        Some(id) => id,
        None => {
            let source = gateway.find(source, &caller).await?;
            asked.refuse_image()?;
            let request = RemixVideo::from_fields(std::mem::take(&mut asked.upload.fields))?;
            let job = request.into_job(source.job(), asked.stamp(false)?)?;
            let given = given_again(&gateway, &source, &job).await?;
            asked.submit(&gateway, job, given).await?
        }
    };
    videos::show(&gateway, &caller, id).await
}

async fn new_video(gateway: &Gateway, mut asked: Asked<'_>) -> Result<JobId, ApiError> {
    if let Some(id) = asked.earlier()? {
        return Ok(id);
    }
    let mut request = CreateVideo::from_fields(std::mem::take(&mut asked.upload.fields))?;
    let image = image(asked.upload.image.take(), request.image.take())?;
    let job = request.into_job(
        &view::offers(&gateway.catalog),
        asked.stamp(image.is_some())?,
    )?;
    let given = match image {
        Some(image) => decode(gateway, image, job.bundle.shape).await?,
        None => Vec::new(),
    };
    asked.submit(gateway, job, given).await
}

/// The one image that came with a request.
fn image(file: Option<Bytes>, named: Option<ImageSource>) -> Result<Option<ImageSource>, Invalid> {
    match (file, named) {
        (Some(_), Some(_)) => Err(Invalid::duplicate(IMAGE_FIELD)),
        (Some(file), None) => Ok(Some(ImageSource::Bytes(file.into()))),
        (None, named) => Ok(named),
    }
}

/// The first frame of a job.
async fn decode(gateway: &Gateway, image: ImageSource, shape: Shape) -> Result<Vec<u8>, ApiError> {
    let image = match image {
        ImageSource::Bytes(bytes) => bytes,
        ImageSource::Url(url) => fetch::image(gateway, url).await?,
    };
    let place = gateway.image_decodes.acquire();
    let place = tokio::time::timeout(DECODER_WAIT_MAX, place).await;
    let _place = place.ok().and_then(Result::ok).ok_or(ApiError::Shed)?;
    Ok(gateway.image_decoder.decode(image, shape).await?)
}

/// The frames that an earlier job started from.
async fn given_again(gateway: &Gateway, source: &Found, job: &Job) -> Result<Vec<u8>, ApiError> {
    if job.conditioning_frames == 0 {
        return Ok(Vec::new());
    }
    let (store, id) = (gateway.store.clone(), source.job().id);
    let given = blocking(move || store.given(id)).await?;
    given.map_err(|error| match error.is_missing() {
        true => ApiError::SourceGone,
        false => error.into(),
    })
}
