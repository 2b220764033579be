use crate::server::Server;
use axum::body::Body;
use axum::http::Request;
use reel_domain::JobId;

const VIDEO: &[u8] = b"0123456789";
const DIGEST: &str = "\"84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882\"";

async fn completed(server: &Server) -> String {
    let id = server.job().await;
    server.pool.complete(id, VIDEO).await;
    path(id)
}

fn path(id: JobId) -> String {
    format!("/v1/videos/{id}/content")
}

#[tokio::test]
async fn the_whole_video_comes_with_its_type_length_and_digest() {
    let server = Server::new();
    let answer = server.get(&completed(&server).await).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, VIDEO));
    assert_eq!(answer.header("content-type"), "video/mp4");
    assert_eq!(answer.header("content-length"), "10");
    assert_eq!(answer.header("etag"), DIGEST);
    assert_eq!(answer.header("accept-ranges"), "bytes");
}

#[tokio::test]
async fn a_head_request_gets_the_headers_alone() {
    let server = Server::new();
    let path = completed(&server).await;
    let answer = server
        .send(Request::head(path).body(Body::empty()).unwrap())
        .await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-length"), "10");
    assert_eq!(answer.header("etag"), DIGEST);
}

#[tokio::test]
async fn a_range_gets_that_part() {
    let server = Server::new();
    let path = completed(&server).await;
    for (range, body, content_range) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=3-5", "345", "bytes 3-5/10"),
        ("bytes=8-", "89", "bytes 8-9/10"),
        ("bytes=-4", "6789", "bytes 6-9/10"),
    ] {
        let answer = server.get_with(&path, &[("range", range)]).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (206, body.as_bytes())
        );
        assert_eq!(answer.header("content-range"), content_range);
        assert_eq!(answer.header("content-length"), body.len().to_string());
    }
}

#[tokio::test]
async fn a_range_beyond_the_end_is_refused_with_the_size() {
    let server = Server::new();
    let path = completed(&server).await;
    let answer = server.get_with(&path, &[("range", "bytes=10-")]).await;
    answer.error(416, "range_not_satisfiable");
    assert_eq!(answer.header("content-range"), "bytes */10");
}

#[tokio::test]
async fn a_part_of_another_file_is_answered_with_all_of_this_one() {
    let server = Server::new();
    let path = completed(&server).await;
    let stale = [("range", "bytes=3-5"), ("if-range", "\"other\"")];
    assert_eq!(server.get_with(&path, &stale).await.status, 200);
    let fresh = [("range", "bytes=3-5"), ("if-range", DIGEST)];
    assert_eq!(server.get_with(&path, &fresh).await.status, 206);
}

#[tokio::test]
async fn a_client_that_has_the_video_does_not_get_it_again() {
    let server = Server::new();
    let path = completed(&server).await;
    let listed = format!("\"other\", W/{DIGEST}");
    for known in [DIGEST, "*", &listed] {
        let answer = server.get_with(&path, &[("if-none-match", known)]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.body.len()),
            (304, 0),
            "{known}"
        );
        assert_eq!(answer.header("etag"), DIGEST);
    }
    let answer = server
        .get_with(&path, &[("if-none-match", "\"other\"")])
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_job_without_a_video_says_why() {
    let server = Server::new();
    let (waiting, failed) = (server.job().await, server.job().await);
    server.pool.fail(failed).await;
    server
        .get(&path(waiting))
        .await
        .error(404, "video_not_ready");
    server.get(&path(failed)).await.error(404, "video_failed");
}

#[tokio::test]
async fn a_file_that_vanished_is_the_servers_fault_and_no_path_leaks() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.complete(id, VIDEO).await;
    server.pool.store.remove(id).unwrap();
    let error = server.get(&path(id)).await.error(500, "internal_error");
    assert!(!error.to_string().contains('/'), "{error}");
}

#[tokio::test]
async fn a_variant_that_there_is_not_is_refused() {
    let server = Server::new();
    let path = completed(&server).await;
    assert_eq!(
        server.get(&format!("{path}?variant=video")).await.status,
        200
    );
    let answer = server.get(&format!("{path}?variant=poster")).await;
    assert_eq!(answer.error(400, "invalid_value")["param"], "variant");
}

#[tokio::test]
async fn an_expired_video_is_gone_and_says_so() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.complete(id, VIDEO).await;
    let video = server.get(&format!("/v1/videos/{id}")).await.json();
    assert_eq!(video["expires_at"], 1_800_000_500);
    server.pool.expire(id).await;
    let error = server.get(&path(id)).await.error(410, "video_expired");
    assert!(error["message"].as_str().unwrap().contains("time was up"));
    let video = server.get(&format!("/v1/videos/{id}")).await.json();
    assert_eq!(
        (&video["status"], &video["status_detail"]),
        (&"failed".into(), &"expired".into())
    );
    assert_eq!(video["error"]["code"], "expired");
}
