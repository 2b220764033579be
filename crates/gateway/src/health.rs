//! Probes. None of them costs a worker anything.

use crate::gateway::Gateway;
use crate::view::readiness;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reel_api::Readiness;
use std::sync::Arc;

/// `GET /livez`: the process answers.
pub(crate) async fn livez() -> &'static str {
    "ok\n"
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
