//! The table of routes.

use crate::gateway::{Gateway, Parts};
use crate::respond::ApiError;
use crate::{content, create, health, metrics, models, videos};
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use std::sync::Arc;

/// Every route, with its measurements, over `parts`.
pub fn router(parts: Parts) -> Router {
    let gateway = Arc::new(Gateway::new(parts));
    Router::new()
        .route("/v1/videos", get(videos::list).post(create::create))
        .route("/v1/videos/{id}", get(videos::get).delete(videos::delete))
        .route("/v1/videos/{id}/content", get(content::content))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::get))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::page))
        .fallback(async || ApiError::UnknownRoute)
        .method_not_allowed_fallback(async || ApiError::WrongMethod)
        .layer(from_fn_with_state(Arc::clone(&gateway), metrics::observe))
        .with_state(gateway)
}
