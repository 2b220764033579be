//! What happens to jobs, as it happens: server-sent events (HTML standard, section 9.2).
//!
//! Nothing is queued for a reader: one who is slow gets the latest state of a job and not each one before it, and of
//! all jobs the changes that are still kept, with a word about what was missed. One who does not read at all loses the
//! connection when it has been stuck for [`ServeLimits::write_stall_deadline`](crate::ServeLimits). A key that is
//! revoked or ends takes its streams with it: nothing more is told to them.

use crate::caller::Caller;
use crate::gateway::{Found, Gateway};
use crate::respond::ApiError;
use crate::videos::video_id;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use reel_api::{Invalid, MissedEvents, VideoObject, VideoStatus};
use reel_domain::{Job, JobId};
use reel_pool::{Change, JobProgress, Missed, PoolState};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Between two comments that keep proxies from closing a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Changes that are taken at a time.
const CHANGES_AT_ONCE: usize = 64;
/// Where a client says what it has.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `GET /v1/videos/{id}/events`: one job until its end. The id of an event is the object's `sequence`.
pub(crate) async fn of_video(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<String>, PathRejection>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = video_id(id)?;
    let seen = last_event_id(&headers)?.unwrap_or(0);
    let watched = gateway.watched(id).await;
    let (job, progress) = match watched {
        Some((job, progress)) if caller.sees(&job.sharing.tenant) => (job, progress),
        Some(_) => return Err(ApiError::UnknownVideo),
        None => return ended(&gateway, id, &caller, seen).await,
    };
    // Who has more than there is has it from elsewhere, and would wait for ever.
    let seen = match seen <= progress.borrow().sequence {
        true => seen,
        false => 0,
    };
    let place = place(&gateway)?;
    let following = Following {
        state: gateway.pool.watch(),
        gateway,
        caller,
        job,
        progress,
        seen,
        over: false,
        _place: place,
    };
    Ok(respond(stream::unfold(following, Following::next)))
}

/// `GET /v1/events`: every job of the caller. The id of an event is its number among all changes.
pub(crate) async fn of_all(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let newest = gateway.pool.board().newest();
    let seen = last_event_id(&headers)?.unwrap_or(*newest.borrow());
    let place = place(&gateway)?;
    let all = All {
        state: gateway.pool.watch(),
        gateway,
        caller,
        newest,
        seen,
        ready: VecDeque::new(),
        _place: place,
    };
    Ok(respond(stream::unfold(all, All::next)))
}

/// One of the streams that may be open at once.
fn place(gateway: &Gateway) -> Result<OwnedSemaphorePermit, ApiError> {
    let streams = Arc::clone(&gateway.event_streams);
    streams.try_acquire_owned().map_err(|_| ApiError::Shed)
}

fn respond(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let alive = KeepAlive::new().interval(HEARTBEAT).text("alive");
    let headers = [
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Sse::new(events).keep_alive(alive)).into_response()
}

/// The stream of a job that is over: its end, and nothing for who has seen that. The status tells a browser not to
/// come back.
async fn ended(
    gateway: &Arc<Gateway>,
    id: JobId,
    caller: &Caller,
    seen: u64,
) -> Result<Response, ApiError> {
    let video = gateway.video(gateway.find(id, caller).await?);
    if video.sequence == seen && seen > 0 {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let event = of(&video, video.sequence);
    Ok(respond(stream::iter([Ok(event)])))
}

/// One reader of one job.
struct Following {
    gateway: Arc<Gateway>,
    caller: Caller,
    job: Arc<Job>,
    progress: watch::Receiver<JobProgress>,
    /// Closes with the supervisor.
    state: watch::Receiver<Arc<PoolState>>,
    /// The number of the last change that the reader has.
    seen: u64,
    over: bool,
    _place: OwnedSemaphorePermit,
}

impl Following {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        while !self.over {
            let progress = self.progress.borrow_and_update().clone();
            if progress.sequence > self.seen {
                if !self.gateway.door.still_admits(&self.caller) {
                    return None;
                }
                self.seen = progress.sequence;
                self.over = progress.status.is_terminal();
                let video = shown(&self.gateway, &self.job, progress).await.ok()??;
                return Some((Ok(of(&video, video.sequence)), self));
            }
            tokio::select! {
                // What has happened is told before the end of everything.
                biased;
                changed = self.progress.changed() => changed.ok()?,
                () = gone(&mut self.state) => return None,
            }
        }
        None
    }
}

/// One reader of all jobs.
struct All {
    gateway: Arc<Gateway>,
    caller: Caller,
    newest: watch::Receiver<u64>,
    /// Closes with the supervisor.
    state: watch::Receiver<Arc<PoolState>>,
    /// The number of the last change that was looked at.
    seen: u64,
    ready: VecDeque<Change>,
    _place: OwnedSemaphorePermit,
}

impl All {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            while let Some(Change {
                number,
                job,
                progress,
            }) = self.ready.pop_front()
            {
                self.seen = number;
                if !self.gateway.door.still_admits(&self.caller) {
                    return None;
                }
                if self.caller.sees(&job.sharing.tenant)
                    && let Some(video) = shown(&self.gateway, &job, progress).await.ok()?
                {
                    return Some((Ok(of(&video, number)), self));
                }
            }
            self.newest.borrow_and_update();
            match self
                .gateway
                .pool
                .board()
                .changes_after(self.seen, CHANGES_AT_ONCE)
            {
                Ok(changes) if changes.is_empty() => tokio::select! {
                    biased;
                    changed = self.newest.changed() => changed.ok()?,
                    () = gone(&mut self.state) => return None,
                },
                Ok(changes) => self.ready = changes.into(),
                Err(Missed { oldest }) => {
                    self.seen = oldest - 1;
                    return Some((Ok(missed(oldest)), self));
                }
            }
        }
    }
}

/// Ready when the supervisor is gone, and nothing will happen any more.
pub(crate) async fn gone(state: &mut watch::Receiver<Arc<PoolState>>) {
    while state.changed().await.is_ok() {}
}

/// A job after a change; after its last one, as its row shows it. `None`: it has been deleted meanwhile. After an error
/// the stream ends: its reader comes back with what it has, and misses nothing.
async fn shown(
    gateway: &Gateway,
    job: &Arc<Job>,
    progress: JobProgress,
) -> Result<Option<VideoObject>, ApiError> {
    let found = match progress.status.is_terminal() {
        false => Found::Living(Arc::clone(job), progress),
        true => match gateway.record(job.id).await {
            Ok(record) => Found::Stored(Box::new(record)),
            Err(ApiError::UnknownVideo) => return Ok(None),
            Err(error) => {
                error.log();
                return Err(error);
            }
        },
    };
    Ok(Some(gateway.video(found)))
}

fn of(video: &VideoObject, id: u64) -> Event {
    let event = Event::default()
        .id(id.to_string())
        .event(name(video.status));
    event.json_data(video).unwrap_or_else(|error| {
        tracing::error!(%error, "an event could not be written");
        Event::default().comment("an event could not be written")
    })
}

const fn name(status: VideoStatus) -> &'static str {
    match status {
        VideoStatus::Queued => "video.queued",
        VideoStatus::InProgress => "video.in_progress",
        VideoStatus::Completed => "video.completed",
        VideoStatus::Failed => "video.failed",
    }
}

fn missed(oldest: u64) -> Event {
    let event = Event::default()
        .id((oldest - 1).to_string())
        .event("events.missed");
    let data = MissedEvents {
        oldest,
        message: "changes before this number are not kept; list the videos to see how they stand",
    };
    event.json_data(data).unwrap_or_default()
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.map(Some).ok_or_else(|| {
        let message = "`last-event-id` must be the id of an event of this stream: a whole number";
        Invalid::value(LAST_EVENT_ID.as_str(), message.into()).into()
    })
}
