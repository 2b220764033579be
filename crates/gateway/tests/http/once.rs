//! A request that is sent again is one job.

use crate::server::{Answer, Server, Setup, form, with_json};
use axum::http::{HeaderValue, Request, header};
use serde_json::{Value, json};
use std::sync::Arc;

async fn post(server: &Server, key: &str, path: &str, body: Value) -> Answer {
    let request = Request::post(path).header("idempotency-key", key);
    server.send(with_json(request, Some(body))).await
}

async fn create(server: &Server, key: &str, body: Value) -> Answer {
    post(server, key, "/v1/videos", body).await
}

fn jobs(server: &Server) -> usize {
    server.pool.submissions.lock().unwrap().len()
}

#[tokio::test]
async fn the_same_request_again_is_answered_with_the_same_job() {
    let server = Server::new();
    let body = || json!({"prompt": "a", "seconds": "2", "seed": 7});
    let first = create(&server, "k", body()).await.json();
    let same = json!({"seed": 7, "size": null, "prompt": "a", "seconds": "2"});
    let again = create(&server, "k", same).await.json();
    assert_eq!(first["id"], again["id"]);
    let fields = [("seed", "7"), ("prompt", "a"), ("seconds", "2")];
    let (content_type, body) = form(&fields, None);
    let request = Request::post("/v1/videos")
        .header("idempotency-key", "k")
        .header(header::CONTENT_TYPE, content_type);
    let by_form = server.send(request.body(body.into()).unwrap()).await;
    assert_eq!(by_form.json()["id"], first["id"]);
    assert_eq!(jobs(&server), 1);
}

#[tokio::test]
async fn the_answer_shows_how_the_job_stands_now() {
    let server = Server::new();
    let body = || json!({"prompt": "a"});
    let first = create(&server, "k", body()).await.json();
    let id = first["id"].as_str().unwrap().parse().unwrap();
    server.pool.complete(id, b"video").await;
    let again = create(&server, "k", body()).await.json();
    assert_eq!(
        (&again["id"], &again["status"]),
        (&first["id"], &json!("completed"))
    );
}

#[tokio::test]
async fn another_request_of_that_key_is_refused_and_told_which_job_has_it() {
    let server = Server::new();
    let first = create(&server, "k", json!({"prompt": "a"})).await.json();
    for body in [
        json!({"prompt": "b"}),
        json!({"prompt": "a", "seed": 1}),
        // Nothing of it is looked at but that it is another one.
        json!({"promt": "a"}),
    ] {
        let answer = create(&server, "k", body).await;
        let error = answer.error(409, "idempotency_conflict");
        assert_eq!(error["param"], "idempotency-key");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(first["id"].as_str().unwrap()), "{message}");
    }
    // Another route is another request.
    let answer = post(&server, "k", "/v1/videos/sync", json!({"prompt": "a"})).await;
    answer.error(409, "idempotency_conflict");
    assert_eq!(jobs(&server), 1);
}

#[tokio::test]
async fn another_image_is_another_request() {
    let server = Server::new();
    let send = async |image: &[u8]| {
        let (content_type, body) = form(&[("prompt", "a")], Some(("input_reference", image)));
        let request = Request::post("/v1/videos")
            .header("idempotency-key", "k")
            .header(header::CONTENT_TYPE, content_type);
        server.send(request.body(body.into()).unwrap()).await
    };
    let (red, blue) = (
        crate::images::png(32, 32, [255, 0, 0]),
        crate::images::png(32, 32, [0, 0, 255]),
    );
    let first = send(&red).await.json();
    assert_eq!(send(&red).await.json()["id"], first["id"]);
    send(&blue).await.error(409, "idempotency_conflict");
}

#[tokio::test]
async fn a_request_without_a_key_is_a_new_job_each_time() {
    let server = Server::new();
    assert_ne!(server.job().await, server.job().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_at_once_are_one_job() {
    let server = Arc::new(Server::new());
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let server = Arc::clone(&server);
        tries.spawn(async move { create(&server, "k", json!({"prompt": "a"})).await });
    }
    let answers = tries.join_all().await;
    let first = answers[0].json();
    for answer in &answers {
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(answer.json()["id"], first["id"]);
    }
    assert_eq!(jobs(&server), 1);
    let list = server.get("/v1/videos").await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_is_its_tenants() {
    let setup = Setup::new();
    let keys = [setup.key("a", |_| {}), setup.key("b", |_| {})];
    let server = setup.start();
    let mut ids = Vec::new();
    for key in keys {
        let request = Request::post("/v1/videos")
            .header("idempotency-key", "k")
            .header(header::AUTHORIZATION, format!("Bearer {key}"));
        let request = with_json(request, Some(json!({"prompt": "a"})));
        ids.push(server.send(request).await.json()["id"].clone());
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(jobs(&server), 2);
}

#[tokio::test]
async fn what_is_no_key_is_refused_and_never_cut_or_ignored() {
    let server = Server::new();
    let long = "k".repeat(257);
    for key in [
        &b""[..],
        long.as_bytes(),
        "schl\u{fc}ssel".as_bytes(),
        b"\xff",
    ] {
        let request = Request::post("/v1/videos")
            .header("idempotency-key", HeaderValue::from_bytes(key).unwrap());
        let answer = server
            .send(with_json(request, Some(json!({"prompt": "a"}))))
            .await;
        let error = answer.error(400, "invalid_value");
        assert_eq!(error["param"], "idempotency-key");
    }
    assert_eq!(jobs(&server), 0);
    let longest = "k".repeat(256);
    let answer = create(&server, &longest, json!({"prompt": "a"})).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_key_goes_with_its_job() {
    let server = Server::new();
    let first = create(&server, "k", json!({"prompt": "a"})).await.json();
    let id = first["id"].as_str().unwrap();
    server.delete(&format!("/v1/videos/{id}")).await;
    let next = create(&server, "k", json!({"prompt": "b"})).await;
    assert_eq!(next.status, 200, "{:?}", next.body);
    assert_ne!(next.json()["id"], first["id"]);
}

#[tokio::test]
async fn a_request_that_was_refused_leaves_its_key_free() {
    let server = Server::new();
    let answer = create(&server, "k", json!({"prompt": ""})).await;
    answer.error(400, "invalid_value");
    *server.pool.rejection.lock().unwrap() = Some(reel_domain::Rejection::Draining);
    let body = || json!({"prompt": "a"});
    create(&server, "k", body()).await.error(503, "draining");
    assert_eq!(create(&server, "k", body()).await.status, 200);
}

#[tokio::test]
async fn a_remix_that_is_sent_again_is_the_same_though_its_source_is_gone() {
    let server = Server::new();
    let source = server.job().await;
    server.pool.complete(source, b"video").await;
    let path = format!("/v1/videos/{source}/remix");
    let body = || json!({"prompt": "b"});
    let first = post(&server, "k", &path, body()).await.json();
    server.delete(&format!("/v1/videos/{source}")).await;
    let again = post(&server, "k", &path, body()).await;
    assert_eq!(again.status, 200, "{:?}", again.body);
    assert_eq!(again.json()["id"], first["id"]);
}
