//! A request for a video becomes a job.

use crate::gateway::{Gateway, blocking};
use crate::respond::ApiError;
use crate::{intake, videos, view};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use reel_api::{CreateVideo, Invalid, Stamp};
use reel_domain::tenant::TenantNameError;
use reel_domain::{JobId, Seed, Shape, TenantName};
use reel_pool::Submission;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Where OpenAI's clients name their project.
const TENANT_HEADER: &str = "openai-project";

/// `POST /v1/videos`: answers when the job is durable.
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, ApiError> {
    let _place = gateway.creates.try_acquire().map_err(|_| ApiError::Shed)?;
    let tenant = tenant(request.headers())?;
    let upload = intake::read(request, &gateway.config).await?;
    let stamp = stamp(tenant, upload.image.is_some())?;
    let job = CreateVideo::from_fields(upload.fields)?
        .into_job(&view::offers(&gateway.catalog), stamp)?;
    let given = decode(&gateway, upload.image, job.bundle.shape).await?;
    let submission = Submission {
        job: job.clone(),
        given,
    };
    gateway.pool.submit(submission).await?;
    let live = gateway.pool.board().progress(job.id);
    Ok(videos::respond(view::accepted(job, live)))
}

/// Who asks, as they say: the project of OpenAI's clients. A label for fairness, not a proof.
fn tenant(headers: &HeaderMap) -> Result<TenantName, ApiError> {
    let Some(value) = headers.get(TENANT_HEADER) else {
        return Ok(TenantName::default());
    };
    let name = value.to_str().unwrap_or_default().parse();
    name.map_err(|error: TenantNameError| Invalid::value(TENANT_HEADER, error.to_string()).into())
}

fn stamp(tenant: TenantName, with_image: bool) -> Result<Stamp, ApiError> {
    Ok(Stamp {
        id: JobId::from_bytes(Uuid::now_v7().into_bytes()),
        tenant,
        created_at_ms: now_ms(),
        seed: random_seed()?,
        with_image,
    })
}

/// Thirty-two random bits: enough, and short enough to be copied by hand.
fn random_seed() -> Result<Seed, ApiError> {
    let [.., a, b, c, d] = Uuid::new_v4().into_bytes();
    let seed = u32::from_be_bytes([a, b, c, d]);
    Seed::new(seed.into()).map_err(|error| ApiError::Internal(error.to_string()))
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |elapsed| {
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The given frames of a job: one if there is an image, else none.
async fn decode(
    gateway: &Gateway,
    image: Option<Bytes>,
    shape: Shape,
) -> Result<Vec<u8>, ApiError> {
    let Some(image) = image else {
        return Ok(Vec::new());
    };
    let _place = gateway
        .image_decodes
        .acquire()
        .await
        .map_err(|_| ApiError::Shed)?;
    Ok(blocking(move || reel_media::decode_image(&image, shape)).await??)
}
