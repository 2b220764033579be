use crate::server::{Server, bundle};
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request};
use reel_gateway::GatewayConfig;
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

#[tokio::test]
async fn a_server_has_started_when_its_first_shape_can_be_served_and_stays_so() {
    let server = Server::new();
    assert_eq!(server.get("/startupz").await.status, 503);
    let baking = PoolState {
        bundles: vec![bundle("64x64@17f", BundleState::Baking { percent: 1 })],
        ..PoolState::default()
    };
    server.state.send_replace(Arc::new(baking));
    assert_eq!(server.get("/startupz").await.status, 503);
    server.state.send_replace(Arc::new(partly_ready()));
    let answer = server.get("/startupz").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["ready"], true);
    server.state.send_replace(Arc::new(PoolState::default()));
    assert_eq!(server.get("/startupz").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn what_no_model_here_can_do_is_said_to_be_so() {
    let server = Server::new();
    for path in ["/v1/videos/edits", "/v1/videos/characters"] {
        let answer = server.post_to(path, None).await;
        let error = answer.error(501, "not_implemented");
        assert_eq!(error["type"], "server_error", "{path}");
        // Nothing that a client should try again.
        assert!(!answer.headers.contains_key("retry-after"));
    }
    let answer = server.get("/v1/videos/characters/char_1").await;
    answer.error(501, "not_implemented");
}

const ORIGIN: &str = "https://app.example.com";

fn preflight(origin: &str) -> Request<Body> {
    Request::builder()
        .method(Method::OPTIONS)
        .uri("/v1/videos")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type,idempotency-key",
        )
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn pages_of_no_origin_may_call_unless_it_is_named() {
    let server = Server::new();
    let answer = server.get_with("/v1/models", &[("origin", ORIGIN)]).await;
    let allow = "access-control-allow-origin";
    assert!(!answer.headers.contains_key(allow));
    let answer = server.send(preflight(ORIGIN)).await;
    answer.error(405, "method_not_allowed");
    assert!(!answer.headers.contains_key(allow));
}

#[tokio::test]
async fn pages_of_a_named_origin_may_call_with_their_key() {
    let server = Server::with(GatewayConfig {
        cors_origins: vec![HeaderValue::from_static(ORIGIN)],
        ..GatewayConfig::default()
    });
    let answer = server.get_with("/v1/models", &[("origin", ORIGIN)]).await;
    assert_eq!(answer.header("access-control-allow-origin"), ORIGIN);
    assert_eq!(answer.header("access-control-expose-headers"), "*");
    let answer = server.send(preflight(ORIGIN)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), ORIGIN);
    let headers = answer.header("access-control-allow-headers");
    // A star does not stand for this one (Fetch standard, section 4.9).
    assert!(headers.contains("authorization"), "{headers}");
    assert!(headers.contains("idempotency-key"), "{headers}");
    let methods = answer.header("access-control-allow-methods");
    assert!(methods.contains("POST") && methods.contains("DELETE"));
    for other in [
        "https://evil.example.com",
        "null",
        "https://app.example.com.evil.org",
    ] {
        let answer = server.send(preflight(other)).await;
        let allowed = answer.headers.get("access-control-allow-origin");
        assert!(allowed.is_none_or(|allowed| allowed != other), "{other}");
    }
}

#[tokio::test]
async fn a_trace_is_kept_if_it_can_be_read() {
    let server = Server::new();
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (header, kept) in [
        (good, Some(good)),
        ("00-0af7-1-01", None),
        ("", None),
        ("\u{fc}", None),
    ] {
        let request = Request::post("/v1/videos").header("traceparent", header);
        let body = Some(json!({"prompt": "a"}));
        let answer = server.send(crate::server::with_json(request, body)).await;
        assert_eq!(answer.status, 200, "{header}");
        let submissions = server.pool.submissions.lock().unwrap();
        let trace = submissions.last().unwrap().job.trace.as_ref();
        assert_eq!(trace.map(reel_domain::TraceParent::as_str), kept);
    }
}
