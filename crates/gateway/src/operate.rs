//! The pool for operators: how it stands, and what to do with it.

use crate::gateway::Gateway;
use crate::respond::ApiError;
use crate::{intake, view};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use reel_api::{Invalid, PoolCommand, PoolObject};
use reel_domain::{DeviceId, SlotId};
use reel_pool::{PoolOrder, PoolState};
use std::sync::Arc;

/// `GET /v1/pool`
pub(crate) async fn get(State(gateway): State<Arc<Gateway>>) -> Json<PoolObject> {
    Json(view::pool_object(&gateway.pool.state()))
}

/// `POST /v1/pool/{command}`: answers when the order is given; how the pool stands tells what came of it.
pub(crate) async fn command(
    State(gateway): State<Arc<Gateway>>,
    command: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(StatusCode, Json<PoolObject>), ApiError> {
    let Path(name) = command.map_err(|_| ApiError::UnknownRoute)?;
    let fields = intake::read_fields(request, &gateway.config).await?;
    let command = PoolCommand::from_fields(&name, fields)?.ok_or(ApiError::UnknownRoute)?;
    let order = order(&command, &gateway.pool.state())?;
    if !gateway.pool.order(order).await {
        return Err(ApiError::Shed);
    }
    let pool = view::pool_object(&gateway.pool.state());
    Ok((StatusCode::ACCEPTED, Json(pool)))
}

fn order(command: &PoolCommand, pool: &PoolState) -> Result<PoolOrder, Invalid> {
    Ok(match command {
        PoolCommand::Drain => PoolOrder::Drain,
        PoolCommand::Cordon { device: name } => PoolOrder::Cordon(device(name, pool)?),
        PoolCommand::Uncordon { device: name } => PoolOrder::Uncordon(device(name, pool)?),
        PoolCommand::Replace { slot: name } => PoolOrder::Replace(slot(name, pool)?),
        PoolCommand::Roll { device: None } => PoolOrder::Roll(None),
        PoolCommand::Roll { device: Some(name) } => PoolOrder::Roll(Some(device(name, pool)?)),
        PoolCommand::Release { case } => PoolOrder::Release(*case),
    })
}

fn device(name: &str, pool: &PoolState) -> Result<DeviceId, Invalid> {
    let names = || pool.devices.iter().map(|device| device.name.as_str());
    let place = names().position(|known| known == name);
    let place = place.and_then(|place| u32::try_from(place).ok());
    place
        .map(DeviceId)
        .ok_or_else(|| Invalid::not_among("device", name, names()))
}

fn slot(name: &str, pool: &PoolState) -> Result<SlotId, Invalid> {
    let slots = || pool.devices.iter().flat_map(|device| &device.slots);
    let found = slots().find(|slot| slot.id.to_string() == name);
    found.map(|slot| slot.id).ok_or_else(|| {
        let names: Vec<String> = slots().map(|slot| slot.id.to_string()).collect();
        Invalid::not_among("slot", name, names.iter().map(String::as_str))
    })
}
