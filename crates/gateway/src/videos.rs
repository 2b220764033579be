//! Reading, listing and deleting jobs.

use crate::gateway::Gateway;
use crate::respond::ApiError;
use crate::view;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use reel_api::{DeletedVideo, Invalid, ListVideos, SortOrder, VideoList, VideoObject, VideoStatus};
use reel_domain::JobId;
use reel_journal::Order;
use reel_pool::CancelError;
use std::sync::Arc;

/// The header that tells OpenAI's SDKs when to ask again. They read it once, in the first answer, and keep to it
/// until the end: a job that waits long now may run soon, so even that answer stays small.
const POLL_AFTER: &str = "openai-poll-after-ms";
/// When to ask again about a job that runs.
const POLL_RUNNING_MS: u64 = 200;
/// When to ask again about a job that waits, for each job that has to run first.
const POLL_QUEUED_MS: u64 = 200;
/// Longest time between two questions.
const POLL_MS_MAX: u64 = 1_000;

/// A query, pair by pair, so that its reader can name what is wrong.
pub(crate) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// `GET /v1/videos/{id}`
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = video_id(id)?;
    // The board first: what it misses because the job just ended, the row already has.
    let live = gateway.pool.board().progress(id);
    let record = gateway.record(id).await?;
    Ok(respond(view::video(record, live)))
}

/// `GET /v1/videos`
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
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
    let page = gateway
        .read(move |reader| reader.list(after, limit, order))
        .await?;
    let board = gateway.pool.board();
    let videos = page.records.into_iter().map(|record| {
        let live = board.progress(record.job.id);
        view::video(record, live)
    });
    Ok(Json(VideoList::new(videos.collect(), page.has_more)))
}

/// `DELETE /v1/videos/{id}`: cancels a job that is not over, and answers when its device is free and nothing is
/// left of it.
pub(crate) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<DeletedVideo>, ApiError> {
    let id = video_id(id)?;
    let record = gateway.record(id).await?;
    if !record.status.is_terminal() {
        match gateway.pool.cancel(id).await {
            // It may have ended between the two looks: all the better.
            Ok(()) | Err(CancelError::NotRunning) => {}
            Err(error) => return Err(error.into()),
        }
    }
    gateway.pool.delete(id).await?;
    Ok(Json(DeletedVideo::new(id.to_string())))
}

/// The object, and when to ask again.
pub(crate) fn respond(video: VideoObject) -> Response {
    let poll_after_ms = poll_after_ms(&video);
    let mut response = Json(video).into_response();
    if let Some(poll_after_ms) = poll_after_ms {
        let headers = response.headers_mut();
        headers.insert(POLL_AFTER, HeaderValue::from(poll_after_ms));
    }
    response
}

fn poll_after_ms(video: &VideoObject) -> Option<u64> {
    match video.status {
        VideoStatus::Queued => {
            let before = video.queue_position.unwrap_or(0) as u64;
            Some((POLL_QUEUED_MS * (before + 1)).min(POLL_MS_MAX))
        }
        VideoStatus::InProgress => Some(POLL_RUNNING_MS),
        VideoStatus::Completed | VideoStatus::Failed => None,
    }
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
