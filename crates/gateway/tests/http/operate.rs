//! The pool, as operators see and steer it.

use crate::server::{Server, bundle};
use axum::http::Request;
use reel_domain::{DeviceId, JobId, SlotId};
use reel_pool::{BundleState, DeviceState, PoolOrder, PoolState, SlotState};
use serde_json::{Value, json};
use std::sync::Arc;

fn slot(device: u32, index: u32) -> SlotId {
    SlotId {
        device: DeviceId(device),
        index,
    }
}

/// Two devices of two slots.
fn two_devices(server: &Server, running: JobId) {
    let slots = |device: u32| {
        [0, 1].map(|index| SlotState {
            id: slot(device, index),
            state: if index == 0 { "busy" } else { "vacant" },
            bundle: (index == 0).then(|| bundle("64x64@17f", BundleState::Hot).key),
            pid: (index == 0).then_some(100 + device),
            jobs: if (device, index) == (0, 0) {
                vec![running]
            } else {
                Vec::new()
            },
        })
    };
    let devices = [0, 1].map(|device| DeviceState {
        name: format!("cpu:{device}"),
        trust: "good",
        slots: slots(device).to_vec(),
    });
    server.state.send_replace(Arc::new(PoolState {
        queued: 3,
        running: 1,
        bundles: vec![bundle("64x64@17f", BundleState::Hot)],
        devices: devices.to_vec(),
        ..PoolState::default()
    }));
}

async fn server() -> (Server, JobId) {
    let server = Server::new();
    let id = server.job().await;
    two_devices(&server, id);
    (server, id)
}

#[tokio::test]
async fn the_pool_shows_its_devices_slots_and_jobs() {
    let (server, id) = server().await;
    let pool = server.get("/v1/pool").await.json();
    assert_eq!(
        (&pool["queued"], &pool["running"], &pool["draining"]),
        (&json!(3), &json!(1), &json!(false))
    );
    let expected = json!({
        "name": "cpu:0", "state": "good",
        "slots": [
            {
                "name": "0.0", "state": "busy", "bundle": "tiny-shapes/64x64@17f", "pid": 100,
                "videos": [id.to_string()],
            },
            {"name": "0.1", "state": "vacant", "bundle": null, "pid": null, "videos": []},
        ],
    });
    assert_eq!(pool["devices"][0], expected);
    assert_eq!(pool["shapes"][0]["state"], "hot");
}

#[tokio::test]
async fn every_command_becomes_its_order() {
    let (server, _) = server().await;
    for (command, body, order) in [
        (
            "cordon",
            json!({"device": "cpu:1"}),
            PoolOrder::Cordon(DeviceId(1)),
        ),
        (
            "uncordon",
            json!({"device": "cpu:1"}),
            PoolOrder::Uncordon(DeviceId(1)),
        ),
        (
            "replace",
            json!({"slot": "1.0"}),
            PoolOrder::Replace(slot(1, 0)),
        ),
        ("roll", json!({}), PoolOrder::Roll(None)),
        (
            "roll",
            json!({"device": "cpu:0"}),
            PoolOrder::Roll(Some(DeviceId(0))),
        ),
        (
            "release",
            json!({"case": "case-00000000000000ab"}),
            PoolOrder::Release(0xab),
        ),
        ("drain", json!({}), PoolOrder::Drain),
    ] {
        let answer = server
            .post_to(&format!("/v1/pool/{command}"), Some(body))
            .await;
        assert_eq!(answer.status, 202, "{command}: {:?}", answer.body);
        assert!(answer.json()["devices"].is_array());
        assert_eq!(server.pool.orders.lock().unwrap().pop(), Some(order));
    }
    // What needs no field needs no body.
    assert_eq!(server.post_to("/v1/pool/roll", None).await.status, 202);
}

#[tokio::test]
async fn what_is_not_there_is_refused_with_what_is() {
    let (server, _) = server().await;
    for (command, body, param, end) in [
        (
            "cordon",
            json!({"device": "cpu:7"}),
            "device",
            "there is no device `cpu:7`; there are cpu:0, cpu:1",
        ),
        (
            "roll",
            json!({"device": "gpu"}),
            "device",
            "there are cpu:0, cpu:1",
        ),
        (
            "replace",
            json!({"slot": "0.2"}),
            "slot",
            "there is no slot `0.2`; there are 0.0, 0.1, 1.0, 1.1",
        ),
        (
            "release",
            json!({"case": "x"}),
            "case",
            "like case-0123456789abcdef",
        ),
    ] {
        let answer = server
            .post_to(&format!("/v1/pool/{command}"), Some(body))
            .await;
        let error = answer.error(400, "invalid_value");
        assert_eq!(error["param"], param);
        let message = error["message"].as_str().unwrap();
        assert!(message.ends_with(end), "{message}");
    }
    for (command, body, param, code) in [
        ("cordon", json!({}), "device", "missing_required_parameter"),
        ("replace", json!({}), "slot", "missing_required_parameter"),
        ("release", json!({}), "case", "missing_required_parameter"),
        (
            "drain",
            json!({"device": "cpu:0"}),
            "device",
            "unknown_parameter",
        ),
        ("cordon", json!({"device": 1}), "device", "invalid_type"),
    ] {
        let answer = server
            .post_to(&format!("/v1/pool/{command}"), Some(body))
            .await;
        assert_eq!(answer.error(400, code)["param"], param);
    }
    assert!(server.pool.orders.lock().unwrap().is_empty());
}

#[tokio::test]
async fn there_are_no_other_commands() {
    let (server, _) = server().await;
    for command in ["explode", "Drain", "%ff"] {
        let path = format!("/v1/pool/{command}");
        server
            .post_to(&path, None)
            .await
            .error(404, "unknown_route");
    }
    let answer = server.get("/v1/pool/drain").await;
    answer.error(405, "method_not_allowed");
    let request = Request::post("/v1/pool/drain")
        .body("drain, please".into())
        .unwrap();
    let answer = server.send(request).await;
    answer.error(415, "unsupported_media_type");
    assert_eq!(*server.pool.orders.lock().unwrap(), Vec::<PoolOrder>::new());
}

#[tokio::test]
async fn a_pool_that_is_gone_takes_no_orders() {
    let (server, _) = server().await;
    server.pool.orders.lock().unwrap().clear();
    server.pool.stop.notify_one();
    server.pool.stopped.notified().await;
    let answer = server.post_to("/v1/pool/drain", None).await;
    let error: Value = answer.error(503, "overloaded");
    assert_eq!(error["type"], "server_error");
}
