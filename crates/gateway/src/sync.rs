//! A video in the answer to the request for it.

use crate::content;
use crate::events::gone;
use crate::gateway::Gateway;
use crate::respond::ApiError;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use reel_domain::{JobId, JobStatus};
use reel_journal::JobRecord;

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
    let ended = tokio::time::timeout(deadline, follow(gateway, id)).await;
    let record = ended.map_err(|_| ApiError::StillRunning { id, deadline })??;
    match record.status {
        JobStatus::Completed => content::whole_video(gateway, &record).await,
        JobStatus::Failed => Err(ApiError::NotGenerated(record.failure)),
        JobStatus::Cancelled | JobStatus::Expired => Err(ApiError::NoContent(record.status)),
        // The supervisor is gone: the next start goes on with it.
        _ => Err(ApiError::StillRunning { id, deadline }),
    }
}

/// Follows a job until its row is terminal, or the supervisor is gone.
async fn follow(gateway: &Gateway, id: JobId) -> Result<JobRecord, ApiError> {
    let mut state = gateway.pool.watch();
    let mut newest = gateway.pool.board().newest();
    loop {
        newest.borrow_and_update();
        if let Some((_, mut progress)) = gateway.pool.board().watch(id) {
            let ended = async {
                let ended = progress.wait_for(|progress| progress.status.is_terminal());
                ended.await.is_ok()
            };
            tokio::select! {
                _ = ended => {}
                () = gone(&mut state) => return gateway.record(id).await,
            }
        }
        let record = gateway.record(id).await?;
        if record.status.is_terminal() {
            return Ok(record);
        }
        // It is durable since a moment ago, and about to be shown.
        tokio::select! {
            _ = newest.changed() => {}
            () = gone(&mut state) => return Ok(record),
        }
    }
}
