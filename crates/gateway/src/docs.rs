//! What the API is, for tools and for people: the OpenAPI document, and a page that shows it.
//!
//! The page is Swagger UI, whose files are part of the program: it loads nothing from anywhere else, and its policy
//! says so to the browser.

use crate::respond::ApiError;
use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use std::sync::{Arc, LazyLock};
use utoipa_swagger_ui::{Config, SwaggerFile, serve};

/// Where the page is. Its files are named relative to that, so that a proxy may put a path before it.
const PAGE: &str = "/docs/";
/// The document, from there.
const FROM_PAGE: &str = "../openapi.json";
/// Scripts, styles and requests of this server alone; pictures that are part of the styles; nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The document does not change while the process lives.
static DOCUMENT: LazyLock<Result<Bytes, String>> = LazyLock::new(|| {
    let document = serde_json::to_vec(&reel_api::openapi());
    document.map(Bytes::from).map_err(|error| error.to_string())
});

/// The document and the page, which cost nobody a key.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/openapi.json", get(document))
        .route("/docs", get(async || Redirect::permanent(PAGE)))
        .route(PAGE, get(async || file("index.html")))
        .route("/docs/{*file}", get(page_file))
}

/// `GET /openapi.json`
async fn document() -> Result<Response, ApiError> {
    let document = DOCUMENT.clone().map_err(ApiError::Internal)?;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, document).into_response())
}

/// `GET /docs/{file}`
async fn page_file(name: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|_| ApiError::UnknownRoute)?;
    file(&name)
}

fn file(name: &str) -> Result<Response, ApiError> {
    let config = Config::from(FROM_PAGE)
        .use_base_layout()
        // The default asks a server elsewhere whether the document is valid.
        .validator_url("none");
    let file =
        serve(name, Arc::new(config)).map_err(|error| ApiError::Internal(error.to_string()))?;
    respond(file.ok_or(ApiError::UnknownRoute)?)
}

fn respond(file: SwaggerFile<'_>) -> Result<Response, ApiError> {
    let content_type = HeaderValue::try_from(file.content_type)
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    let mut response = (headers, file.bytes.into_owned()).into_response();
    // Every browser unpacks it, and the program holds it in this form only.
    if file.gzpipped {
        let gzip = HeaderValue::from_static("gzip");
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, gzip);
    }
    Ok(response)
}
