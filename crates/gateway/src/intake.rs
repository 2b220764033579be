//! Reading the body of a request for a video.

use crate::config::GatewayConfig;
use crate::respond::ApiError;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::LengthLimitError;
use multer::{Field, Multipart};
use reel_api::{Fields, IMAGE_FIELD, Invalid, VIDEO_FIELD};
use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

/// What came with a request.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) fields: Fields,
    /// The file that a form carried, not looked into yet.
    pub(crate) image: Option<Bytes>,
}

/// How a body is written.
enum Encoding {
    Json,
    Form { boundary: String },
}

/// Reads a JSON or multipart body within its limits of size and time.
pub(crate) async fn read(request: Request, config: &GatewayConfig) -> Result<Upload, ApiError> {
    let encoding = encoding(request.headers())?;
    let bytes_max = match encoding {
        Encoding::Json => config.json_bytes_max,
        Encoding::Form { .. } => config.body_bytes_max,
    };
    let body = read_body(request.into_body(), bytes_max, config.body_read_deadline).await?;
    match encoding {
        Encoding::Json => Ok(Upload {
            fields: Fields::from_json(&body)?,
            image: None,
        }),
        Encoding::Form { boundary } => read_form(body, boundary).await,
    }
}

/// Reads a JSON body that may be absent.
pub(crate) async fn read_fields(
    request: Request,
    config: &GatewayConfig,
) -> Result<Fields, ApiError> {
    let is_json = matches!(encoding(request.headers()), Ok(Encoding::Json));
    let body = read_body(
        request.into_body(),
        config.json_bytes_max,
        config.body_read_deadline,
    )
    .await?;
    match (body.is_empty(), is_json) {
        (true, _) => Ok(Fields::from_json(b"{}")?),
        (false, true) => Ok(Fields::from_json(&body)?),
        (false, false) => Err(ApiError::UnsupportedMediaType),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .ok_or(ApiError::UnsupportedMediaType)?;
    let (kind, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    if kind.trim().eq_ignore_ascii_case("application/json") {
        return Ok(Encoding::Json);
    }
    multer::parse_boundary(content_type)
        .map(|boundary| Encoding::Form { boundary })
        .map_err(|_| ApiError::UnsupportedMediaType)
}

async fn read_body(body: Body, max: usize, deadline: Duration) -> Result<Bytes, ApiError> {
    // What says that it is too large need not be sent first.
    if body.size_hint().lower() > max as u64 {
        return Err(ApiError::BodyTooLarge(max));
    }
    match tokio::time::timeout(deadline, axum::body::to_bytes(body, max)).await {
        Err(_) => Err(ApiError::BodyLate(deadline)),
        Ok(Err(error)) if is_too_large(&error) => Err(ApiError::BodyTooLarge(max)),
        Ok(body) => body.map_err(|_| ApiError::BodyBroken),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    error
        .source()
        .is_some_and(<dyn Error>::is::<LengthLimitError>)
}

async fn read_form(body: Bytes, boundary: String) -> Result<Upload, ApiError> {
    let whole = stream::iter([Ok::<_, Infallible>(body)]);
    let mut form = Multipart::new(whole, boundary);
    let mut pairs = Vec::new();
    let mut image = None;
    while let Some(field) = form.next_field().await.map_err(broken_form)? {
        let name = field_name(&field)?;
        // A field of this name that is no file is a text: a data URL, or where the image is.
        if name == IMAGE_FIELD && is_file(&field) {
            let twin = image.replace(field.bytes().await.map_err(broken_form)?);
            refuse_twin(&name, twin.is_some())?;
        } else if name == VIDEO_FIELD && is_file(&field) {
            return Err(ApiError::VideoUpload);
        } else {
            let text = field_text(&name, field).await?;
            pairs.push((name, text));
        }
    }
    Ok(Upload {
        fields: Fields::from_text(pairs)?,
        image,
    })
}

fn is_file(field: &Field<'_>) -> bool {
    field.file_name().is_some() || field.content_type().is_some()
}

fn field_name(field: &Field<'_>) -> Result<String, Invalid> {
    let name = field.name().map(str::to_owned);
    name.ok_or_else(|| Invalid::body("a part of the form has no name".into()))
}

async fn field_text(name: &str, field: Field<'_>) -> Result<String, Invalid> {
    let bytes = field.bytes().await.map_err(broken_form)?;
    String::from_utf8(bytes.into()).map_err(|_| Invalid::wrong_type(name, "text in UTF-8"))
}

fn refuse_twin(name: &str, twin: bool) -> Result<(), Invalid> {
    match twin {
        true => Err(Invalid::duplicate(name)),
        false => Ok(()),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err needs"
)]
fn broken_form(error: multer::Error) -> Invalid {
    Invalid::body(format!("the form cannot be read: {error}"))
}
