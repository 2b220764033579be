use crate::server::{Server, bundle};
use reel_pool::{BundleState, PoolState};
use serde_json::json;
use std::sync::Arc;

fn partly_ready() -> PoolState {
    let failed = BundleState::Failed {
        reason: "canary differs".into(),
    };
    PoolState {
        queued: 2,
        running: 1,
        bundles: vec![
            bundle("64x64@17f", BundleState::Hot),
            bundle("96x64@17f", BundleState::Baking { percent: 40 }),
            bundle("64x64@33f", failed),
        ],
        ..PoolState::default()
    }
}

#[tokio::test]
async fn the_process_is_alive_whatever_the_pool_says() {
    let answer = Server::new().get("/livez").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn one_servable_shape_makes_the_server_ready() {
    let server = Server::new();
    assert_eq!(server.get("/readyz").await.status, 503);
    server.state.send_replace(Arc::new(partly_ready()));
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!((&body["queued"], &body["running"]), (&json!(2), &json!(1)));
    let expected = json!({
        "model": "tiny-shapes", "shape": "96x64@17f", "state": "baking", "baking_percent": 40,
        "reason": null,
    });
    assert_eq!(body["shapes"][1], expected);
}

#[tokio::test]
async fn a_server_that_drains_is_not_ready() {
    let server = Server::new();
    let draining = PoolState {
        draining: true,
        ..partly_ready()
    };
    server.state.send_replace(Arc::new(draining));
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["draining"], true);
}

#[tokio::test]
async fn models_show_their_menu_and_how_it_stands() {
    let server = Server::new();
    server.state.send_replace(Arc::new(partly_ready()));
    let list = server.get("/v1/models").await.json();
    let model = &list["data"][0];
    assert_eq!(
        (&list["object"], &model["object"]),
        (&json!("list"), &json!("model"))
    );
    assert_eq!(
        (&model["id"], &model["owned_by"]),
        (&json!("tiny-shapes"), &json!("reel"))
    );
    assert_eq!(model["modes"], json!(["t2v", "i2v"]));
    let expected = json!({
        "shape": "64x64@33f", "size": "64x64", "num_frames": 33, "seconds": "4.125",
        "state": "failed", "baking_percent": null, "reason": "canary differs",
    });
    assert_eq!(model["shapes"][2], expected);
    assert_eq!(server.get("/v1/models/tiny-shapes").await.json(), *model);
}

#[tokio::test]
async fn a_model_that_is_not_there_is_not_found() {
    let server = Server::new();
    for name in ["sora-2", "%ff", "..%2fx"] {
        let answer = server.get(&format!("/v1/models/{name}")).await;
        assert_eq!(answer.error(404, "model_not_found")["param"], "model");
    }
}

#[tokio::test]
async fn every_other_path_is_not_found_in_the_same_envelope() {
    let server = Server::new();
    for path in [
        "/",
        "/v1",
        "/v1/videos/",
        "/v1/videos/a/b/c",
        "/metrics/x",
        "/%00",
    ] {
        server.get(path).await.error(404, "unknown_route");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_template_and_never_by_path() {
    let server = Server::new();
    let id = server.job().await;
    server.get(&format!("/v1/videos/{id}")).await;
    server.get("/v1/videos/secret").await;
    server.get("/secret").await;
    let answer = server.get("/metrics").await;
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let page = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in [
        r#"reel_http_requests_total{method="POST",route="/v1/videos",status="200"} 1"#,
        r#"reel_http_requests_total{method="GET",route="/v1/videos/{id}",status="200"} 1"#,
        r#"reel_http_requests_total{method="GET",route="/v1/videos/{id}",status="404"} 1"#,
        r#"reel_http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"reel_http_request_seconds_count{method="POST",route="/v1/videos"} 1"#,
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("secret") && !page.contains(&id.to_string()));
}
