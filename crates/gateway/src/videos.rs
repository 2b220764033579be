//! Reading, listing, cancelling and deleting jobs.

use crate::caller::Caller;
use crate::gateway::{Found, Gateway};
use crate::respond::ApiError;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use reel_api::{DeletedVideo, Invalid, ListVideos, SortOrder, VideoList, VideoObject, VideoStatus};
use reel_domain::{JobId, JobStatus};
use reel_journal::{JobRecord, Order};
use reel_pool::CancelError;
use std::sync::Arc;

/// The header that tells OpenAI's SDKs when to ask again. They read it once, in the first answer, and keep to it
/// until the end.
const POLL_AFTER: &str = "openai-poll-after-ms";
/// Who asks so often along the way finds out in time that it is over: a tenth of the way late at most.
const POLLS_UNTIL_DONE: f64 = 10.0;
/// Shortest time between two questions.
const POLL_MS_MIN: u64 = 100;
/// Longest time between two questions.
const POLL_MS_MAX: u64 = 5_000;
/// Time between two questions while nothing is known of how long it takes.
const POLL_MS_UNKNOWN: u64 = 500;

/// A query, pair by pair, so that its reader can name what is wrong.
pub(crate) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// `GET /v1/videos/{id}`
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<String>, PathRejection>,
    caller: Caller,
) -> Result<Response, ApiError> {
    show(&gateway, &caller, video_id(id)?).await
}

/// `GET /v1/videos`
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Pairs,
) -> Result<Json<VideoList>, ApiError> {
    let ListVideos {
        after,
        limit,
        order,
    } = ListVideos::from_query(pairs(query)?)?;
    let order = match order {
        SortOrder::Asc => Order::Ascending,
        SortOrder::Desc => Order::Descending,
    };
    let only = caller.only();
    let page = gateway
        .read(move |reader| reader.list(only.as_ref(), after, limit, order))
        .await?;
    let mut videos = Vec::with_capacity(page.records.len());
    for record in page.records {
        videos.extend(listed(&gateway, record, &caller).await?);
    }
    Ok(Json(VideoList::new(videos, page.has_more)))
}

/// A row as it is listed. One that was not terminal when it was read may be by now, and has left the board: it is read
/// again, or its progress would go back to nothing for a moment. `None`: it has been deleted since.
async fn listed(
    gateway: &Gateway,
    record: JobRecord,
    caller: &Caller,
) -> Result<Option<VideoObject>, ApiError> {
    let found = match record.status.is_terminal() {
        true => Found::Stored(Box::new(record)),
        false => match gateway.find(record.job.id, caller).await {
            Err(ApiError::UnknownVideo) => return Ok(None),
            found => found?,
        },
    };
    Ok(Some(gateway.video(found)))
}

/// `POST /v1/videos/{id}/cancel`: answers when the job's device is free of it. A job that was cancelled before is
/// cancelled.
pub(crate) async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<String>, PathRejection>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let id = video_id(id)?;
    let status = gateway.find(id, &caller).await?.status();
    match status {
        JobStatus::Cancelled => {}
        status if status.is_terminal() => return Err(CancelError::NotRunning.into()),
        _ => end(&gateway, id).await?,
    }
    // It may have been completed between the two looks.
    let record = gateway.record(id).await?;
    match record.status {
        JobStatus::Cancelled => Ok(respond(gateway.video(Found::Stored(Box::new(record))))),
        _ => Err(CancelError::NotRunning.into()),
    }
}

/// `DELETE /v1/videos/{id}`: cancels a job that is not over, and answers when its device is free and nothing is
/// left of it.
pub(crate) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<String>, PathRejection>,
    caller: Caller,
) -> Result<Json<DeletedVideo>, ApiError> {
    let id = video_id(id)?;
    if !gateway.find(id, &caller).await?.status().is_terminal() {
        end(&gateway, id).await?;
    }
    gateway.pool.delete(id).await?;
    Ok(Json(DeletedVideo::new(id.to_string())))
}

/// Cancels a job that is not over, and waits until its device is free.
async fn end(gateway: &Gateway, id: JobId) -> Result<(), ApiError> {
    match gateway.pool.cancel(id).await {
        // It may have ended between the two looks: all the better.
        Ok(()) | Err(CancelError::NotRunning) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The object of a job that the caller may see.
pub(crate) async fn show(
    gateway: &Gateway,
    caller: &Caller,
    id: JobId,
) -> Result<Response, ApiError> {
    Ok(respond(gateway.video(gateway.find(id, caller).await?)))
}

/// The object, and when to ask again.
fn respond(video: VideoObject) -> Response {
    let poll_after_ms = poll_after_ms(&video);
    let mut response = Json(video).into_response();
    if let Some(poll_after_ms) = poll_after_ms {
        let headers = response.headers_mut();
        headers.insert(POLL_AFTER, HeaderValue::from(poll_after_ms));
    }
    response
}

fn poll_after_ms(video: &VideoObject) -> Option<u64> {
    if matches!(video.status, VideoStatus::Completed | VideoStatus::Failed) {
        return None;
    }
    let share = |p50_s: f64| (p50_s * 1_000.0 / POLLS_UNTIL_DONE) as u64;
    let wanted = video.eta.map_or(POLL_MS_UNKNOWN, |eta| share(eta.p50));
    Some(wanted.clamp(POLL_MS_MIN, POLL_MS_MAX))
}

/// The job that a path names. A text that is no id names no job.
pub(crate) fn video_id(id: Result<Path<String>, PathRejection>) -> Result<JobId, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::UnknownVideo)?;
    id.parse().map_err(|_| ApiError::UnknownVideo)
}

pub(crate) fn pairs(query: Pairs) -> Result<Vec<(String, String)>, ApiError> {
    match query {
        Ok(Query(pairs)) => Ok(pairs),
        Err(_) => Err(Invalid::body("the query string cannot be read".into()).into()),
    }
}
