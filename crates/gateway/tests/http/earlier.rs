//! Videos that are made from earlier ones: remixes and extensions.

use crate::images;
use crate::server::{Answer, Server, Setup, bundle, form};
use axum::http::{Request, header};
use reel_domain::{Fps, JobId, Mode, Origin, Rejection, Shape};
use reel_media::{Clip, Ffmpeg};
use reel_pool::{BundleState, ModelState, PoolState};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;

async fn remix(server: &Server, id: JobId, body: Value) -> Answer {
    server
        .post_to(&format!("/v1/videos/{id}/remix"), Some(body))
        .await
}

async fn extend(server: &Server, body: Value) -> Answer {
    server.post_to("/v1/videos/extensions", Some(body)).await
}

/// The grey of a frame: no codec takes it for its neighbour's.
fn grey(frame: u32) -> u8 {
    u8::try_from(20 + 12 * (frame % 19)).unwrap()
}

/// A real MP4 of a shape, whose frames are [`grey`].
async fn video(shape: Shape) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let mut frames = tempfile::tempfile().unwrap();
    for frame in 0..shape.frames() {
        let bytes = usize::try_from(shape.frame_bytes()).unwrap();
        frames.write_all(&vec![grey(frame); bytes]).unwrap();
    }
    let (path, fps) = (directory.path().join("video.mp4"), Fps::new(8).unwrap());
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let clip = Clip::new(shape, fps);
    ffmpeg.encode(frames, clip, &path).await.unwrap();
    std::fs::read(path).unwrap()
}

/// A completed job with a real video of 17 frames.
async fn source(server: &Server) -> JobId {
    let id = server.job().await;
    let video = video("64x64@17f".parse().unwrap()).await;
    server.pool.complete(id, &video).await;
    id
}

fn baked(shape: &str, extend_frames: Option<u32>) -> ModelState {
    ModelState {
        extend_frames,
        ..bundle(shape, BundleState::Hot)
    }
}

/// A server whose model can go on at 64x64 by 8 or 24 frames, and not at all at 96x64.
fn server() -> Server {
    let server = Server::new();
    show(
        &server,
        vec![
            baked("64x64@17f", Some(9)),
            baked("96x64@17f", None),
            baked("64x64@33f", Some(9)),
        ],
    );
    server
}

fn show(server: &Server, bundles: Vec<ModelState>) {
    server.state.send_replace(Arc::new(PoolState {
        bundles,
        ..PoolState::default()
    }));
}

#[tokio::test]
async fn a_remix_is_the_same_job_with_another_prompt() {
    let server = Server::new();
    let body = json!({
        "prompt": "a", "size": "96x64", "seed": 7, "num_inference_steps": 5, "guidance_scale": 2.5,
        "negative_prompt": "n", "fps": 12, "priority": "batch", "batch": "never", "begin_within_s": 60,
    });
    let source = server.create(&body).await.json();
    let id: JobId = source["id"].as_str().unwrap().parse().unwrap();
    server.pool.complete(id, b"video").await;
    let answer = remix(&server, id, json!({"prompt": "b"})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let video = answer.json();
    assert_eq!(video["remixed_from_video_id"], id.to_string());
    for same in ["model", "shape", "seed", "steps", "fps", "mode", "size"] {
        assert_eq!(video[same], source[same], "{same}");
    }
    let submissions = server.pool.submissions.lock().unwrap();
    let (before, after) = (&submissions[0].job, &submissions[1].job);
    assert_eq!(after.sampling.prompt.as_str(), "b");
    assert_eq!(after.sampling.negative_prompt.as_str(), "n");
    assert_eq!(after.sampling.guidance, before.sampling.guidance);
    assert_eq!(after.sharing.priority, before.sharing.priority);
    assert!(after.sharing.alone && after.sharing.begin_by_ms.is_none());
    assert_eq!(after.origin, Some(Origin::Remix { of: id }));
    assert_ne!(after.id, before.id);
}

#[tokio::test]
async fn a_job_that_is_not_over_or_has_failed_can_be_remixed_too() {
    let server = Server::new();
    let (waiting, failed) = (server.job().await, server.job().await);
    server.pool.fail(failed).await;
    for id in [waiting, failed] {
        let answer = remix(&server, id, json!({"prompt": "b"})).await;
        assert_eq!(answer.json()["remixed_from_video_id"], id.to_string());
    }
}

#[tokio::test]
async fn a_remix_starts_from_the_image_of_its_source() {
    let server = Server::new();
    let image = images::png(64, 64, [9, 8, 7]);
    let (content_type, body) = form(&[("prompt", "a")], Some(("input_reference", &image)));
    let source = server.post(&content_type, body).await.json();
    let id: JobId = source["id"].as_str().unwrap().parse().unwrap();
    let first = remix(&server, id, json!({"prompt": "b"})).await.json();
    let second: JobId = first["id"].as_str().unwrap().parse().unwrap();
    // And a remix of the remix.
    remix(&server, second, json!({"prompt": "c"})).await;
    let submissions = server.pool.submissions.lock().unwrap();
    assert_eq!(submissions.len(), 3);
    for submission in &*submissions {
        assert_eq!(submission.given, [9, 8, 7].repeat(64 * 64));
        assert_eq!(submission.job.mode, Mode::I2v);
        assert_eq!(submission.job.conditioning_frames, 1);
    }
}

#[tokio::test]
async fn a_remix_whose_image_is_gone_says_so() {
    let server = Server::new();
    let image = images::png(64, 64, [9, 8, 7]);
    let (content_type, body) = form(&[("prompt", "a")], Some(("input_reference", &image)));
    let source = server.post(&content_type, body).await.json();
    let id: JobId = source["id"].as_str().unwrap().parse().unwrap();
    server.pool.store.remove(id).unwrap();
    let error = remix(&server, id, json!({"prompt": "b"}))
        .await
        .error(410, "source_gone");
    assert_eq!(error["param"], "video_id");
    assert_eq!(server.pool.submissions.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_remixes_are_named() {
    let server = Server::new();
    let id = server.job().await;
    for (body, param, code) in [
        (json!({}), "prompt", "missing_required_parameter"),
        (json!({"prompt": ""}), "prompt", "invalid_value"),
        (
            json!({"prompt": "b", "seed": 1}),
            "seed",
            "unknown_parameter",
        ),
    ] {
        let answer = remix(&server, id, body).await;
        assert_eq!(answer.error(400, code)["param"], param);
    }
    let answer = server
        .post_to("/v1/videos/video_1/remix", Some(json!({"prompt": "b"})))
        .await;
    answer.error(404, "video_not_found");
    let nobody = format!("/v1/videos/video_{}/remix", "0".repeat(32));
    let answer = server.post_to(&nobody, Some(json!({"prompt": "b"}))).await;
    answer.error(404, "video_not_found");
}

#[tokio::test]
async fn an_extension_goes_on_from_the_last_frames_of_its_source() {
    let server = server();
    let id = source(&server).await;
    let body = json!({"prompt": "b", "video": {"id": id.to_string()}, "seconds": "3"});
    let answer = extend(&server, body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let video = answer.json();
    assert_eq!(video["extended_from_video_id"], id.to_string());
    assert_eq!(video["mode"], "extend");
    assert_eq!(video["num_frames"], 17 + 24);
    assert_eq!(video["seconds"], "5.125");
    let submissions = server.pool.submissions.lock().unwrap();
    let submission = submissions.last().unwrap();
    assert_eq!(submission.job.bundle.shape.to_string(), "64x64@33f");
    assert_eq!(submission.job.conditioning_frames, 9);
    let frames: Vec<&[u8]> = submission.given.chunks(64 * 64 * 3).collect();
    assert_eq!(frames.len(), 9);
    for (frame, number) in frames.iter().zip(17 - 9..) {
        let expected = grey(number);
        let near = |byte: &u8| byte.abs_diff(expected) <= 4;
        assert!(frame.iter().all(near), "frame {number}");
    }
}

#[tokio::test]
async fn a_form_extends_as_json_does() {
    let server = server();
    let id = source(&server).await.to_string();
    for field in ["video[id]", "video"] {
        let fields = [("prompt", "b"), (field, id.as_str()), ("num_frames", "8")];
        let (content_type, body) = form(&fields, None);
        let request = Request::post("/v1/videos/extensions")
            .header(header::CONTENT_TYPE, content_type)
            .body(body.into())
            .unwrap();
        let video = server.send(request).await.json();
        assert_eq!(video["num_frames"], 17 + 8, "{field}: {video}");
    }
}

#[tokio::test]
async fn lengths_and_sizes_that_cannot_go_on_are_refused_with_those_that_can() {
    let server = server();
    let id = source(&server).await;
    let body = |seconds: &str| json!({"prompt": "b", "video": id.to_string(), "seconds": seconds});
    let error = extend(&server, body("2"))
        .await
        .error(400, "shape_not_on_menu");
    assert_eq!(error["param"], "seconds");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.ends_with("may be 1 (8 frames), 3 (24 frames)"),
        "{message}"
    );
    let wide = server
        .create(&json!({"prompt": "a", "size": "96x64"}))
        .await
        .json();
    let wide: JobId = wide["id"].as_str().unwrap().parse().unwrap();
    server.pool.complete(wide, b"video").await;
    let answer = extend(&server, json!({"prompt": "b", "video": wide.to_string()})).await;
    assert_eq!(answer.error(400, "mode_not_supported")["param"], "video");
    // Without a baked bundle there is no such mode either.
    show(&server, Vec::new());
    let answer = extend(&server, body("1")).await;
    answer.error(400, "mode_not_supported");
}

#[tokio::test]
async fn only_a_video_that_is_there_can_go_on() {
    let server = server();
    let body = |id: JobId| json!({"prompt": "b", "video": {"id": id.to_string()}});
    let (waiting, failed, cancelled) = (server.job().await, server.job().await, server.job().await);
    server.pool.fail(failed).await;
    server
        .post_to(&format!("/v1/videos/{cancelled}/cancel"), None)
        .await;
    for (id, status, code) in [
        (waiting, 404, "video_not_ready"),
        (failed, 404, "video_failed"),
        (cancelled, 404, "video_cancelled"),
    ] {
        extend(&server, body(id)).await.error(status, code);
    }
    let expired = source(&server).await;
    server.pool.expire(expired).await;
    extend(&server, body(expired))
        .await
        .error(410, "source_gone");
    let deleted = source(&server).await;
    server.delete(&format!("/v1/videos/{deleted}")).await;
    extend(&server, body(deleted))
        .await
        .error(404, "video_not_found");
}

#[tokio::test]
async fn a_video_whose_file_went_meanwhile_is_gone() {
    let server = server();
    let id = source(&server).await;
    server.pool.store.remove(id).unwrap();
    let answer = extend(&server, json!({"prompt": "b", "video": id.to_string()})).await;
    assert_eq!(answer.error(410, "source_gone")["param"], "video");
}

#[tokio::test]
async fn a_video_that_cannot_be_read_is_the_servers_fault() {
    let server = server();
    let id = server.job().await;
    server.pool.complete(id, b"no video at all").await;
    let answer = extend(&server, json!({"prompt": "b", "video": id.to_string()})).await;
    let error = answer.error(500, "internal_error");
    assert_eq!(
        error["message"],
        "the last frames of the video could not be read"
    );
}

#[tokio::test]
async fn what_the_pool_says_of_an_extension_is_told() {
    let server = server();
    let id = source(&server).await;
    *server.pool.rejection.lock().unwrap() = Some(Rejection::SourceGone { id });
    let answer = extend(&server, json!({"prompt": "b", "video": id.to_string()})).await;
    assert_eq!(answer.error(410, "source_gone")["param"], "video");
}

#[tokio::test]
async fn an_extension_can_go_on_and_cannot_be_remixed() {
    let server = server();
    let first = source(&server).await;
    let body = json!({"prompt": "b", "video": first.to_string(), "num_frames": 8});
    let extended = extend(&server, body).await.json();
    let extended: JobId = extended["id"].as_str().unwrap().parse().unwrap();
    let whole = video("64x64@25f".parse().unwrap()).await;
    server.pool.complete(extended, &whole).await;
    let error = remix(&server, extended, json!({"prompt": "c"}))
        .await
        .error(400, "invalid_value");
    assert_eq!(error["param"], "video_id");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&first.to_string()), "{message}");
    let body = json!({"prompt": "c", "video": extended.to_string(), "num_frames": 8});
    let video = extend(&server, body).await.json();
    assert_eq!(video["num_frames"], 17 + 8 + 8);
    let submissions = server.pool.submissions.lock().unwrap();
    let given = &submissions.last().unwrap().given;
    assert!(given[0].abs_diff(grey(25 - 9)) <= 4, "{}", given[0]);
}

#[tokio::test]
async fn a_video_as_a_file_is_refused_by_name() {
    let server = server();
    let (content_type, body) = form(&[("prompt", "b")], Some(("video", b"mp4")));
    let request = Request::post("/v1/videos/extensions")
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap();
    let error = server.send(request).await.error(400, "invalid_type");
    assert_eq!(error["param"], "video");
}

#[tokio::test]
async fn wrong_extensions_are_named() {
    let server = server();
    let id = source(&server).await.to_string();
    for (body, param, code) in [
        (
            json!({"prompt": "b"}),
            "video",
            "missing_required_parameter",
        ),
        (
            json!({"prompt": "b", "video": "video_1"}),
            "video",
            "invalid_value",
        ),
        (json!({"prompt": "b", "video": 7}), "video", "invalid_type"),
        (
            json!({"video": {"id": id}}),
            "prompt",
            "missing_required_parameter",
        ),
        (
            json!({"prompt": "b", "video": {"id": id}, "size": "64x64"}),
            "size",
            "unknown_parameter",
        ),
        (
            json!({"prompt": "b", "video": {"id": id}, "seconds": "0"}),
            "seconds",
            "invalid_value",
        ),
    ] {
        let answer = extend(&server, body).await;
        assert_eq!(answer.error(400, code)["param"], param);
    }
    let image = images::png(16, 16, [1, 2, 3]);
    let fields = [("prompt", "b"), ("video", id.as_str())];
    let (content_type, body) = form(&fields, Some(("input_reference", &image)));
    let request = Request::post("/v1/videos/extensions")
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap();
    let error = server.send(request).await.error(400, "unknown_parameter");
    assert_eq!(error["param"], "input_reference");
}

#[tokio::test]
async fn the_seed_of_an_extension_is_drawn_anew() {
    let setup = Setup::new();
    let server = setup.start();
    show(&server, vec![baked("64x64@17f", Some(9))]);
    let id = source(&server).await;
    let video = extend(&server, json!({"prompt": "b", "video": id.to_string()}))
        .await
        .json();
    let before = server.get(&format!("/v1/videos/{id}")).await.json();
    assert_ne!(video["seed"], before["seed"]);
}
