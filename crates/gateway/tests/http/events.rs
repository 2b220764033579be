//! Streams of events.

use crate::pool::progress;
use crate::server::{Server, Setup};
use axum::body::{Body, BodyDataStream};
use axum::http::{Method, Request};
use futures_util::StreamExt;
use reel_domain::{JobId, JobStatus};
use reel_gateway::GatewayConfig;
use reel_pool::PoolState;
use reel_pool::board::CHANGES_KEPT_MAX;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(60);

/// One event, as its reader gets it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// A stream that is being read.
pub(crate) struct Events {
    body: BodyDataStream,
    text: String,
}

impl Events {
    pub(crate) async fn open(server: &Server, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = server.open(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert_eq!(headers["content-type"], "text/event-stream");
        assert_eq!(headers["cache-control"], "no-cache");
        Self {
            body: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    /// What stands before the next empty line; `None` at the end of the stream.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await;
            let chunk = chunk.expect("an event in time")?.unwrap();
            self.text.push_str(str::from_utf8(&chunk).unwrap());
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Event> {
        let block = self.block().await?;
        let field = |name: &str| {
            let value = block.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_else(|| panic!("no {name} in {block}"))
        };
        Some(Event {
            id: field("id: ").parse().unwrap(),
            name: field("event: ").into(),
            data: serde_json::from_str(field("data: ")).unwrap(),
        })
    }
}

async fn of(server: &Server, id: JobId) -> Events {
    Events::open(server, &format!("/v1/videos/{id}/events"), &[]).await
}

async fn all(server: &Server, after: &str) -> Events {
    Events::open(server, "/v1/events", &[("last-event-id", after)]).await
}

#[tokio::test]
async fn a_job_is_followed_in_order_to_its_end() {
    let server = Server::new();
    let id = server.job().await;
    let mut events = of(&server, id).await;
    let mut seen = vec![events.next().await.unwrap()];
    for step in [1, 10] {
        server
            .pool
            .change(id, progress(JobStatus::InProgress, step));
        seen.push(events.next().await.unwrap());
    }
    server.pool.complete(id, b"video").await;
    seen.push(events.next().await.unwrap());
    assert_eq!(events.next().await, None, "nothing follows the end");
    let names: Vec<&str> = seen.iter().map(|event| event.name.as_str()).collect();
    let expected = [
        "video.queued",
        "video.in_progress",
        "video.in_progress",
        "video.completed",
    ];
    assert_eq!(names, expected);
    assert!(seen.windows(2).all(|pair| pair[0].id < pair[1].id));
    for event in &seen {
        assert_eq!(event.data["id"], id.to_string());
        assert_eq!(event.data["sequence"], event.id);
    }
    assert_eq!(seen[2].data["step"], 10);
    let shown = server.get(&format!("/v1/videos/{id}")).await.json();
    assert_eq!(seen[3].data["status"], shown["status"]);
    assert!(seen[3].data["download_url"].is_string());
}

#[tokio::test]
async fn a_slow_reader_gets_the_latest_state_and_the_end() {
    let server = Server::new();
    let id = server.job().await;
    let mut events = of(&server, id).await;
    for step in 1..=20 {
        server
            .pool
            .change(id, progress(JobStatus::InProgress, step));
    }
    assert_eq!(events.next().await.unwrap().data["step"], 20);
    server.pool.fail(id).await;
    let last = events.next().await.unwrap();
    assert_eq!(last.name, "video.failed");
    assert_eq!(last.data["error"]["code"], "worker_lost");
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_reader_that_comes_back_gets_only_what_it_has_not() {
    let server = Server::new();
    let id = server.job().await;
    let first = of(&server, id).await.next().await.unwrap();
    let path = format!("/v1/videos/{id}/events");
    let last = first.id.to_string();
    let mut events = Events::open(&server, &path, &[("last-event-id", &last)]).await;
    server.pool.change(id, progress(JobStatus::InProgress, 3));
    let next = events.next().await.unwrap();
    assert_eq!(
        (next.data["step"].clone(), next.id),
        (json!(3), first.id + 1)
    );
}

#[tokio::test]
async fn a_job_that_is_over_shows_its_end_once() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.complete(id, b"video").await;
    let mut events = of(&server, id).await;
    let end = events.next().await.unwrap();
    assert_eq!(end.name, "video.completed");
    assert_eq!(events.next().await, None);
    let path = format!("/v1/videos/{id}/events");
    let seen = [("last-event-id", end.id.to_string())];
    let seen = seen.each_ref().map(|(name, id)| (*name, id.as_str()));
    let answer = server.get_with(&path, &seen).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    let before = (end.id - 1).to_string();
    let mut events = Events::open(&server, &path, &[("last-event-id", &before)]).await;
    assert_eq!(events.next().await.unwrap().id, end.id);
}

#[tokio::test]
async fn what_is_no_id_of_an_event_is_refused() {
    let server = Server::new();
    let id = server.job().await;
    for path in [format!("/v1/videos/{id}/events"), "/v1/events".into()] {
        for last in ["x", "-1", "1.5", "99999999999999999999999"] {
            let answer = server.get_with(&path, &[("last-event-id", last)]).await;
            let error = answer.error(400, "invalid_value");
            assert_eq!(error["param"], "last-event-id");
        }
    }
    for id in ["video_1".to_owned(), format!("video_{}", "0".repeat(32))] {
        let answer = server.get(&format!("/v1/videos/{id}/events")).await;
        answer.error(404, "video_not_found");
    }
}

#[tokio::test]
async fn all_jobs_are_followed_from_now_on_or_from_where_a_reader_was() {
    let server = Server::new();
    let before = server.job().await;
    let mut events = Events::open(&server, "/v1/events", &[]).await;
    let after = server.job().await;
    let first = events.next().await.unwrap();
    assert_eq!(first.data["id"], after.to_string(), "nothing of before");
    server.pool.complete(before, b"video").await;
    let second = events.next().await.unwrap();
    assert_eq!(
        (second.name.as_str(), &second.data["id"]),
        ("video.completed", &json!(before.to_string()))
    );
    assert!(second.id > first.id);
    let mut again = all(&server, "0").await;
    let numbers = [
        again.next().await.unwrap().id,
        again.next().await.unwrap().id,
        again.next().await.unwrap().id,
    ];
    assert_eq!(numbers, [1, first.id, second.id]);
}

#[tokio::test]
async fn a_reader_that_was_away_too_long_is_told_so_and_goes_on() {
    let server = Server::new();
    let id = server.job().await;
    for _ in 0..CHANGES_KEPT_MAX + 10 {
        server.pool.change(id, progress(JobStatus::InProgress, 1));
    }
    let mut events = all(&server, "1").await;
    let missed = events.next().await.unwrap();
    assert_eq!(missed.name, "events.missed");
    let oldest = missed.data["oldest"].as_u64().unwrap();
    assert_eq!(missed.id, oldest - 1);
    assert_eq!(events.next().await.unwrap().id, oldest);
}

#[tokio::test]
async fn a_reader_that_knows_more_than_the_server_is_told_so_and_goes_on() {
    let server = Server::new();
    let id = server.job().await;
    let mut events = all(&server, "1000000").await;
    let missed = events.next().await.unwrap();
    assert_eq!(
        (missed.name.as_str(), &missed.data["oldest"]),
        ("events.missed", &json!(2))
    );
    server.pool.change(id, progress(JobStatus::InProgress, 1));
    assert_eq!(events.next().await.unwrap().id, 2);
}

#[tokio::test]
async fn a_key_follows_the_jobs_of_its_tenant_and_no_others() {
    let setup = Setup::new();
    let (mine, other) = (setup.key("a", |_| {}), setup.key("b", |_| {}));
    let server = setup.start();
    let create = async |key: &str| {
        let body = Some(json!({"prompt": "a"}));
        let answer = server.ask(key, Method::POST, "/v1/videos", body).await;
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        id.parse::<JobId>().unwrap()
    };
    let bearer = format!("Bearer {mine}");
    let headers = [("authorization", bearer.as_str()), ("last-event-id", "0")];
    let mut events = Events::open(&server, "/v1/events", &headers).await;
    let theirs = create(&other).await;
    let own = create(&mine).await;
    assert_eq!(events.next().await.unwrap().data["id"], own.to_string());
    server.pool.fail(theirs).await;
    server.pool.fail(own).await;
    let end = events.next().await.unwrap();
    assert_eq!(end.data["id"], own.to_string());
}

#[tokio::test]
async fn a_job_that_was_deleted_is_left_out() {
    let server = Server::new();
    let (gone, other) = (server.job().await, server.job().await);
    server.pool.complete(gone, b"video").await;
    server.delete(&format!("/v1/videos/{gone}")).await;
    server.pool.fail(other).await;
    let mut events = all(&server, "2").await;
    let event = events.next().await.unwrap();
    assert_eq!(event.data["id"], other.to_string());
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive_by_comments() {
    let server = Server::new();
    let id = server.job().await;
    let mut events = of(&server, id).await;
    events.next().await.unwrap();
    let mut all = Events::open(&server, "/v1/events", &[]).await;
    tokio::time::pause();
    for _ in 0..3 {
        assert_eq!(events.block().await.unwrap(), ": alive");
        assert_eq!(all.block().await.unwrap(), ": alive");
    }
}

#[tokio::test]
async fn streams_end_with_the_supervisor() {
    let server = Server::new();
    let id = server.job().await;
    let (mut one, mut all) = (of(&server, id).await, all(&server, "1").await);
    one.next().await.unwrap();
    server.state.send_replace(Arc::new(PoolState {
        queued: 7,
        ..PoolState::default()
    }));
    server.pool.change(id, progress(JobStatus::InProgress, 1));
    // What happened before is still told.
    server.pool.complete(id, b"video").await;
    drop(server.state);
    assert_eq!(one.next().await.unwrap().name, "video.completed");
    assert_eq!(all.next().await.unwrap().name, "video.in_progress");
    assert_eq!(all.next().await.unwrap().name, "video.completed");
    assert_eq!((one.next().await, all.next().await), (None, None));
}

#[tokio::test]
async fn more_streams_than_allowed_are_told_to_come_back() {
    let server = Server::with(GatewayConfig {
        event_streams_max: 2,
        ..GatewayConfig::default()
    });
    let id = server.job().await;
    let path = format!("/v1/videos/{id}/events");
    let one = of(&server, id).await;
    let all = all(&server, "0").await;
    for path in [path.as_str(), "/v1/events"] {
        let answer = server.get(path).await;
        answer.error(503, "overloaded");
        assert_eq!(answer.header("retry-after"), "1");
    }
    // A stream that is not read any more gives its place back.
    drop(all);
    let mut next = of(&server, id).await;
    next.next().await.unwrap();
    drop(one);
}
