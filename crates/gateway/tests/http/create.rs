use crate::server::{Server, form};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use reel_domain::{BundleKey, Mode, Rejection};
use reel_gateway::GatewayConfig;
use serde_json::{Value, json};
use std::io::Cursor;

fn png() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(32, 32, image::Rgb([9, 8, 7]));
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn bundle() -> BundleKey {
    BundleKey {
        model: "tiny-shapes".parse().unwrap(),
        shape: "64x64@17f".parse().unwrap(),
    }
}

#[tokio::test]
async fn a_new_job_is_shown_as_openais_video_object() {
    let server = Server::new();
    let answer = server
        .create(&json!({"prompt": "a red circle", "seed": 5}))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    let mut video = answer.json();
    let id = video["id"].take();
    let created_at = video["created_at"].take();
    assert!(id.as_str().unwrap().starts_with("video_"));
    assert!(created_at.as_u64().unwrap() > 1_700_000_000);
    let expected = json!({
        "id": null, "object": "video", "model": "tiny-shapes", "status": "queued", "progress": 0,
        "created_at": null, "completed_at": null, "expires_at": null, "prompt": "a red circle",
        "size": "64x64", "seconds": "2.125", "remixed_from_video_id": null, "error": null,
        "status_detail": "queued", "shape": "64x64@17f", "mode": "t2v", "fps": 8, "num_frames": 17,
        "seed": 5, "steps": 20, "step": 0, "stage": null, "queue_position": 2, "device": null,
        "attempts": 1, "extended_from_video_id": null, "eta": null, "sequence": 1, "download_url": null,
        "timings": {
            "queue": 0.0, "spawn": 0.0, "text": 0.0, "denoise": 0.0, "decode": 0.0, "encode": 0.0,
        },
    });
    assert_eq!(video, expected);
    assert_eq!(answer.header("openai-poll-after-ms"), "500");
}

#[tokio::test]
async fn a_seed_that_nobody_chose_is_drawn_and_shown() {
    let server = Server::new();
    let mut seeds = Vec::new();
    for _ in 0..4 {
        let video = server.create(&json!({"prompt": "a"})).await.json();
        seeds.push(video["seed"].as_u64().unwrap());
    }
    let submissions = server.pool.submissions.lock().unwrap();
    let submitted = submissions
        .iter()
        .map(|submission| submission.job.sampling.seed.value());
    assert_eq!(submitted.collect::<Vec<_>>(), seeds);
    seeds.dedup();
    assert!(seeds.len() > 1, "{seeds:?}");
}

#[tokio::test]
async fn the_sdks_form_without_a_file_is_text_to_video() {
    let server = Server::new();
    let fields = [
        ("prompt", "a"),
        ("seconds", "4"),
        ("size", "64x64"),
        ("seed", "1"),
    ];
    let (content_type, body) = form(&fields, None);
    let video = server.post(&content_type, body).await.json();
    assert_eq!(
        (&video["shape"], &video["mode"]),
        (&json!("64x64@33f"), &json!("t2v"))
    );
    assert!(server.pool.submissions.lock().unwrap()[0].given.is_empty());
}

#[tokio::test]
async fn an_image_is_decoded_to_the_shape_before_the_pool_sees_it() {
    let server = Server::new();
    let (content_type, body) = form(
        &[("prompt", "a"), ("size", "96x64")],
        Some(("input_reference", &png())),
    );
    let video = server.post(&content_type, body).await.json();
    assert_eq!(video["mode"], "i2v");
    let submissions = server.pool.submissions.lock().unwrap();
    let submission = &submissions[0];
    assert_eq!(
        (submission.job.mode, submission.job.conditioning_frames),
        (Mode::I2v, 1)
    );
    assert_eq!(submission.given, [9, 8, 7].repeat(96 * 64));
}

#[tokio::test]
async fn bad_input_is_named_and_never_reaches_the_pool() {
    let server = Server::new();
    let long = "x".repeat(2_001);
    for (body, param, code) in [
        (json!({}), "prompt", "missing_required_parameter"),
        (json!({"prompt": ""}), "prompt", "invalid_value"),
        (json!({"prompt": long}), "prompt", "invalid_value"),
        (
            json!({"prompt": "a", "size": "65x64"}),
            "size",
            "shape_not_on_menu",
        ),
        (
            json!({"prompt": "a", "model": "sora-2"}),
            "model",
            "model_not_found",
        ),
        (
            json!({"prompt": "a", "num_inference_steps": 201}),
            "num_inference_steps",
            "invalid_value",
        ),
        (
            json!({"prompt": "a", "guidance_scale": -1}),
            "guidance_scale",
            "invalid_value",
        ),
        (json!({"prompt": "a", "seed": "x"}), "seed", "invalid_type"),
        (json!({"prompt": "a", "fps": 500}), "fps", "invalid_value"),
        (
            json!({"prompt": "a", "promt": "b"}),
            "promt",
            "unknown_parameter",
        ),
    ] {
        let error = server.create(&body).await.error(400, code);
        assert_eq!(error["param"], param);
        assert_eq!(error["type"], "invalid_request_error");
    }
    assert!(server.pool.submissions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bad_forms_are_named_and_never_reach_the_pool() {
    let server = Server::new();
    let twice = form(&[("prompt", "a"), ("prompt", "b")], None);
    let unknown = form(&[("prompt", "a"), ("input_referense", "b")], None);
    let no_image = form(&[("prompt", "a")], Some(("input_reference", b"hello")));
    let misplaced = form(&[("prompt", "a")], Some(("mask", b"\xff\xfe")));
    for ((content_type, body), param, code) in [
        (twice, "prompt", "duplicate_parameter"),
        (unknown, "input_referense", "unknown_parameter"),
        (no_image, "input_reference", "invalid_image"),
        (misplaced, "mask", "invalid_type"),
    ] {
        let error = server.post(&content_type, body).await.error(400, code);
        assert_eq!(error["param"], param);
    }
    assert!(server.pool.submissions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_second_image_is_refused() {
    let server = Server::new();
    let (content_type, body) = form(
        &[
            ("prompt", "a"),
            ("input_reference", "data:image/png;base64,YWJj"),
        ],
        Some(("input_reference", &png())),
    );
    let answer = server.post(&content_type, body).await;
    assert_eq!(
        answer.error(400, "duplicate_parameter")["param"],
        "input_reference"
    );
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let server = Server::new();
    for (content_type, body) in [
        ("application/json", "{"),
        ("application/json; charset=utf-8", "[]"),
        ("multipart/form-data; boundary=XyZ", "--XyZ\r\nbroken"),
    ] {
        let error = server
            .post(content_type, body)
            .await
            .error(400, "invalid_body");
        assert_eq!(error["param"], Value::Null);
    }
    for content_type in [
        "text/plain",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    ] {
        server
            .post(content_type, "x")
            .await
            .error(415, "unsupported_media_type");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let server = Server::with(GatewayConfig {
        body_bytes_max: 200,
        json_bytes_max: 100,
        ..GatewayConfig::default()
    });
    let answer = server.post("application/json", "x".repeat(101)).await;
    answer.error(413, "body_too_large");
    let form = "multipart/form-data; boundary=x";
    let answer = server.post(form, "x".repeat(201)).await;
    answer.error(413, "body_too_large");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let server = Server::with(GatewayConfig {
        body_read_deadline: std::time::Duration::from_millis(20),
        ..GatewayConfig::default()
    });
    let never = Body::from_stream(futures_util::stream::pending::<
        Result<Vec<u8>, std::io::Error>,
    >());
    server
        .post("application/json", never)
        .await
        .error(408, "body_late");
}

#[tokio::test]
async fn more_requests_at_once_than_allowed_are_shed() {
    let server = Server::with(GatewayConfig {
        creates_at_once_max: 0,
        ..GatewayConfig::default()
    });
    let answer = server.create(&json!({"prompt": "a"})).await;
    answer.error(503, "overloaded");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn every_rejection_has_its_status() {
    let server = Server::new();
    let unsupported = Rejection::ModeUnsupported {
        bundle: bundle(),
        mode: Mode::T2v,
    };
    for (rejection, status, retry_after) in [
        (
            Rejection::QueueFull {
                limit: 3,
                retry_after_s: 7,
            },
            429,
            Some("7"),
        ),
        (
            Rejection::TenantQueueFull {
                limit: 3,
                retry_after_s: 9,
            },
            429,
            Some("9"),
        ),
        (
            Rejection::Quarantined {
                case: "case-0000000000000001".into(),
            },
            422,
            None,
        ),
        (
            Rejection::DoesNotFit {
                bundle: bundle(),
                needs_bytes: 2,
                device_bytes: 1,
            },
            503,
            None,
        ),
        (Rejection::BundleFailed(bundle()), 503, None),
        (Rejection::Draining, 503, Some("10")),
        (Rejection::BundleNotReady(bundle()), 503, Some("10")),
        (Rejection::BundleResting(bundle()), 503, Some("10")),
        (Rejection::Overloaded, 503, Some("1")),
        (Rejection::BundleUnknown(bundle()), 400, None),
        (unsupported, 400, None),
        (Rejection::NotDurable, 503, Some("10")),
        (Rejection::StorageFull, 507, None),
    ] {
        *server.pool.rejection.lock().unwrap() = Some(rejection.clone());
        let answer = server.create(&json!({"prompt": "a"})).await;
        let error = answer.error(status, rejection.as_str());
        assert_eq!(error["message"], rejection.to_string());
        let header = answer
            .headers
            .get("retry-after")
            .map(|value| value.to_str().unwrap());
        assert_eq!(header, retry_after, "{rejection}");
    }
}

#[tokio::test]
async fn a_method_that_a_route_lacks_is_answered_with_those_that_it_has() {
    let server = Server::new();
    let request = axum::http::Request::builder()
        .method(Method::PUT)
        .uri("/v1/videos")
        .body(Body::empty())
        .unwrap();
    let answer = server.send(request).await;
    answer.error(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET,HEAD,POST");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let server = Server::new();
    let broken = futures_util::stream::iter([
        Ok(b"{\"prompt\":".to_vec()),
        Err(std::io::Error::other("the line went dead")),
    ]);
    let answer = server
        .post("application/json", Body::from_stream(broken))
        .await;
    answer.error(400, "body_broken");
}

#[tokio::test]
async fn a_callback_that_the_server_may_not_make_is_refused_at_once() {
    let server = Server::new();
    for url in [
        "http://hooks.example.com/",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com:22/",
        "ftp://hooks.example.com/",
        "https://",
        "hooks",
    ] {
        let body = json!({"prompt": "a", "callback_url": url});
        let error = server.create(&body).await.error(400, "invalid_value");
        assert_eq!(error["param"], "callback_url", "{url}");
    }
    assert!(server.pool.submissions.lock().unwrap().is_empty());
    let body = json!({"prompt": "a", "callback_url": "https://hooks.example.com/a?b"});
    assert_eq!(server.create(&body).await.status, 200);
}
