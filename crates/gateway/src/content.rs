//! The video itself, and pictures of it: whole or in part, never twice for nothing.

use crate::caller::now_ms;
use crate::gateway::{Gateway, blocking};
use crate::range::{Wanted, wanted};
use crate::respond::ApiError;
use crate::videos::{Pairs, pairs, video_id};
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use reel_api::{ContentQuery, Variant};
use reel_artifacts::{OpenVideo, read_at, read_at_hand};
use reel_domain::{JobId, JobStatus};
use reel_journal::{JobRecord, VideoMeta};
use reel_keys::SignedUrlError;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Bytes that are read from a video at a time.
const CHUNK_BYTES: usize = 128 * 1024;

/// The path of a video's content.
pub(crate) fn path(id: JobId) -> String {
    format!("/v1/videos/{id}/content")
}

/// `GET` and `HEAD /v1/videos/{id}/content`: with a key, or with a signature in its place.
pub(crate) async fn content(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<String>, PathRejection>,
    query: Pairs,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = video_id(id)?;
    let query = ContentQuery::from_query(pairs(query)?)?;
    let record = opened(&gateway, id, &query, &headers).await?;
    let etag = etag(&completed(record)?)?;
    if is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let video = open(&gateway, id).await?;
    match wanted_part(&headers, &etag, video.bytes) {
        Wanted::Whole => whole(id, video, etag),
        Wanted::Part { first, last } => part(id, video, etag, first, last),
        Wanted::Nothing => Err(ApiError::RangeNotSatisfiable { bytes: video.bytes }),
    }
}

/// The row of a job whose content this request may have.
async fn opened(
    gateway: &Gateway,
    id: JobId,
    query: &ContentQuery,
    headers: &HeaderMap,
) -> Result<JobRecord, ApiError> {
    let Some((expires_s, signature)) = &query.signed else {
        let caller = gateway.door.caller(headers)?;
        let record = gateway.record(id).await?;
        return match caller.sees(&record.job.sharing.tenant) {
            true => Ok(record),
            false => Err(ApiError::UnknownVideo),
        };
    };
    // Who has no signature for a video does not learn whether there is one.
    let record = gateway.record(id).await.map_err(|error| match error {
        ApiError::UnknownVideo => SignedUrlError::Wrong.into(),
        error => error,
    })?;
    let variant = match query.variant {
        Variant::Video => None,
        variant => Some(variant.as_str()),
    };
    gateway.door.signer().verify(
        &path(id),
        variant,
        &record.job.sharing.tenant,
        &expires_s.to_string(),
        signature,
        now_ms() / 1_000,
    )?;
    Ok(record)
}

/// The whole video of a completed job.
pub(crate) async fn whole_video(
    gateway: &Gateway,
    record: &JobRecord,
) -> Result<Response, ApiError> {
    let meta = record.video.as_ref().ok_or(ApiError::ContentMissing)?;
    let id = record.job.id;
    whole(id, open(gateway, id).await?, etag(meta)?)
}

fn completed(record: JobRecord) -> Result<VideoMeta, ApiError> {
    match record.status {
        JobStatus::Completed => record.video.ok_or(ApiError::ContentMissing),
        status => Err(ApiError::NoContent(status)),
    }
}

fn etag(video: &VideoMeta) -> Result<HeaderValue, ApiError> {
    HeaderValue::try_from(format!("\"{}\"", video.sha256))
        .map_err(|error| ApiError::Internal(error.to_string()))
}

/// The client has this very file.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let known = headers.get(header::IF_NONE_MATCH);
    let Some(known) = known.and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let same = |candidate: &str| {
        let candidate = candidate.trim();
        candidate == "*" || candidate.strip_prefix("W/").unwrap_or(candidate) == etag
    };
    known.split(',').any(same)
}

async fn open(gateway: &Gateway, id: JobId) -> Result<OpenVideo, ApiError> {
    // What was made or fetched lately takes no thread of its own.
    if let Some(video) = gateway.store.open_video_at_hand(id) {
        return Ok(video);
    }
    let store = gateway.store.clone();
    let video = blocking(move || store.open_video(id)).await??;
    video.ok_or(ApiError::ContentMissing)
}

fn wanted_part(headers: &HeaderMap, etag: &HeaderValue, bytes: u64) -> Wanted {
    // A part of another file is of no use: then all of this one is sent.
    let condition = headers.get(header::IF_RANGE);
    let range = headers.get(header::RANGE);
    match range.and_then(|value| value.to_str().ok()) {
        Some(range) if condition.is_none_or(|condition| condition == etag) => wanted(range, bytes),
        _ => Wanted::Whole,
    }
}

fn whole(id: JobId, video: OpenVideo, etag: HeaderValue) -> Result<Response, ApiError> {
    let headers = headers(id, etag, video.bytes)?;
    Ok((headers, body(video.file, 0, video.bytes)).into_response())
}

fn part(
    id: JobId,
    video: OpenVideo,
    etag: HeaderValue,
    first: u64,
    last: u64,
) -> Result<Response, ApiError> {
    let length = last - first + 1;
    let range = format!("bytes {first}-{last}/{}", video.bytes);
    Ok((
        StatusCode::PARTIAL_CONTENT,
        headers(id, etag, length)?,
        [(header::CONTENT_RANGE, range)],
        body(video.file, first, last + 1),
    )
        .into_response())
}

/// A file from one place to before another: from the kernel's memory at once where it lies there, and otherwise on a
/// thread that may wait for the disk.
fn body(file: File, begin: u64, end: u64) -> Body {
    if let Ok(bytes) = usize::try_from(end - begin)
        && bytes <= CHUNK_BYTES
        && let Some(all) = read_at_hand(&file, begin, bytes)
    {
        return Body::from(all);
    }
    let file = Arc::new(file);
    Body::from_stream(stream::try_unfold(begin, move |at| {
        let file = Arc::clone(&file);
        async move {
            let bytes = usize::try_from(end - at).unwrap_or(usize::MAX);
            let bytes = bytes.min(CHUNK_BYTES);
            if bytes == 0 {
                return Ok(None);
            }
            let chunk = match read_at_hand(&file, at, bytes) {
                Some(chunk) => chunk,
                None => tokio::task::spawn_blocking(move || read_at(&file, at, bytes)).await??,
            };
            io::Result::Ok(Some((Bytes::from(chunk), at + bytes as u64)))
        }
    }))
}

fn headers(
    id: JobId,
    etag: HeaderValue,
    length: u64,
) -> Result<[(HeaderName, HeaderValue); 7], ApiError> {
    // An id is letters and digits: safe as a name.
    let disposition = HeaderValue::try_from(format!("inline; filename=\"{id}.mp4\""))
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok([
        (header::CONTENT_TYPE, HeaderValue::from_static("video/mp4")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::ETAG, etag),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache"),
        ),
        (header::CONTENT_DISPOSITION, disposition),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ])
}
