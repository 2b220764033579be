//! The one place where an error becomes an HTTP response.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reel_api::{ErrorBody, ErrorObject, Invalid};
use reel_artifacts::{StillError, StoreError};
use reel_domain::{Failure, JobId, JobStatus, Priority, Rejection};
use reel_journal::ReadError;
use reel_keys::{KeyError, Limited, SignedUrlError};
use reel_media::{ImageError, MediaError};
use reel_outbound::FetchError;
use reel_pool::{CancelError, DeleteError};
use std::time::Duration;

/// When to come back while the server drains or bakes: about the length of a restart.
const RETRY_NOT_SERVING: Duration = Duration::from_secs(10);
/// When to come back after a moment of overload.
const RETRY_OVERLOADED: Duration = Duration::from_secs(1);

/// Where OpenAI's SDKs look whether to ask again. Left to themselves they do after every 409 and everything from 500 on.
const SHOULD_RETRY: &str = "x-should-retry";

/// Everything that can go wrong with a request. The `Display` text is for the client: it never holds paths, and
/// nothing of the client's text but what [`Invalid`] quotes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    #[error("the body did not arrive within {} s", .0.as_secs())]
    BodyLate(Duration),
    #[error("the body could not be read to its end")]
    BodyBroken,
    #[error("send the request as application/json or multipart/form-data")]
    UnsupportedMediaType,
    #[error("there is no such route")]
    UnknownRoute,
    #[error("this route does not have that method")]
    WrongMethod,
    #[error("this server asks for an API key: send it as `Authorization: Bearer <key>`")]
    NoKey,
    #[error("{0}")]
    Key(KeyError),
    #[error(transparent)]
    Signed(#[from] SignedUrlError),
    #[error(
        "this server has no such name; without API keys it answers to localhost, to addresses and to server.public_url"
    )]
    UnknownHost,
    #[error("pages of other sites may not call; server.cors_origins names those that may")]
    ForeignOrigin,
    #[error("this key is not an operator's")]
    NotAnAdmin,
    #[error("this key does not allow the priority {0}")]
    PriorityForbidden(Priority),
    #[error(
        "this key allows {} requests for videos a minute; try again in {} s", .0.per_minute, .0.seconds()
    )]
    TooFast(#[from] Limited),
    #[error(
        "this key allows its tenant {limit} unfinished jobs, and there are as many; wait for one to end, or cancel one"
    )]
    UnfinishedJobs {
        limit: u32,
        retry_after: Option<Duration>,
    },
    #[error(
        "images are not fetched by this server: send the image as a file of a form or as a data URL"
    )]
    ImageUrlForbidden,
    #[error(
        "only videos of this server can be extended: give {{\"id\": \"video_…\"}} as `video`, not a file"
    )]
    VideoUpload,
    #[error("the image cannot be fetched: {0}")]
    ImageFetch(#[from] FetchError),
    #[error("the picture could not be made")]
    Still(#[from] StillError),
    #[error("the last frames of the video could not be read")]
    LastFrames(#[from] MediaError),
    #[error("the image that the earlier video started from is gone")]
    SourceGone,
    #[error("the video is not ready after {} s; {id} goes on: ask for it later", .deadline.as_secs())]
    StillRunning { id: JobId, deadline: Duration },
    #[error("{}", not_generated(.0.as_ref()))]
    NotGenerated(Option<Failure>),
    #[error("{0}")]
    NotImplemented(&'static str),
    #[error("there is no such video")]
    UnknownVideo,
    #[error("there is no model of that name")]
    UnknownModel,
    #[error("{}", no_content(*.0))]
    NoContent(JobStatus),
    #[error("the range is outside the {bytes} bytes of the video")]
    RangeNotSatisfiable { bytes: u64 },
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error("too many requests at once; try again later")]
    Shed,
    #[error(transparent)]
    Cancel(#[from] CancelError),
    #[error(transparent)]
    Delete(#[from] DeleteError),
    #[error("the journal cannot be read")]
    Journal(#[from] ReadError),
    #[error("the video cannot be read")]
    Store(#[from] StoreError),
    #[error("the video is missing although its job is completed")]
    ContentMissing,
    #[error("internal error")]
    Internal(String),
}

/// Where an error lands in HTTP and in OpenAI's envelope.
struct Mapping {
    status: StatusCode,
    code: &'static str,
    param: Option<String>,
    retry_after: Option<Duration>,
}

impl Mapping {
    const fn new(status: StatusCode, code: &'static str) -> Self {
        Self {
            status,
            code,
            param: None,
            retry_after: None,
        }
    }

    const fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    fn param(mut self, param: &str) -> Self {
        self.param = Some(param.into());
        self
    }

    /// To ask again changes nothing, or makes another video. What went wrong inside may go right the next time.
    fn is_final(&self) -> bool {
        let server =
            self.status.is_server_error() && self.status != StatusCode::INTERNAL_SERVER_ERROR;
        self.retry_after.is_none() && (server || self.status == StatusCode::CONFLICT)
    }
}

impl ApiError {
    fn mapping(&self) -> Mapping {
        use StatusCode as S;
        match self {
            Self::Invalid(invalid) => Mapping {
                param: invalid.param.clone(),
                ..Mapping::new(S::BAD_REQUEST, invalid.code)
            },
            Self::Image(ImageError::DecoderUnavailable { .. }) => {
                Mapping::new(S::SERVICE_UNAVAILABLE, "overloaded").retry_after(RETRY_OVERLOADED)
            }
            Self::Image(_) => {
                Mapping::new(S::BAD_REQUEST, "invalid_image").param(reel_api::IMAGE_FIELD)
            }
            Self::BodyTooLarge(_) => Mapping::new(S::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::BodyLate(_) => Mapping::new(S::REQUEST_TIMEOUT, "body_late"),
            Self::BodyBroken => Mapping::new(S::BAD_REQUEST, "body_broken"),
            Self::UnsupportedMediaType => {
                Mapping::new(S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::UnknownRoute => Mapping::new(S::NOT_FOUND, "unknown_route"),
            Self::WrongMethod => Mapping::new(S::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::NoKey | Self::Key(_) => Mapping::new(S::UNAUTHORIZED, "invalid_api_key"),
            Self::Signed(SignedUrlError::Expired) => {
                Mapping::new(S::FORBIDDEN, "address_expired").param("expires")
            }
            Self::Signed(_) => Mapping::new(S::FORBIDDEN, "wrong_signature").param("signature"),
            Self::UnknownHost => Mapping::new(S::FORBIDDEN, "unknown_host").param("host"),
            Self::ForeignOrigin => Mapping::new(S::FORBIDDEN, "foreign_origin").param("origin"),
            Self::NotAnAdmin => Mapping::new(S::FORBIDDEN, "not_an_admin"),
            Self::PriorityForbidden(_) => {
                Mapping::new(S::FORBIDDEN, "priority_not_allowed").param("priority")
            }
            Self::TooFast(limited) => Mapping::new(S::TOO_MANY_REQUESTS, "rate_limited")
                .retry_after(Duration::from_secs(limited.seconds())),
            Self::UnfinishedJobs { retry_after, .. } => {
                Mapping::new(S::TOO_MANY_REQUESTS, "too_many_unfinished_jobs").retry_after(
                    retry_after
                        .unwrap_or(RETRY_NOT_SERVING)
                        .max(RETRY_OVERLOADED),
                )
            }
            Self::ImageUrlForbidden => {
                Mapping::new(S::BAD_REQUEST, "image_url_not_allowed").param(reel_api::IMAGE_FIELD)
            }
            Self::ImageFetch(_) => {
                Mapping::new(S::BAD_REQUEST, "image_not_fetched").param(reel_api::IMAGE_FIELD)
            }
            Self::VideoUpload => {
                Mapping::new(S::BAD_REQUEST, "invalid_type").param(reel_api::VIDEO_FIELD)
            }
            Self::SourceGone => Mapping::new(S::GONE, "source_gone").param("video_id"),
            Self::StillRunning { .. } => Mapping::new(S::GATEWAY_TIMEOUT, "still_running"),
            Self::NotGenerated(_) => Mapping::new(S::UNPROCESSABLE_ENTITY, "video_failed"),
            Self::NotImplemented(_) => Mapping::new(S::NOT_IMPLEMENTED, "not_implemented"),
            Self::UnknownVideo => Mapping::new(S::NOT_FOUND, "video_not_found").param("video_id"),
            Self::UnknownModel => Mapping::new(S::NOT_FOUND, "model_not_found").param("model"),
            Self::NoContent(JobStatus::Expired) => Mapping::new(S::GONE, "video_expired"),
            Self::NoContent(status) => Mapping::new(S::NOT_FOUND, no_content_code(*status)),
            Self::RangeNotSatisfiable { .. } => {
                Mapping::new(S::RANGE_NOT_SATISFIABLE, "range_not_satisfiable")
            }
            Self::Rejected(rejection) => rejected(rejection),
            Self::Shed => {
                Mapping::new(S::SERVICE_UNAVAILABLE, "overloaded").retry_after(RETRY_OVERLOADED)
            }
            Self::Cancel(error) => not_cancelled(error),
            Self::Delete(error) => not_deleted(error),
            Self::Journal(_)
            | Self::Store(_)
            | Self::Still(_)
            | Self::LastFrames(_)
            | Self::ContentMissing
            | Self::Internal(_) => Mapping::new(S::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    /// What an operator has to know, beyond what the client is told.
    pub(crate) fn log(&self) {
        match self {
            Self::Journal(error) => tracing::error!(%error, "journal read failed"),
            Self::Image(ImageError::DecoderUnavailable { cause }) => {
                tracing::error!(cause, "no image decoder");
            }
            Self::Still(error) => tracing::error!(%error, "no still"),
            Self::LastFrames(error) => tracing::error!(%error, "no last frames"),
            Self::Store(error) => tracing::error!(%error, "artifact read failed"),
            Self::Delete(DeleteError::Storage(error)) => tracing::error!(error, "delete failed"),
            Self::Internal(error) => tracing::error!(error, "handler failed"),
            Self::ContentMissing => tracing::error!("a completed job has no video file"),
            _ => {}
        }
    }
}

fn rejected(rejection: &Rejection) -> Mapping {
    use StatusCode as S;
    let to = |status| Mapping::new(status, rejection.as_str());
    match rejection {
        Rejection::QueueFull { retry_after_s, .. }
        | Rejection::TenantQueueFull { retry_after_s, .. } => {
            to(S::TOO_MANY_REQUESTS).retry_after(Duration::from_secs(*retry_after_s))
        }
        Rejection::Quarantined { .. } => to(S::UNPROCESSABLE_ENTITY),
        Rejection::DoesNotFit { .. } => to(S::SERVICE_UNAVAILABLE),
        Rejection::BundleUnknown(_) => to(S::BAD_REQUEST).param("size"),
        Rejection::ModeUnsupported { .. } => to(S::BAD_REQUEST).param("model"),
        Rejection::BundleNotReady(_) | Rejection::BundleResting(_) | Rejection::Draining => {
            to(S::SERVICE_UNAVAILABLE).retry_after(RETRY_NOT_SERVING)
        }
        Rejection::BundleFailed(_) => to(S::SERVICE_UNAVAILABLE),
        Rejection::Overloaded => to(S::SERVICE_UNAVAILABLE).retry_after(RETRY_OVERLOADED),
        Rejection::NotDurable => to(S::SERVICE_UNAVAILABLE).retry_after(RETRY_NOT_SERVING),
        Rejection::Repeated { .. } => {
            Mapping::new(S::CONFLICT, "idempotency_conflict").param("idempotency-key")
        }
        Rejection::SourceGone { .. } => to(S::GONE).param("video"),
        Rejection::StorageFull => to(S::INSUFFICIENT_STORAGE),
    }
}

fn not_cancelled(error: &CancelError) -> Mapping {
    use StatusCode as S;
    match error {
        // Only a job that ended meanwhile; whoever asks again finds out how.
        CancelError::NotRunning => Mapping::new(S::CONFLICT, "not_running"),
        CancelError::StillStopping => {
            Mapping::new(S::CONFLICT, "still_stopping").retry_after(RETRY_OVERLOADED)
        }
        CancelError::Overloaded => {
            Mapping::new(S::SERVICE_UNAVAILABLE, "overloaded").retry_after(RETRY_OVERLOADED)
        }
    }
}

fn not_deleted(error: &DeleteError) -> Mapping {
    use StatusCode as S;
    match error {
        DeleteError::Unknown => Mapping::new(S::NOT_FOUND, "video_not_found").param("video_id"),
        DeleteError::Running => {
            Mapping::new(S::CONFLICT, "still_stopping").retry_after(RETRY_OVERLOADED)
        }
        DeleteError::Storage(_) => Mapping::new(S::INTERNAL_SERVER_ERROR, "internal_error"),
        DeleteError::Overloaded => {
            Mapping::new(S::SERVICE_UNAVAILABLE, "overloaded").retry_after(RETRY_OVERLOADED)
        }
    }
}

fn not_generated(failure: Option<&Failure>) -> String {
    let why = failure.map_or("the job failed", |failure| failure.message.as_str());
    format!("there is no video: {why}")
}

fn no_content(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Failed => "the job failed: there is no video",
        JobStatus::Cancelled => "the job was cancelled: there is no video",
        JobStatus::Expired => "the video was removed because its time was up",
        _ => "the video is not ready yet",
    }
}

fn no_content_code(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Failed => "video_failed",
        JobStatus::Cancelled => "video_cancelled",
        JobStatus::Expired => "video_expired",
        _ => "video_not_ready",
    }
}

/// The client-safe text. What failed inside the server is nobody's business outside.
fn message(error: &ApiError) -> String {
    match error {
        ApiError::Delete(DeleteError::Storage(_)) => "the job could not be removed".into(),
        _ => error.to_string(),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let mapping = self.mapping();
        let is_final = mapping.is_final();
        let body = ErrorBody {
            error: ErrorObject {
                message: message(&self),
                kind: kind(mapping.status),
                param: mapping.param,
                code: Some(mapping.code),
            },
        };
        let mut response = (mapping.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(delay) = mapping.retry_after {
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if is_final {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if mapping.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::RangeNotSatisfiable { bytes } = self
            && let Ok(range) = format!("bytes */{bytes}").parse()
        {
            headers.insert(header::CONTENT_RANGE, range);
        }
        response
    }
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests;
