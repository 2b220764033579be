//! Probes. None of them costs a worker anything.

use crate::gateway::Gateway;
use crate::view::readiness;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reel_api::Readiness;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// `GET /livez`: the process answers.
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /startupz`: 503 until the first shape can be served, 200 from then on.
pub(crate) async fn startupz(State(gateway): State<Arc<Gateway>>) -> (StatusCode, Json<Readiness>) {
    let state = gateway.pool.state();
    let serves = state
        .bundles
        .iter()
        .any(|bundle| bundle.state.is_servable());
    let started = gateway.started.fetch_or(serves, Ordering::Relaxed) || serves;
    let status = match started {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(readiness(&state)))
}

/// `GET /readyz`: 200 when work is taken, 503 with the same body when not.
pub(crate) async fn readyz(State(gateway): State<Arc<Gateway>>) -> (StatusCode, Json<Readiness>) {
    let readiness = readiness(&gateway.pool.state());
    let status = match readiness.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(readiness))
}
