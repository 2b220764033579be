//! The models and their menus.

use crate::gateway::Gateway;
use crate::respond::ApiError;
use crate::view::model_object;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use reel_api::{ModelList, ModelObject};
use std::sync::Arc;

/// `GET /v1/models`
pub(crate) async fn list(State(gateway): State<Arc<Gateway>>) -> Json<ModelList> {
    let state = gateway.pool.state();
    let models = gateway.catalog.models().iter();
    Json(ModelList {
        object: "list",
        data: models.map(|entry| model_object(entry, &state)).collect(),
    })
}

/// `GET /v1/models/{id}`
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelObject>, ApiError> {
    let Path(name) = name.map_err(|_| ApiError::UnknownModel)?;
    let entry = gateway.catalog.model(&name).ok_or(ApiError::UnknownModel)?;
    Ok(Json(model_object(entry, &gateway.pool.state())))
}
