//! The video itself, and pictures of it: whole or in part, never twice for nothing.

use crate::caller::now_ms;
use crate::gateway::{Gateway, blocking};
use crate::range::{Wanted, wanted};
use crate::respond::ApiError;
use crate::videos::{Pairs, pairs, video_id};
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use reel_api::ContentQuery;
use reel_artifacts::{OpenVideo, read_at, read_at_hand};
use reel_domain::{JobId, JobStatus, Still, Variant};
use reel_journal::{JobRecord, VideoMeta};
use reel_keys::SignedUrlError;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that are read from a video at a time.
const CHUNK_BYTES: usize = 128 * 1024;
/// It is one client's, and may be gone the next time.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The path of a video's content.
pub(crate) fn path(id: JobId) -> String {
    format!("/v1/videos/{id}/content")
}

/// `GET` and `HEAD /v1/videos/{id}/content`: with a key, or with a signature in its place.
pub(crate) async fn content(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<String>, PathRejection>,
    query: Pairs,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = video_id(id)?;
    let query = ContentQuery::from_query(pairs(query)?)?;
    let record = permitted(&gateway, id, &query, &headers).await?;
    let meta = completed(&record)?;
    // The video's own tag is in its row: a client that has it costs no look at the disk.
    if query.variant == Variant::Video && is_known(&headers, &etag(&meta.sha256)?) {
        return not_modified(&meta.sha256);
    }
    let content = match query.variant.still() {
        None => open_video(&gateway, id, meta).await?,
        Some(still) => open_still(&gateway, id, still).await?,
    };
    let etag = etag(&content.sha256)?;
    if is_known(&headers, &etag) {
        return not_modified(&content.sha256);
    }
    // Parts mean something to GET alone (RFC 9110, section 14.2).
    let wanted = match method {
        Method::GET => wanted_part(&headers, &etag, content.bytes),
        _ => Wanted::Whole,
    };
    match wanted {
        Wanted::Whole => whole(content),
        Wanted::Part { first, last } => part(content, first, last),
        Wanted::Nothing => Err(ApiError::RangeNotSatisfiable {
            bytes: content.bytes,
        }),
    }
}

/// Bytes that can be sent.
struct Content {
    id: JobId,
    variant: Variant,
    file: File,
    bytes: u64,
    sha256: String,
}

/// The row of a job whose content this request may have.
async fn permitted(
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
    let verified = gateway.door.signer().verify(
        &path(id),
        variant,
        &record.job.sharing.tenant,
        &expires_s.to_string(),
        signature,
        now_ms() / 1_000,
    );
    match verified {
        Ok(()) => Ok(record),
        Err(SignedUrlError::Malformed) => Err(SignedUrlError::Wrong.into()),
        Err(error) => Err(error.into()),
    }
}

/// The whole video of a completed job.
pub(crate) async fn whole_video(
    gateway: &Gateway,
    record: &JobRecord,
) -> Result<Response, ApiError> {
    whole(open_video(gateway, record.job.id, completed(record)?).await?)
}

fn completed(record: &JobRecord) -> Result<&VideoMeta, ApiError> {
    match record.status {
        JobStatus::Completed => record.video.as_ref().ok_or(ApiError::ContentMissing),
        status => Err(ApiError::NoContent(status)),
    }
}

fn etag(sha256: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::try_from(format!("\"{sha256}\""))
        .map_err(|error| ApiError::Internal(error.to_string()))
}

fn not_modified(sha256: &str) -> Result<Response, ApiError> {
    let etag = etag(sha256)?;
    let headers = [(header::ETAG, etag), (header::CACHE_CONTROL, CACHE_CONTROL)];
    Ok((StatusCode::NOT_MODIFIED, headers).into_response())
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

async fn open_video(gateway: &Gateway, id: JobId, meta: &VideoMeta) -> Result<Content, ApiError> {
    let Some(video) = found_video(gateway, id).await? else {
        return Err(missing(gateway, id).await);
    };
    Ok(Content {
        id,
        variant: Variant::Video,
        file: video.file,
        bytes: video.bytes,
        sha256: meta.sha256.clone(),
    })
}

async fn found_video(gateway: &Gateway, id: JobId) -> Result<Option<OpenVideo>, ApiError> {
    // What was made or fetched lately takes no thread of its own.
    if let Some(video) = gateway.store.open_video_at_hand(id) {
        return Ok(Some(video));
    }
    let store = gateway.store.clone();
    Ok(blocking(move || store.open_video(id)).await??)
}

/// Why there is no file: its job has expired or was deleted since it was looked at, or something is wrong.
async fn missing(gateway: &Gateway, id: JobId) -> ApiError {
    match gateway.record(id).await {
        Ok(record) if record.status == JobStatus::Completed => ApiError::ContentMissing,
        Ok(record) => ApiError::NoContent(record.status),
        Err(error) => error,
    }
}

/// A still is made when it is asked for first.
async fn open_still(gateway: &Gateway, id: JobId, still: Still) -> Result<Content, ApiError> {
    let ffmpeg = gateway.ffmpeg.clone();
    let make = move |video: PathBuf, output: PathBuf| async move {
        match still {
            Still::Thumbnail => ffmpeg.thumbnail(&video, &output).await,
            Still::Spritesheet => ffmpeg.spritesheet(&video, &output).await.map(drop),
        }
    };
    let made = gateway.gallery.open(id, still, make).await?;
    let Some(made) = made else {
        return Err(missing(gateway, id).await);
    };
    Ok(Content {
        id,
        variant: still.variant(),
        file: made.file,
        bytes: made.bytes,
        sha256: made.sha256,
    })
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

fn whole(content: Content) -> Result<Response, ApiError> {
    let headers = headers(&content, content.bytes)?;
    Ok((headers, body(content.file, 0, content.bytes)).into_response())
}

fn part(content: Content, first: u64, last: u64) -> Result<Response, ApiError> {
    let length = last - first + 1;
    let range = format!("bytes {first}-{last}/{}", content.bytes);
    let headers = headers(&content, length)?;
    Ok((
        StatusCode::PARTIAL_CONTENT,
        headers,
        [(header::CONTENT_RANGE, range)],
        body(content.file, first, last + 1),
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

fn headers(content: &Content, length: u64) -> Result<[(HeaderName, HeaderValue); 7], ApiError> {
    let Content { id, variant, .. } = content;
    // An id is letters and digits: safe as a name.
    let name = format!("inline; filename=\"{id}.{}\"", variant.extension());
    let disposition =
        HeaderValue::try_from(name).map_err(|error| ApiError::Internal(error.to_string()))?;
    let content_type = HeaderValue::from_static(variant.content_type());
    Ok([
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::ETAG, etag(&content.sha256)?),
        (header::CACHE_CONTROL, CACHE_CONTROL),
        (header::CONTENT_DISPOSITION, disposition),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ])
}
