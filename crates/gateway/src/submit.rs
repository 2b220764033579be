//! From a request to a durable job: once, however often the request is sent.

use crate::caller::{Arrival, Caller, now_ms};
use crate::gateway::Gateway;
use crate::intake::{self, Upload};
use crate::respond::ApiError;
use crate::tries::{self, Try};
use axum::extract::Request;
use axum::http::HeaderMap;
use reel_api::{IMAGE_FIELD, Invalid, Stamp};
use reel_domain::client::IdempotencyKeyError;
use reel_domain::{Idempotency, IdempotencyKey, Job, JobId, Rejection, Seed, TraceParent};
use reel_pool::Submission;
use sha2::{Digest, Sha256};
use std::time::Instant;
use tokio::sync::SemaphorePermit;
use uuid::Uuid;

/// What makes two requests one.
const KEY_HEADER: &str = "idempotency-key";
/// W3C Trace Context.
const TRACE_HEADER: &str = "traceparent";

/// The job that a key stands for, and the digest of what it asked for.
type Known = (JobId, [u8; 32]);

/// A request for a video, whatever kind of video, that was read.
pub(crate) struct Asked<'a> {
    pub(crate) caller: Caller,
    pub(crate) upload: Upload,
    idempotency: Option<Idempotency>,
    known: Option<Known>,
    trace: Option<TraceParent>,
    /// Held until there is an answer.
    pub(crate) attempt: Option<Try>,
    _place: SemaphorePermit<'a>,
    _arrival: Arrival,
}

impl<'a> Asked<'a> {
    /// Reads a request within the limits of its key, of the server and of its body.
    pub(crate) async fn read(
        gateway: &'a Gateway,
        caller: Caller,
        request: Request,
    ) -> Result<Self, ApiError> {
        let place = gateway.creates.try_acquire().map_err(|_| ApiError::Shed)?;
        let key = idempotency_key(request.headers())?;
        let count = tries::count(request.headers()).filter(|_| key.is_none());
        let mut known = known(gateway, &caller, key.as_ref()).await?;
        // Whether a later try is known tells only its body.
        let may_be_known = known.is_some() || count.is_some_and(|count| count > 0);
        let arrival = match (
            gateway.door.arrive(&caller, &gateway.pool, may_be_known),
            count,
        ) {
            // Whoever has its share of the places gets no other one to be refused in.
            (Err(refusal @ ApiError::Shed), _) | (Err(refusal), None) => return Err(refusal),
            (arrival, _) => arrival,
        };
        let trace = trace(request.headers());
        let path = request.uri().path().to_owned();
        let upload = intake::read(request, &gateway.config).await?;
        let digest = digest(&path, &upload);
        // A first try that is refused is one, too: the next is not of an earlier wish for the same.
        let attempt = count.and_then(|count| {
            let tries = &gateway.tries;
            tries.begin(&caller.tenant, digest, count, Instant::now())
        });
        let arrival = arrival?;
        let key = match &attempt {
            Some(attempt) => {
                // The key of a first try is new: the journal cannot know it.
                if may_be_known {
                    known = self::known(gateway, &caller, Some(&attempt.key)).await?;
                }
                Some(attempt.key.clone())
            }
            None => key,
        };
        if may_be_known && known.is_none() {
            gateway.door.check_again(&caller, &gateway.pool)?;
        }
        let idempotency = key.map(|key| Idempotency { key, digest });
        Ok(Self {
            caller,
            upload,
            idempotency,
            known,
            trace,
            attempt,
            _place: place,
            _arrival: arrival,
        })
    }

    /// The job that an earlier try of this request has become.
    pub(crate) fn earlier(&self) -> Result<Option<JobId>, ApiError> {
        match (&self.known, &self.idempotency) {
            (Some((id, known)), Some(Idempotency { digest, .. })) if known == digest => {
                Ok(Some(*id))
            }
            (Some((id, _)), _) => Err(Rejection::Repeated {
                id: *id,
                same: false,
            }
            .into()),
            (None, _) => Ok(None),
        }
    }

    /// Of requests that start from an earlier video and from no image.
    pub(crate) fn refuse_image(&self) -> Result<(), Invalid> {
        match self.upload.image {
            Some(_) => Err(Invalid {
                message: format!(
                    "a video that is made from an earlier one takes no `{IMAGE_FIELD}`"
                ),
                param: Some(IMAGE_FIELD.into()),
                code: "unknown_parameter",
            }),
            None => Ok(()),
        }
    }

    /// What the server adds to a request to make it a job.
    pub(crate) fn stamp(&self, with_image: bool) -> Result<Stamp, ApiError> {
        Ok(Stamp {
            id: JobId::from_bytes(Uuid::now_v7().into_bytes()),
            tenant: self.caller.tenant.clone(),
            created_at_ms: now_ms(),
            seed: random_seed()?,
            with_image,
            priority: self.caller.priority(),
            callback: self.caller.callback(),
            trace: self.trace.clone(),
        })
    }

    /// A URL that the server may not ask would never be told anything: better said now. A key's own is its maker's
    /// affair, and refuses no job.
    fn check_callback(&self, gateway: &Gateway, job: &Job) -> Result<(), Invalid> {
        let Some(url) = &job.callback else {
            return Ok(());
        };
        match gateway.callback_policy.check(url.as_str()) {
            Err(error) if self.caller.callback().as_ref() != Some(url) => {
                let message = format!("`callback_url` cannot be told anything: {error}");
                Err(Invalid::value("callback_url", message))
            }
            _ => Ok(()),
        }
    }

    /// Hands the job to the pool. Returns the one that is durable: of two tries at the same moment, the first.
    pub(crate) async fn submit(
        self,
        gateway: &Gateway,
        job: Job,
        given: Vec<u8>,
    ) -> Result<JobId, ApiError> {
        self.caller.check(&job)?;
        self.check_callback(gateway, &job)?;
        let id = job.id;
        let submission = Submission {
            job,
            idempotency: self.idempotency.clone(),
            given,
        };
        match gateway.pool.submit(submission).await {
            Ok(()) => Ok(id),
            Err(Rejection::Repeated { id, same: true }) => Ok(id),
            Err(rejection) => Err(rejection.into()),
        }
    }
}

async fn known(
    gateway: &Gateway,
    caller: &Caller,
    key: Option<&IdempotencyKey>,
) -> Result<Option<Known>, ApiError> {
    let Some(key) = key.cloned() else {
        return Ok(None);
    };
    let tenant = caller.tenant.clone();
    gateway
        .read(move |reader| reader.keyed(&tenant, &key))
        .await
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    let Some(value) = headers.get(KEY_HEADER) else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default().parse();
    key.map(Some).map_err(|error: IdempotencyKeyError| {
        Invalid::value(KEY_HEADER, format!("`{KEY_HEADER}` {error}")).into()
    })
}

/// A trace that cannot be read is none, as the standard says.
fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACE_HEADER)?.to_str().ok()?.parse().ok()
}

/// Of everything that a request asks for, in one form.
fn digest(path: &str, upload: &Upload) -> [u8; 32] {
    let fields = upload.fields.canonical();
    let image = upload.image.as_deref().unwrap_or_default();
    let mut hasher = Sha256::new();
    for part in [path.as_bytes(), fields.as_bytes(), image] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Thirty-two random bits: enough, and short enough to be copied by hand.
fn random_seed() -> Result<Seed, ApiError> {
    let [.., a, b, c, d] = Uuid::new_v4().into_bytes();
    let seed = u32::from_be_bytes([a, b, c, d]);
    Seed::new(seed.into()).map_err(|error| ApiError::Internal(error.to_string()))
}
