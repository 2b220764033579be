//! The command line as a client, against a server that says whatever a test wants.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod stub;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output};
use std::sync::Mutex;
use stub::{Seen, Stub, command, error, event, events, ok, open_events, unknown_route, video};
use tempfile::TempDir;

const CONTENT: &str = "not really an MP4";
const SHA256: &str = "6ceffb3e4365f7669b0d6c922fdc06d75bc9009908f74852006848d3bf43201b";

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[track_caller]
fn assert_ends(output: &Output, exit: i32, part: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    assert!(said.contains(part), "{said}");
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A server that makes every video at once: no queue, no event streams.
fn prompt_server(seen: &Seen) -> Response {
    match seen.line.as_str() {
        "POST /v1/videos" => ok(&video("video_1", "queued", Value::Null)),
        "GET /v1/videos/video_1" => ok(&video("video_1", "completed", Value::Null)),
        "GET /v1/videos/video_1/content" => CONTENT.into_response(),
        _ => unknown_route(),
    }
}

#[test]
fn a_video_is_asked_for_followed_by_its_events_and_downloaded() {
    let stub = Stub::new(|seen| match seen.line.as_str() {
        "GET /v1/videos/video_1" => ok(&video("video_1", "queued", json!({"queue_position": 1}))),
        "GET /v1/videos/video_1/events" => {
            let running = json!({"stage": "denoise", "step": 4, "progress": 20, "eta": {"p50": 3.0, "p90": 4.0}});
            events(&[
                event(1, &video("video_1", "in_progress", running)),
                event(2, &video("video_1", "completed", json!({"progress": 100}))),
            ])
        }
        _ => prompt_server(seen),
    });
    let directory = directory();
    let output = stub.run(
        directory.path(),
        &["generate", "a red circle", "--frames=17", "--seed=7"],
    );
    assert_ends(&output, 0, "");
    assert_eq!(stdout(&output), "out.mp4 (17 bytes, video_1)\n");
    assert_eq!(
        fs::read_to_string(directory.path().join("out.mp4")).unwrap(),
        CONTENT
    );
    assert_eq!(names(directory.path()), ["out.mp4"]);
    let create = &stub.asked("POST /v1/videos")[0];
    assert_eq!(
        create.json(),
        json!({"prompt": "a red circle", "num_frames": 17, "seed": 7})
    );
    assert_eq!(create.header("authorization"), None);
    // The stream told everything: nobody asked again.
    assert_eq!(stub.asked("GET /v1/videos/video_1").len(), 1);
}

#[test]
fn a_server_without_event_streams_is_asked_until_the_video_is_there() {
    let stub = Stub::new(|seen| match (seen.line.as_str(), seen.before) {
        ("GET /v1/videos/video_1", 0..3) => {
            let queued = ok(&video("video_1", "queued", Value::Null));
            ([("openai-poll-after-ms", "1")], queued).into_response()
        }
        _ => prompt_server(seen),
    });
    let directory = directory();
    assert_ends(&stub.run(directory.path(), &["generate", "a"]), 0, "");
    assert_eq!(stub.asked("GET /v1/videos/video_1").len(), 4);
    assert_eq!(stub.asked("GET /v1/videos/video_1/events").len(), 1);
}

#[test]
fn a_stream_that_breaks_off_is_taken_up_where_it_was() {
    let stub = Stub::new(|seen| match (seen.line.as_str(), seen.before) {
        ("GET /v1/videos/video_1", 0..2) => ok(&video("video_1", "in_progress", Value::Null)),
        ("GET /v1/videos/video_1/events", 0) => {
            events(&[event(41, &video("video_1", "in_progress", Value::Null))])
        }
        ("GET /v1/videos/video_1/events", _) => {
            events(&[event(42, &video("video_1", "completed", Value::Null))])
        }
        _ => prompt_server(seen),
    });
    let directory = directory();
    assert_ends(&stub.run(directory.path(), &["generate", "a"]), 0, "");
    let streams = stub.asked("GET /v1/videos/video_1/events");
    let last: Vec<_> = streams
        .iter()
        .map(|seen| seen.header("last-event-id"))
        .collect();
    assert_eq!(last, [None, Some("41")]);
}

#[test]
fn a_busy_server_is_asked_again_for_the_very_same_job() {
    let stub = Stub::new(|seen| match (seen.line.as_str(), seen.before) {
        ("POST /v1/videos", 0) => error(503, "bundle_not_ready", "baking: 40 %", None),
        ("POST /v1/videos", 1) => {
            let busy = error(429, "queue_full", "the queue is full", None);
            ([(header::RETRY_AFTER, "0")], busy).into_response()
        }
        _ => prompt_server(seen),
    });
    let directory = directory();
    assert_ends(&stub.run(directory.path(), &["generate", "a"]), 0, "");
    let creates = stub.asked("POST /v1/videos");
    let key = creates[0].header("idempotency-key").unwrap();
    assert!(key.len() >= 32, "{key}");
    assert_eq!(creates.len(), 3);
    assert!(
        creates
            .iter()
            .all(|create| create.header("idempotency-key") == Some(key))
    );
}

#[test]
fn waiting_longer_than_one_would_is_no_use() {
    let stub = Stub::new(|_| {
        let busy = error(429, "queue_full", "the queue is full", None);
        ([(header::RETRY_AFTER, "3600")], busy).into_response()
    });
    let directory = directory();
    let output = stub.run(directory.path(), &["generate", "a"]);
    assert_ends(&output, 1, "the queue is full");
    assert_ends(&output, 1, "try again in 3600 s");
    assert_eq!(stub.seen().len(), 1);
}

#[test]
fn a_shape_that_cannot_be_baked_is_not_waited_for() {
    let stub = Stub::new(|_| error(503, "bundle_failed", "the bake failed", None));
    let directory = directory();
    let output = stub.run(directory.path(), &["generate", "a", "--wait-ready=3600"]);
    assert_ends(&output, 1, "the bake failed");
    assert_eq!(stub.seen().len(), 1);
}

#[test]
fn a_request_that_makes_no_sense_is_the_askers_to_mend() {
    let stub = Stub::new(|_| error(400, "shape_not_on_menu", "not on the menu", Some("size")));
    let directory = directory();
    let output = stub.run(directory.path(), &["generate", "a", "--size=1x1"]);
    assert_ends(&output, 2, "size: not on the menu");
    assert_eq!(stub.seen().len(), 1);
}

#[test]
fn a_server_that_is_not_there_is_named_with_the_way_out() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let directory = directory();
    for arguments in [
        &["generate", "a", "--wait-ready=0"][..],
        &["jobs"],
        &["jobs", "show", "video_1"],
    ] {
        let output = command(directory.path(), arguments)
            .env("REEL_SERVER", &url)
            .output()
            .unwrap();
        assert_ends(&output, 4, &url);
        assert_ends(&output, 4, "is `reel serve` running there?");
    }
    let output = command(directory.path(), &["jobs", "--server=localhost:8000"])
        .output()
        .unwrap();
    assert_ends(&output, 2, "http://127.0.0.1:8000");
}

#[test]
fn something_else_than_a_reel_server_is_told_from_one() {
    let stub = Stub::new(|_| "<html>hello</html>".into_response());
    let directory = directory();
    let output = stub.run(directory.path(), &["jobs"]);
    assert_ends(&output, 1, "something else than a Reel server");
}

#[test]
fn a_job_that_fails_says_why() {
    let stub = Stub::new(|seen| match seen.line.as_str() {
        "GET /v1/videos/video_1" => {
            let why = json!({"error": {"code": "worker_lost", "message": "the worker died twice"}});
            ok(&video("video_1", "failed", why))
        }
        _ => prompt_server(seen),
    });
    let directory = directory();
    let output = stub.run(directory.path(), &["generate", "a"]);
    assert_ends(&output, 1, "video_1 failed: the worker died twice");
    assert!(names(directory.path()).is_empty());
}

#[test]
fn an_image_makes_the_request_a_form() {
    let stub = Stub::new(prompt_server);
    let directory = directory();
    fs::write(directory.path().join("first.png"), b"\x89PNG\r\n\x1a\nrest").unwrap();
    let arguments = ["generate", "a \"b\"\nc", "--image=first.png", "--mode=i2v"];
    assert_ends(&stub.run(directory.path(), &arguments), 0, "");
    let create = &stub.asked("POST /v1/videos")[0];
    let kind = create.header("content-type").unwrap();
    assert!(kind.starts_with("multipart/form-data; boundary="), "{kind}");
    let text = create.text();
    for part in [
        "name=\"prompt\"",
        "a \"b\"\nc",
        "name=\"input_reference\"; filename=\"first.png\"",
        "image/png",
        "rest",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_key_goes_along_and_a_wrong_one_is_explained() {
    let stub = Stub::new(|seen| match seen.header("authorization") {
        Some("Bearer reel_good") => prompt_server(seen),
        _ => error(401, "invalid_api_key", "there is no such key", None),
    });
    let directory = directory();
    let output = stub.run(directory.path(), &["generate", "a"]);
    assert_ends(&output, 2, "REEL_API_KEY");
    let output = stub.run(directory.path(), &["generate", "a", "--key=reel_good"]);
    assert_ends(&output, 0, "");
    assert!(
        stub.seen()[1..]
            .iter()
            .all(|seen| seen.header("authorization") == Some("Bearer reel_good"))
    );
}

#[test]
fn a_download_that_is_not_what_was_announced_leaves_nothing() {
    let stub = Stub::new(|seen| {
        let sha256 = match seen.before {
            0..3 => "0".repeat(64),
            _ => SHA256.to_owned(),
        };
        ([(header::ETAG, format!("\"{sha256}\""))], CONTENT).into_response()
    });
    let directory = directory();
    let out = directory.path().join("out.mp4");
    fs::write(&out, "the one before").unwrap();
    let arguments = ["jobs", "download", "video_1", "-o", "out.mp4"];
    assert_ends(&stub.run(directory.path(), &arguments), 1, "SHA-256");
    assert_eq!(names(directory.path()), ["out.mp4"]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "the one before");
    assert_ends(&stub.run(directory.path(), &arguments), 0, "");
    assert_eq!(fs::read_to_string(&out).unwrap(), CONTENT);
}

#[test]
fn a_download_that_breaks_off_is_tried_again() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for content in ["not", "not really", CONTENT] {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 4_096];
            assert!(connection.read(&mut request).unwrap() > 0);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                CONTENT.len()
            );
            connection.write_all((head + content).as_bytes()).unwrap();
        }
    });
    let directory = directory();
    let output = command(
        directory.path(),
        &["jobs", "download", "video_1", "--server", &url],
    )
    .output()
    .unwrap();
    assert_ends(&output, 0, "");
    server.join().unwrap();
    assert_eq!(names(directory.path()), ["video_1.mp4"]);
    let come = fs::read_to_string(directory.path().join("video_1.mp4")).unwrap();
    assert_eq!(come, CONTENT);
}

/// Presses Ctrl-C.
fn interrupt(child: &Child) {
    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn ctrl_c_cancels_the_job_and_waits_for_its_end() {
    let stream = Mutex::new(None);
    let stub = Stub::new(move |seen| match seen.line.as_str() {
        "GET /v1/videos/video_1" => ok(&video("video_1", "in_progress", Value::Null)),
        "GET /v1/videos/video_1/events" => {
            let (sender, response) = open_events();
            *stream.lock().unwrap() = Some(sender);
            response
        }
        "POST /v1/videos/video_1/cancel" => {
            let why = json!({"error": {"code": "cancelled", "message": "the job was cancelled"}});
            let cancelled = video("video_1", "failed", why);
            let sender = stream.lock().unwrap().take().unwrap();
            sender.send(event(9, &cancelled)).unwrap();
            ok(&cancelled)
        }
        _ => prompt_server(seen),
    });
    let directory = directory();
    let child = stub.start(directory.path(), &["generate", "a"]);
    stub.wait_for("GET /v1/videos/video_1/events");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_ends(&output, 3, "video_1 was cancelled");
    assert_ends(&output, 3, "Ctrl-C again leaves");
    assert_eq!(stub.asked("POST /v1/videos/video_1/cancel").len(), 1);
}

#[test]
fn a_second_ctrl_c_leaves_at_once() {
    let stream = Mutex::new(None);
    let stub = Stub::new(move |seen| match seen.line.as_str() {
        "GET /v1/videos/video_1" | "POST /v1/videos/video_1/cancel" => {
            ok(&video("video_1", "in_progress", Value::Null))
        }
        "GET /v1/videos/video_1/events" => {
            let (sender, response) = open_events();
            *stream.lock().unwrap() = Some(sender);
            response
        }
        _ => prompt_server(seen),
    });
    let directory = directory();
    let child = stub.start(directory.path(), &["generate", "a"]);
    stub.wait_for("GET /v1/videos/video_1/events");
    interrupt(&child);
    stub.wait_for("POST /v1/videos/video_1/cancel");
    interrupt(&child);
    assert_ends(&child.wait_with_output().unwrap(), 3, "");
}

#[test]
fn an_older_server_is_asked_to_delete_what_it_cannot_cancel() {
    let deleted = Mutex::new(false);
    let stub = Stub::new(move |seen| {
        let mut deleted = deleted.lock().unwrap();
        match seen.line.as_str() {
            "DELETE /v1/videos/video_1" => {
                *deleted = true;
                ok(&json!({"id": "video_1", "deleted": true}))
            }
            "GET /v1/videos/video_1" if *deleted => error(404, "video_not_found", "gone", None),
            "GET /v1/videos/video_1" => ok(&video("video_1", "in_progress", Value::Null)),
            _ => prompt_server(seen),
        }
    });
    let directory = directory();
    let child = stub.start(directory.path(), &["generate", "a"]);
    stub.wait_for("GET /v1/videos/video_1/events");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_ends(&output, 3, "video_1 was cancelled");
    // Asked to cancel, somebody is told; nothing is deleted in passing.
    let output = stub.run(directory.path(), &["jobs", "cancel", "video_1"]);
    assert_ends(&output, 2, "reel jobs delete video_1");
}

#[test]
fn of_several_videos_one_that_fails_does_not_keep_the_others() {
    let next = Mutex::new(0);
    let stub = Stub::new(move |seen| {
        if seen.line == "POST /v1/videos" {
            let mut next = next.lock().unwrap();
            *next += 1;
            let id = format!("video_{}", seen.json()["seed"]);
            return ok(&video(&id, "queued", Value::Null));
        }
        match seen.line.as_str() {
            "GET /v1/videos/video_8" => ok(&video("video_8", "failed", Value::Null)),
            "GET /v1/videos/video_7" => ok(&video("video_7", "completed", Value::Null)),
            "GET /v1/videos/video_9" => ok(&video("video_9", "completed", Value::Null)),
            line if line.ends_with("/content") => CONTENT.into_response(),
            _ => unknown_route(),
        }
    });
    let directory = directory();
    let output = stub.run(
        directory.path(),
        &["generate", "a", "--count=3", "--seed=7"],
    );
    assert_ends(&output, 1, "out-2.mp4: video_8 failed");
    assert_ends(&output, 1, "1 of 3 videos were not made");
    assert_eq!(names(directory.path()), ["out-1.mp4", "out-3.mp4"]);
}

#[test]
fn whoever_does_not_wait_gets_the_id_and_programs_get_json() {
    let stub = Stub::new(prompt_server);
    let directory = directory();
    let output = stub.run(directory.path(), &["generate", "a", "--no-wait"]);
    assert_ends(&output, 0, "");
    assert_eq!(stdout(&output), "video_1\n");
    assert_eq!(stub.seen().len(), 1);
    let output = stub.run(directory.path(), &["generate", "a", "--json"]);
    let object: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(
        (&object["file"], &object["bytes"]),
        (&json!("out.mp4"), &json!(17))
    );
    assert_eq!(object["model"], "tiny-shapes");
}

/// Three jobs on two pages.
fn list_server(seen: &Seen) -> Response {
    let running = json!({
        "status_detail": "in_progress", "stage": "denoise", "step": 12, "progress": 60, "eta": {"p50": 8.0, "p90": 9.0},
    });
    let newest = video("video_3", "in_progress", running);
    let waiting = video("video_2", "queued", json!({"queue_position": 0}));
    let oldest = video("video_1", "failed", json!({"status_detail": "cancelled"}));
    match seen.line.as_str() {
        "GET /v1/videos?limit=2" => ok(&json!({"data": [newest, waiting], "has_more": true})),
        "GET /v1/videos?limit=20" => {
            ok(&json!({"data": [newest, waiting, oldest], "has_more": false}))
        }
        "GET /v1/videos?limit=100" => ok(&json!({"data": [newest, waiting], "has_more": true})),
        "GET /v1/videos?limit=100&after=video_2" => {
            ok(&json!({"data": [oldest], "has_more": false}))
        }
        "GET /v1/videos/video_3" => ok(&newest),
        "POST /v1/videos/video_3/cancel" => ok(&video("video_3", "failed", Value::Null)),
        "DELETE /v1/videos/video_3" => ok(&json!({"id": "video_3", "deleted": true})),
        "GET /v1/videos/video_3/content?variant=thumbnail" => {
            ([(header::CONTENT_TYPE, "image/webp")], CONTENT).into_response()
        }
        _ => unknown_route(),
    }
}

#[test]
fn jobs_are_listed_filtered_and_counted() {
    let stub = Stub::new(list_server);
    let directory = directory();
    let output = stub.run(directory.path(), &["jobs"]);
    assert_ends(&output, 0, "");
    let table = stdout(&output);
    for part in ["video_3", "12/20", "60 %", "8 s", "video_2", "cancelled"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let output = stub.run(directory.path(), &["jobs", "--limit=2", "--json"]);
    let ids: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids, ["video_3", "video_2"]);
    let output = stub.run(directory.path(), &["jobs", "--status=cancelled"]);
    let table = stdout(&output);
    assert!(
        table.contains("video_1") && !table.contains("video_2"),
        "{table}"
    );
}

#[test]
fn one_job_is_shown_cancelled_deleted_and_fetched() {
    let stub = Stub::new(list_server);
    let directory = directory();
    let run = |arguments: &[&str]| {
        let output = stub.run(directory.path(), arguments);
        assert_ends(&output, 0, "");
        stdout(&output).to_owned()
    };
    let shown = run(&["jobs", "show", "video_3"]);
    assert!(
        shown.contains("denoise 12/20") && shown.contains("2030-03-17T17:46:40Z"),
        "{shown}"
    );
    let json: Value = serde_json::from_str(&run(&["jobs", "show", "video_3", "--json"])).unwrap();
    assert_eq!(json["step"], 12);
    assert_eq!(run(&["jobs", "cancel", "video_3"]), "video_3: failed\n");
    assert_eq!(run(&["jobs", "delete", "video_3"]), "video_3: deleted\n");
    let fetched = run(&["jobs", "download", "video_3", "--variant=thumbnail"]);
    assert_eq!(fetched, "video_3.webp (17 bytes)\n");
    assert_eq!(names(directory.path()), ["video_3.webp"]);
}

#[test]
fn a_watched_list_is_drawn_again_and_again() {
    let stub = Stub::new(list_server);
    let directory = directory();
    let mut child = stub.start(directory.path(), &["jobs", "--watch"]);
    stub.wait_for("GET /v1/videos?limit=20");
    stub.wait_for("GET /v1/videos?limit=20");
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(stdout(&output).matches("video_3").count() >= 1);
}
