use crate::pool::progress;
use crate::server::Server;
use reel_domain::{Durations, JobStatus};
use reel_pool::{CancelError, DeleteError};
use serde_json::{Value, json};

#[tokio::test]
async fn a_running_job_shows_what_the_board_knows() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.change(id, progress(JobStatus::InProgress, 10));
    let answer = server.get(&format!("/v1/videos/{id}")).await;
    let video = answer.json();
    assert_eq!(video["status"], "in_progress");
    assert_eq!(video["progress"], 49);
    assert_eq!(
        (&video["stage"], &video["step"], &video["steps"]),
        (&json!("denoise"), &json!(10), &json!(20))
    );
    assert_eq!(
        (&video["device"], &video["queue_position"]),
        (&json!("cpu:0"), &Value::Null)
    );
    assert_eq!(answer.header("openai-poll-after-ms"), "500");
}

#[tokio::test]
async fn a_job_is_in_progress_when_its_worker_has_begun_and_not_before() {
    let server = Server::new();
    let id = server.job().await;
    for (status, shown) in [
        (JobStatus::Starting, "queued"),
        (JobStatus::Encoding, "in_progress"),
    ] {
        server.pool.change(id, progress(status, 20));
        let video = server.get(&format!("/v1/videos/{id}")).await.json();
        assert_eq!(video["status"], shown);
        assert_eq!(video["status_detail"], status.as_str());
    }
}

#[tokio::test]
async fn a_completed_job_shows_when_and_needs_no_board() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.complete(id, b"video").await;
    let answer = server.get(&format!("/v1/videos/{id}")).await;
    let video = answer.json();
    assert_eq!(
        (&video["status"], &video["progress"]),
        (&json!("completed"), &json!(100))
    );
    assert_eq!(video["completed_at"], 1_800_000_000_u64);
    assert_eq!(video["step"], 20);
    assert!(!answer.headers.contains_key("openai-poll-after-ms"));
}

#[tokio::test]
async fn a_failed_job_says_why() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.fail(id).await;
    let video = server.get(&format!("/v1/videos/{id}")).await.json();
    assert_eq!(video["status"], "failed");
    let error = json!({"code": "worker_lost", "message": "workers died under it"});
    assert_eq!(
        (&video["error"], &video["completed_at"]),
        (&error, &Value::Null)
    );
}

#[tokio::test]
async fn ids_that_name_no_job_are_not_found() {
    let server = Server::new();
    let unused = format!("video_{}", "0".repeat(32));
    for id in [
        unused.as_str(),
        "video_1",
        "..%2f..%2fetc%2fpasswd",
        "%ff",
        "x",
    ] {
        for path in [
            format!("/v1/videos/{id}"),
            format!("/v1/videos/{id}/content"),
        ] {
            let error = server.get(&path).await.error(404, "video_not_found");
            assert_eq!(error["param"], "video_id", "{path}");
        }
        server
            .delete(&format!("/v1/videos/{id}"))
            .await
            .error(404, "video_not_found");
    }
}

#[tokio::test]
async fn a_list_goes_on_where_the_page_before_ended() {
    let server = Server::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(server.job().await.to_string());
    }
    ids.reverse();
    let first = server.get("/v1/videos?limit=2").await.json();
    assert_eq!(
        (&first["object"], &first["has_more"]),
        (&json!("list"), &json!(true))
    );
    assert_eq!(
        (&first["first_id"], &first["last_id"]),
        (&json!(ids[0]), &json!(ids[1]))
    );
    let next = format!("/v1/videos?limit=10&after={}", ids[1]);
    let second = server.get(&next).await.json();
    let listed = second["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|video| &video["id"]);
    assert!(listed.eq(ids[2..].iter()));
    assert_eq!(second["has_more"], false);
    let oldest = server.get("/v1/videos?order=asc&limit=1").await.json();
    assert_eq!(oldest["data"][0]["id"], json!(ids[4]));
}

#[tokio::test]
async fn an_empty_list_has_neither_first_nor_last() {
    let list = Server::new().get("/v1/videos").await.json();
    let expected =
        json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false});
    assert_eq!(list, expected);
}

#[tokio::test]
async fn wrong_queries_are_named() {
    let server = Server::new();
    for (query, param) in [
        ("limit=0", "limit"),
        ("limit=1000", "limit"),
        ("limit=1&limit=2", "limit"),
        ("order=up", "order"),
        ("after=video_1", "after"),
        ("afer=video_1", "afer"),
    ] {
        let answer = server.get(&format!("/v1/videos?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json()["error"]["param"], param, "{query}");
    }
}

#[tokio::test]
async fn deleting_a_finished_job_leaves_nothing_of_it() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.complete(id, b"video").await;
    let deleted = server.delete(&format!("/v1/videos/{id}")).await.json();
    assert_eq!(
        deleted,
        json!({"id": id.to_string(), "deleted": true, "object": "video.deleted"})
    );
    server
        .get(&format!("/v1/videos/{id}"))
        .await
        .error(404, "video_not_found");
    assert!(server.pool.store.open_video(id).unwrap().is_none());
    assert!(server.pool.cancelled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn deleting_a_running_job_cancels_it_first() {
    let server = Server::new();
    let id = server.job().await;
    let answer = server.delete(&format!("/v1/videos/{id}")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(*server.pool.cancelled.lock().unwrap(), [id]);
    server
        .get(&format!("/v1/videos/{id}"))
        .await
        .error(404, "video_not_found");
}

#[tokio::test]
async fn a_job_that_does_not_stop_in_time_is_not_called_deleted() {
    let server = Server::new();
    let id = server.job().await;
    *server.pool.cancel_error.lock().unwrap() = Some(CancelError::StillStopping);
    let answer = server.delete(&format!("/v1/videos/{id}")).await;
    answer.error(409, "still_stopping");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(server.get(&format!("/v1/videos/{id}")).await.status, 200);
}

#[tokio::test]
async fn a_job_that_ends_while_it_is_being_cancelled_is_deleted_all_the_same() {
    let server = Server::new();
    let id = server.job().await;
    *server.pool.cancel_error.lock().unwrap() = Some(CancelError::NotRunning);
    assert_eq!(server.delete(&format!("/v1/videos/{id}")).await.status, 200);
}

#[tokio::test]
async fn a_job_is_cancelled_while_it_waits_and_while_it_runs() {
    let server = Server::new();
    let (waiting, running) = (server.job().await, server.job().await);
    let begun = progress(JobStatus::InProgress, 3);
    server.pool.change(running, begun);
    for id in [waiting, running] {
        let path = format!("/v1/videos/{id}/cancel");
        let answer = server.post_to(&path, None).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let video = answer.json();
        assert_eq!(
            (&video["status"], &video["status_detail"]),
            (&json!("failed"), &json!("cancelled"))
        );
        assert_eq!(video["error"]["code"], "cancelled");
        assert!(!answer.headers.contains_key("openai-poll-after-ms"));
        // Whoever cancels twice gets the same answer, and nobody is asked again.
        let again = server.post_to(&path, None).await;
        assert_eq!((again.status, again.json()), (answer.status, video));
    }
    assert_eq!(*server.pool.cancelled.lock().unwrap(), [waiting, running]);
}

#[tokio::test]
async fn a_job_that_is_over_cannot_be_cancelled() {
    let server = Server::new();
    let (completed, failed, expired) = (server.job().await, server.job().await, server.job().await);
    server.pool.complete(completed, b"video").await;
    server.pool.fail(failed).await;
    server.pool.complete(expired, b"video").await;
    server.pool.expire(expired).await;
    for id in [completed, failed, expired] {
        let path = format!("/v1/videos/{id}/cancel");
        server.post_to(&path, None).await.error(409, "not_running");
    }
    assert!(server.pool.cancelled.lock().unwrap().is_empty());
    for id in ["video_1".to_owned(), format!("video_{}", "0".repeat(32))] {
        let path = format!("/v1/videos/{id}/cancel");
        server
            .post_to(&path, None)
            .await
            .error(404, "video_not_found");
    }
}

#[tokio::test]
async fn a_cancellation_that_does_not_come_through_says_so() {
    let server = Server::new();
    let id = server.job().await;
    let path = format!("/v1/videos/{id}/cancel");
    for (error, status, code, retry_after) in [
        (CancelError::StillStopping, 409, "still_stopping", Some("1")),
        (CancelError::Overloaded, 503, "overloaded", Some("1")),
        // It ended between the two looks, and not by a cancellation.
        (CancelError::NotRunning, 409, "not_running", None),
    ] {
        *server.pool.cancel_error.lock().unwrap() = Some(error);
        let answer = server.post_to(&path, None).await;
        answer.error(status, code);
        let header = answer.headers.get("retry-after");
        let header = header.map(|value| value.to_str().unwrap());
        assert_eq!(header, retry_after, "{code}");
    }
}

#[tokio::test]
async fn a_deletion_that_does_not_come_through_says_so_and_leaks_no_path() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.complete(id, b"video").await;
    let path = format!("/v1/videos/{id}");
    for (error, status, code) in [
        (DeleteError::Running, 409, "still_stopping"),
        (DeleteError::Overloaded, 503, "overloaded"),
        (DeleteError::Unknown, 404, "video_not_found"),
        (
            DeleteError::Storage("/srv/reel: read-only".into()),
            500,
            "internal_error",
        ),
    ] {
        *server.pool.delete_error.lock().unwrap() = Some(error);
        let error = server.delete(&path).await.error(status, code);
        assert!(!error.to_string().contains("/srv"), "{error}");
    }
    assert_eq!(server.get(&path).await.status, 200);
}

#[tokio::test]
async fn a_job_shows_when_it_will_be_done_once_jobs_like_it_were_measured() {
    let server = Server::new();
    let id = server.job().await;
    let path = format!("/v1/videos/{id}");
    assert!(server.get(&path).await.json()["eta"].is_null());
    let job = server.pool.submissions.lock().unwrap()[0].job.clone();
    let took = Durations {
        text_ms: 500,
        denoise_ms: 20_000,
        decode_ms: 1_000,
        encode_ms: 500,
        ..Durations::default()
    };
    server.estimates.completed(&job, took, None);
    // Two before it of 22 s each, half of the one that runs, and itself.
    let answer = server.get(&path).await;
    assert_eq!(answer.json()["eta"], json!({"p50": 77.0, "p90": 154.0}));
    assert_eq!(answer.header("openai-poll-after-ms"), "5000");
    for (step, p50, poll) in [(10, 12.0, "1200"), (20, 2.0, "200")] {
        server
            .pool
            .change(id, progress(JobStatus::InProgress, step));
        let answer = server.get(&path).await;
        assert_eq!(answer.json()["eta"]["p50"], p50);
        assert_eq!(answer.header("openai-poll-after-ms"), poll);
    }
    let list = server.get("/v1/videos").await.json();
    assert_eq!(list["data"][0]["eta"]["p50"], 2.0);
    server.pool.complete(id, b"video").await;
    assert!(server.get(&path).await.json()["eta"].is_null());
}

#[tokio::test]
async fn a_completed_job_shows_where_its_time_went_and_on_which_device() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.complete(id, b"video").await;
    let video = server.get(&format!("/v1/videos/{id}")).await.json();
    assert_eq!(
        (&video["device"], &video["timings"]["denoise"]),
        (&json!("cpu:0"), &json!(1.5))
    );
    assert_eq!(video["sequence"], 1_000);
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_the_servers_fault() {
    let server = Server::new();
    let path = server.directory.path().join("journal.sqlite");
    std::fs::remove_file(path).unwrap();
    for path in [
        "/v1/videos".to_owned(),
        format!("/v1/videos/video_{}", "0".repeat(32)),
    ] {
        let error = server.get(&path).await.error(500, "internal_error");
        assert_eq!(error["message"], "the journal cannot be read");
    }
}
