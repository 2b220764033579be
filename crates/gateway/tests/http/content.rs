use crate::server::Server;
use axum::body::Body;
use axum::http::Request;
use reel_domain::{Fps, JobId, Shape};
use reel_media::{Clip, Ffmpeg};
use std::io::Write;

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

/// A completed job with a real video of a grey that grows.
async fn filmed(server: &Server) -> JobId {
    let shape: Shape = "64x64@17f".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut frames = tempfile::tempfile().unwrap();
    for frame in 0..shape.frames() {
        let grey = u8::try_from(frame * 12).unwrap();
        frames.write_all(&[grey].repeat(64 * 64 * 3)).unwrap();
    }
    let path = directory.path().join("video.mp4");
    let clip = Clip::new(shape, Fps::new(8).unwrap());
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    ffmpeg.encode(frames, clip, &path).await.unwrap();
    let id = server.job().await;
    let video = std::fs::read(&path).unwrap();
    server.pool.complete(id, &video).await;
    id
}

#[tokio::test]
async fn pictures_of_a_video_are_served_as_the_video_is() {
    let server = Server::new();
    let id = filmed(&server).await;
    for (variant, content_type, begin) in [
        ("thumbnail", "image/webp", &b"RIFF"[..]),
        ("spritesheet", "image/jpeg", b"\xff\xd8\xff"),
    ] {
        let path = format!("{}?variant={variant}", path(id));
        let answer = server.get(&path).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(answer.header("content-type"), content_type);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(answer.body.starts_with(begin), "{:?}", &answer.body[..8]);
        let length = answer.body.len().to_string();
        assert_eq!(answer.header("content-length"), length);
        let etag = answer.header("etag").to_owned();
        assert_ne!(
            etag,
            server.get(&crate::content::path(id)).await.header("etag")
        );
        let known = server.get_with(&path, &[("if-none-match", &etag)]).await;
        assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
        assert_eq!(known.header("etag"), etag);
        let part = server.get_with(&path, &[("range", "bytes=0-2")]).await;
        assert_eq!((part.status.as_u16(), &part.body[..]), (206, &begin[..3]));
        let beyond = format!("bytes={length}-");
        let answer = server.get_with(&path, &[("range", &beyond)]).await;
        answer.error(416, "range_not_satisfiable");
        let head = server
            .send(Request::head(&path).body(Body::empty()).unwrap())
            .await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), length);
        assert_eq!(head.header("etag"), etag);
    }
}

#[tokio::test]
async fn there_are_no_pictures_without_a_video() {
    let server = Server::new();
    let (waiting, failed) = (server.job().await, server.job().await);
    server.pool.fail(failed).await;
    let expired = filmed(&server).await;
    let picture = |id: JobId| format!("{}?variant=thumbnail", path(id));
    assert_eq!(server.get(&picture(expired)).await.status, 200);
    server.pool.expire(expired).await;
    for (id, status, code) in [
        (waiting, 404, "video_not_ready"),
        (failed, 404, "video_failed"),
        (expired, 410, "video_expired"),
    ] {
        server.get(&picture(id)).await.error(status, code);
    }
}

#[tokio::test]
async fn a_picture_that_cannot_be_made_is_the_servers_fault() {
    let server = Server::new();
    let path = format!("{}?variant=thumbnail", completed(&server).await);
    let error = server.get(&path).await.error(500, "internal_error");
    assert_eq!(error["message"], "the picture could not be made");
}

#[tokio::test]
async fn a_head_request_has_no_parts() {
    let server = Server::new();
    let path = completed(&server).await;
    let request = Request::head(path).header("range", "bytes=2-4");
    let answer = server.send(request.body(Body::empty()).unwrap()).await;
    // A range means something to GET alone (RFC 9110, section 14.2).
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), "10");
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_the_servers_fault() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.complete(id, VIDEO).await;
    let video = server.pool.store.video_path(id);
    let directory = video.parent().unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    // A name that leads to itself.
    std::os::unix::fs::symlink(directory, directory).unwrap();
    let error = server.get(&path(id)).await.error(500, "internal_error");
    assert_eq!(error["message"], "the video cannot be read");
}
