//! Who may do what, with keys.

use crate::pool::progress;
use crate::server::{Answer, Server, Setup, new_key, with_json};
use axum::http::{Method, Request, header};
use reel_domain::{JobId, JobStatus, Priority};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

const ONE: NonZeroU32 = NonZeroU32::MIN;
/// Longest wait for the server to see a changed file of keys, which it looks at once a second.
const PATIENCE: Duration = Duration::from_secs(30);

async fn create(server: &Server, key: &str, body: Value) -> Answer {
    server
        .ask(key, Method::POST, "/v1/videos", Some(body))
        .await
}

async fn job(server: &Server, key: &str) -> JobId {
    let answer = create(server, key, json!({"prompt": "a"})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()["id"].as_str().unwrap().parse().unwrap()
}

async fn get(server: &Server, key: &str, path: &str) -> Answer {
    server.ask(key, Method::GET, path, None).await
}

#[tokio::test]
async fn without_a_key_there_is_no_way_in_where_there_are_keys() {
    let setup = Setup::new();
    let key = setup.key("a", |_| {});
    let server = setup.start();
    let job = job(&server, &key).await;
    for path in [
        "/v1/videos".to_owned(),
        format!("/v1/videos/{job}"),
        format!("/v1/videos/{job}/content"),
        format!("/v1/videos/{job}/events"),
        "/v1/events".into(),
        "/v1/models".into(),
        "/v1/models/tiny-shapes".into(),
        "/v1/pool".into(),
        "/metrics".into(),
    ] {
        let answer = server.get(&path).await;
        let error = answer.error(401, "invalid_api_key");
        assert_eq!(error["type"], "authentication_error", "{path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{path}");
    }
    for path in [
        "/v1/videos".to_owned(),
        "/v1/videos/sync".into(),
        "/v1/videos/extensions".into(),
        format!("/v1/videos/{job}/cancel"),
        format!("/v1/videos/{job}/remix"),
        "/v1/pool/drain".into(),
    ] {
        let answer = server.post_to(&path, Some(json!({"prompt": "a"}))).await;
        answer.error(401, "invalid_api_key");
    }
    let path = format!("/v1/videos/{job}");
    server.delete(&path).await.error(401, "invalid_api_key");
    assert!(server.pool.cancelled.lock().unwrap().is_empty());
    assert!(server.pool.orders.lock().unwrap().is_empty());
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_ne!(server.get(path).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn what_is_no_key_or_no_key_any_more_is_refused_and_says_why() {
    let setup = Setup::new();
    let expired = setup.key("a", |new| new.expires_ms = Some(1_790_000_001_000));
    let good = setup.key("a", |_| {});
    let last = if good.ends_with('x') { 'y' } else { 'x' };
    let wrong = format!("{}{last}", &good[..good.len() - 1]);
    let server = setup.start();
    for (key, message) in [
        (expired.as_str(), "this key has expired"),
        (&wrong, "there is no such key"),
        (
            "sk-abc",
            "this is not a key: keys look like reel_0123456789ab_…",
        ),
    ] {
        let answer = get(&server, key, "/v1/videos").await;
        assert_eq!(answer.error(401, "invalid_api_key")["message"], message);
    }
    for value in ["", "Bearer", "Basic YTpi", "Bearer \u{e4}"] {
        let answer = server
            .get_with("/v1/videos", &[("authorization", value)])
            .await;
        answer.error(401, "invalid_api_key");
    }
    // The scheme's name is the same in any case (RFC 9110, section 11.1).
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let value = format!("{scheme} {good}");
        let answer = server
            .get_with("/v1/videos", &[("authorization", &value)])
            .await;
        assert_eq!(answer.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn keys_that_come_and_go_are_followed_without_a_restart() {
    let setup = Setup::new();
    let first = setup.key("a", |_| {});
    let server = setup.start();
    let second = new_key(&server.keys, "b", |_| {});
    until(&server, &second, 200).await;
    let ring = server.keys.list().unwrap();
    let id = ring.keys().find(|key| key.tenant.as_str() == "b").unwrap();
    server.keys.revoke(&id.id, 1_790_000_000_000).unwrap();
    until(&server, &second, 401).await;
    let answer = get(&server, &second, "/v1/videos").await;
    let error = answer.error(401, "invalid_api_key");
    assert_eq!(error["message"], "this key was revoked");
    assert_eq!(get(&server, &first, "/v1/videos").await.status, 200);
}

async fn until(server: &Server, key: &str, status: u16) {
    let deadline = Instant::now() + PATIENCE;
    while get(server, key, "/v1/videos").await.status != status {
        assert!(Instant::now() < deadline, "no {status} in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_first_key_closes_a_server_that_was_open() {
    let server = Server::new();
    let id = server.job().await;
    let path = format!("/v1/videos/{id}");
    assert_eq!(server.get(&path).await.status, 200);
    let key = new_key(&server.keys, "default", |_| {});
    // Whatever is presented is looked at from then on.
    until(&server, "nothing", 401).await;
    server.get(&path).await.error(401, "invalid_api_key");
    assert_eq!(get(&server, &key, &path).await.status, 200);
}

#[tokio::test]
async fn the_jobs_of_another_tenant_do_not_exist() {
    let setup = Setup::new();
    let (mine, other) = (setup.key("a", |_| {}), setup.key("b", |_| {}));
    let server = setup.start();
    let done = job(&server, &mine).await;
    server.pool.complete(done, b"video").await;
    let waiting = job(&server, &mine).await;
    for id in [done, waiting] {
        for path in ["", "/content", "/content?variant=thumbnail", "/events"] {
            let path = format!("/v1/videos/{id}{path}");
            let answer = get(&server, &other, &path).await;
            answer.error(404, "video_not_found");
        }
        for (path, body) in [
            (format!("/v1/videos/{id}/cancel"), None),
            (
                format!("/v1/videos/{id}/remix"),
                Some(json!({"prompt": "b"})),
            ),
            (
                "/v1/videos/extensions".into(),
                Some(json!({"prompt": "b", "video": {"id": id.to_string()}})),
            ),
        ] {
            let answer = server.ask(&other, Method::POST, &path, body).await;
            answer.error(404, "video_not_found");
        }
        let path = format!("/v1/videos/{id}");
        let answer = server.ask(&other, Method::DELETE, &path, None).await;
        answer.error(404, "video_not_found");
    }
    assert_eq!(server.pool.submissions.lock().unwrap().len(), 2);
    assert!(server.pool.cancelled.lock().unwrap().is_empty());
    let list = get(&server, &other, "/v1/videos").await.json();
    assert_eq!(list["data"], json!([]));
    let list = get(&server, &mine, "/v1/videos").await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_key_counts_for_its_tenant_whatever_project_the_client_names() {
    let setup = Setup::new();
    let key = setup.key("a", |_| {});
    let server = setup.start();
    let request = Request::post("/v1/videos")
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header("openai-project", "b");
    let answer = server
        .send(with_json(request, Some(json!({"prompt": "a"}))))
        .await;
    assert_eq!(answer.status, 200);
    let submissions = server.pool.submissions.lock().unwrap();
    assert_eq!(submissions[0].job.sharing.tenant.as_str(), "a");
}

#[tokio::test]
async fn only_an_operators_key_opens_the_pool() {
    let setup = Setup::new();
    let user = setup.key("a", |_| {});
    let operator = setup.key("ops", |new| new.admin = true);
    let server = setup.start();
    for path in ["/v1/pool", "/metrics"] {
        let answer = get(&server, &user, path).await;
        let error = answer.error(403, "not_an_admin");
        assert_eq!(error["type"], "permission_error");
        assert_eq!(get(&server, &operator, path).await.status, 200);
    }
    let answer = server
        .ask(&user, Method::POST, "/v1/pool/drain", None)
        .await;
    answer.error(403, "not_an_admin");
    assert!(server.pool.orders.lock().unwrap().is_empty());
    let answer = server
        .ask(&operator, Method::POST, "/v1/pool/drain", None)
        .await;
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn the_operators_own_door_asks_for_no_key_and_has_no_videos() {
    let setup = Setup::new();
    setup.key("a", |_| {});
    let server = setup.start();
    for path in ["/v1/pool", "/metrics", "/livez"] {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        assert_eq!(server.send_to_admin(request).await.status, 200, "{path}");
    }
    let request = Request::get("/v1/videos")
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = server.send_to_admin(request).await;
    answer.error(404, "unknown_route");
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_back() {
    let setup = Setup::new();
    let limited = setup.key("a", |new| new.rate_per_minute = NonZeroU32::new(2));
    let twin = setup.key("a", |_| {});
    let server = setup.start();
    for _ in 0..2 {
        job(&server, &limited).await;
    }
    let answer = create(&server, &limited, json!({"prompt": "a"})).await;
    let error = answer.error(429, "rate_limited");
    assert_eq!(error["type"], "rate_limit_error");
    let retry_after: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&retry_after), "{retry_after}");
    assert_eq!(get(&server, &limited, "/v1/videos").await.status, 200);
    job(&server, &twin).await;
}

#[tokio::test]
async fn a_key_has_no_more_unfinished_jobs_than_it_may() {
    let setup = Setup::new();
    let key = setup.key("a", |new| new.unfinished_jobs_max = NonZeroU32::new(2));
    let server = setup.start();
    let first = job(&server, &key).await;
    job(&server, &key).await;
    let answer = create(&server, &key, json!({"prompt": "a"})).await;
    answer.error(429, "too_many_unfinished_jobs");
    assert_eq!(answer.header("retry-after"), "10");
    server.pool.complete(first, b"video").await;
    job(&server, &key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_at_the_same_moment_do_not_pass_the_limit_together() {
    let setup = Setup::new();
    let key = setup.key("a", |new| new.unfinished_jobs_max = NonZeroU32::new(3));
    let server = std::sync::Arc::new(setup.start());
    let mut creates = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (server, key) = (std::sync::Arc::clone(&server), key.clone());
        creates.spawn(async move { create(&server, &key, json!({"prompt": "a"})).await });
    }
    let answers = creates.join_all().await;
    let taken = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert_eq!((taken, taken + refused), (3, 24));
    assert_eq!(server.pool.submissions.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_request_that_became_nothing_counts_for_nothing() {
    let setup = Setup::new();
    let key = setup.key("a", |new| new.unfinished_jobs_max = Some(ONE));
    let server = setup.start();
    for _ in 0..3 {
        let answer = create(&server, &key, json!({"prompt": ""})).await;
        answer.error(400, "invalid_value");
    }
    job(&server, &key).await;
}

#[tokio::test]
async fn a_try_again_of_a_request_that_became_a_job_is_not_a_second_job_to_the_limits() {
    let setup = Setup::new();
    let key = setup.key("a", |new| {
        (new.unfinished_jobs_max, new.rate_per_minute) = (Some(ONE), Some(ONE));
    });
    let server = setup.start();
    let send = async || {
        let request = Request::post("/v1/videos")
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header("idempotency-key", "k");
        server
            .send(with_json(request, Some(json!({"prompt": "a"}))))
            .await
    };
    let first = send().await.json();
    let again = send().await;
    assert_eq!(again.status, 200, "{:?}", again.body);
    assert_eq!(again.json()["id"], first["id"]);
}

#[tokio::test]
async fn a_key_asks_for_nothing_more_urgent_than_its_ceiling() {
    let setup = Setup::new();
    let slow = setup.key("a", |new| new.priority_max = Some(Priority::Batch));
    let fast = setup.key("a", |_| {});
    let server = setup.start();
    let body = |priority: &str| json!({"prompt": "a", "priority": priority});
    let answer = create(&server, &slow, body("interactive")).await;
    let error = answer.error(403, "priority_not_allowed");
    assert_eq!(error["param"], "priority");
    assert_eq!(create(&server, &slow, body("batch")).await.status, 200);
    // A remix is as urgent as what it is made of, or as whoever asks may be.
    let urgent = job(&server, &fast).await;
    let path = format!("/v1/videos/{urgent}/remix");
    let answer = server
        .ask(&slow, Method::POST, &path, Some(json!({"prompt": "b"})))
        .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let remix = server.pool.submissions.lock().unwrap().pop().unwrap().job;
    assert_eq!(remix.sharing.priority, Priority::Batch);
}

#[tokio::test]
async fn what_a_key_says_of_callbacks_holds_where_the_request_does_not_say() {
    let setup = Setup::new();
    let key = setup.key("a", |new| {
        new.callback_url = Some("https://hooks.example.com/key".into());
    });
    let server = setup.start();
    job(&server, &key).await;
    let own = "https://hooks.example.com/own";
    let body = json!({"prompt": "a", "callback_url": own});
    create(&server, &key, body).await;
    let submissions = server.pool.submissions.lock().unwrap();
    let callbacks = submissions
        .iter()
        .map(|submission| submission.job.callback.as_ref().unwrap().as_str());
    assert!(callbacks.eq(["https://hooks.example.com/key", own]));
}

#[tokio::test]
async fn a_stream_of_events_ends_with_the_key_that_opened_it() {
    let setup = Setup::new();
    let key = setup.key("a", |_| {});
    let server = setup.start();
    let id = job(&server, &key).await;
    let mut events = crate::events::Events::open(
        &server,
        "/v1/events",
        &[("authorization", &format!("Bearer {key}"))],
    )
    .await;
    let ring = server.keys.list().unwrap();
    let key_id = ring.keys().next().unwrap().id.clone();
    server.keys.revoke(&key_id, 1_790_000_000_000).unwrap();
    until(&server, &key, 401).await;
    server.pool.change(id, progress(JobStatus::InProgress, 1));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_keys_callback_that_the_server_may_not_make_refuses_no_job() {
    let setup = Setup::new();
    let key = setup.key("a", |new| {
        new.callback_url = Some("http://hooks.example.com/".into());
    });
    let server = setup.start();
    job(&server, &key).await;
}
