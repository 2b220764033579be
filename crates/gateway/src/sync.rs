//! A video in the answer to the request for it.

use crate::content;
use crate::gateway::Gateway;
use crate::respond::ApiError;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use reel_domain::{JobId, JobStatus};

/// Names the job, whatever becomes of the request.
const ID_HEADER: &str = "x-video-id";

/// Waits for a job, and answers with its video. The job goes on when its client does not.
pub(crate) async fn video(gateway: &Gateway, id: JobId) -> Result<Response, ApiError> {
    let mut response = match finished(gateway, id).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    let name = HeaderValue::try_from(id.to_string())
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    response.headers_mut().insert(ID_HEADER, name);
    Ok(response)
}

async fn finished(gateway: &Gateway, id: JobId) -> Result<Response, ApiError> {
    let deadline = gateway.config.sync_deadline;
    if let Some((_, mut progress)) = gateway.pool.board().watch(id) {
        let ended = progress.wait_for(|progress| progress.status.is_terminal());
        // A channel that closes has shown the end, or the supervisor is gone: the row says which.
        if tokio::time::timeout(deadline, ended).await.is_err() {
            return Err(ApiError::StillRunning { id, deadline });
        }
    }
    let record = gateway.record(id).await?;
    match record.status {
        JobStatus::Completed => content::whole_video(gateway, &record).await,
        JobStatus::Failed => Err(ApiError::NotGenerated(record.failure)),
        JobStatus::Cancelled | JobStatus::Expired => Err(ApiError::NoContent(record.status)),
        _ => Err(ApiError::StillRunning { id, deadline }),
    }
}
