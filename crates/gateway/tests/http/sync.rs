//! A video in the answer to the request for it.

use crate::server::{Answer, Server};
use reel_domain::JobId;
use reel_gateway::GatewayConfig;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A request that waits, and the job that it waits for.
async fn waiting(server: &Arc<Server>) -> (tokio::task::JoinHandle<Answer>, JobId) {
    let asked = Arc::clone(server);
    let body = Some(json!({"prompt": "a"}));
    let request = tokio::spawn(async move { asked.post_to("/v1/videos/sync", body).await });
    let mut newest = server.pool.board.newest();
    newest.wait_for(|number| *number > 0).await.unwrap();
    let submissions = server.pool.submissions.lock().unwrap();
    (request, submissions.last().unwrap().job.id)
}

#[tokio::test]
async fn the_answer_is_the_video_and_names_its_job() {
    let server = Arc::new(Server::new());
    let (request, id) = waiting(&server).await;
    server.pool.complete(id, b"video").await;
    let answer = request.await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (200, &b"video"[..])
    );
    assert_eq!(answer.header("content-type"), "video/mp4");
    assert_eq!(answer.header("content-length"), "5");
    assert_eq!(answer.header("x-video-id"), id.to_string());
    assert!(answer.headers.contains_key("etag"));
    let path = format!("/v1/videos/{id}");
    assert_eq!(server.get(&path).await.json()["status"], "completed");
}

#[tokio::test]
async fn a_job_that_fails_says_why_and_which_it_was() {
    let server = Arc::new(Server::new());
    let (request, id) = waiting(&server).await;
    server.pool.fail(id).await;
    let answer = request.await.unwrap();
    let error = answer.error(422, "video_failed");
    assert_eq!(error["message"], "there is no video: workers died under it");
    assert_eq!(answer.header("x-video-id"), id.to_string());
}

#[tokio::test]
async fn a_job_that_is_cancelled_meanwhile_ends_the_wait() {
    let server = Arc::new(Server::new());
    let (request, id) = waiting(&server).await;
    server
        .post_to(&format!("/v1/videos/{id}/cancel"), None)
        .await;
    let answer = request.await.unwrap();
    answer.error(404, "video_cancelled");
    assert_eq!(answer.header("x-video-id"), id.to_string());
}

#[tokio::test]
async fn a_job_that_takes_too_long_goes_on_and_can_be_found() {
    let server = Server::with(GatewayConfig {
        sync_deadline: Duration::from_millis(1),
        ..GatewayConfig::default()
    });
    let body = Some(json!({"prompt": "a"}));
    let answer = server.post_to("/v1/videos/sync", body).await;
    let error = answer.error(504, "still_running");
    let id: JobId = answer.header("x-video-id").parse().unwrap();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&id.to_string()), "{message}");
    assert!(server.pool.cancelled.lock().unwrap().is_empty());
    let path = format!("/v1/videos/{id}");
    assert_eq!(server.get(&path).await.json()["status"], "queued");
    server.pool.complete(id, b"video").await;
    let content = server.get(&format!("{path}/content")).await;
    assert_eq!(&content.body[..], b"video");
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_end_its_job() {
    let server = Arc::new(Server::new());
    let (request, id) = waiting(&server).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    server.pool.complete(id, b"video").await;
    let path = format!("/v1/videos/{id}/content");
    assert_eq!(&server.get(&path).await.body[..], b"video");
}

#[tokio::test]
async fn a_request_that_is_wrong_becomes_no_job() {
    let server = Server::new();
    let body = Some(json!({"prompt": "a", "size": "1x1"}));
    let answer = server.post_to("/v1/videos/sync", body).await;
    assert_eq!(answer.status, 400);
    assert!(!answer.headers.contains_key("x-video-id"));
}
