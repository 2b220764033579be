//! The whole pool with real processes, a real journal and real videos; only the engine is scripted.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "the helpers of tests are tests"
)]

mod harness;

use harness::{LONG_STEPS, Pool, SHAPES, alive, marks};
use reel_domain::{FailureCode, JobStatus, Mode, Origin, Priority, Rejection, Shape, Steps};
use reel_pool::{CancelError, DeleteError, Submission};
use reel_scheduler::{Batching, Config};
use std::time::Duration;
#[tokio::test]
async fn a_job_becomes_a_published_video() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let id = pool.submit(0, "anything").await;
    let record = pool.end(id).await;
    assert_eq!((record.status, record.attempts), (JobStatus::Completed, 1));
    let video = std::fs::read(pool.store.video_path(id)).unwrap();
    assert_eq!(record.video.unwrap().bytes, video.len() as u64);
    assert_eq!(&video[4..8], b"ftyp");
    pool.shut_down().await;
}

#[tokio::test]
async fn a_video_that_its_worker_made_whole_is_published_as_it_is() {
    let small = include_bytes!("../src/small.mp4");
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start_with(dir.path(), Config::default(), "videos").await;
    let id = pool.submit(0, "anything").await;
    let record = pool.end(id).await;
    assert_eq!((record.status, record.attempts), (JobStatus::Completed, 1));
    assert_eq!(std::fs::read(pool.store.video_path(id)).unwrap(), small);
    let id = pool.submit(0, "mp4:1048576").await;
    assert_eq!(pool.end(id).await.video.unwrap().bytes, 1 << 20);
    pool.shut_down().await;
}

#[tokio::test]
async fn an_extension_fails_without_its_frames_and_its_worker_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start_with(dir.path(), Config::default(), "videos").await;
    let first = pool.submit(0, "anything").await;
    pool.end(first).await;
    let pids = pool.pids();
    let mut job = pool.job(0, "anything");
    job.origin = Some(Origin::Extension {
        of: first,
        frames: 5,
    });
    let id = pool.submit_job(job).await;
    let record = pool.end(id).await;
    assert_eq!(record.status, JobStatus::Failed);
    let message = record.failure.unwrap().message;
    assert!(message.contains("frames were needed"), "{message}");
    assert_eq!(pool.pids(), pids);
    pool.shut_down().await;
}

#[tokio::test]
async fn given_frames_travel_to_the_worker() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let mut job = pool.job(0, "anything");
    (job.mode, job.conditioning_frames) = (Mode::I2v, 1);
    let (id, shape): (_, Shape) = (job.id, job.bundle.shape);
    let given = vec![200; usize::try_from(shape.frame_bytes()).unwrap()];
    pool.handle
        .submit(Submission::new(job, given))
        .await
        .unwrap();
    assert_eq!(pool.end(id).await.status, JobStatus::Completed);
    pool.shut_down().await;
}

#[tokio::test]
async fn a_killed_worker_comes_back_and_its_job_completes_in_a_second_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let id = pool.submit(0, "slow").await;
    pool.until(id, |progress| progress.step >= 2).await;
    let victim = pool.handle.state().devices[0]
        .slots
        .iter()
        .find(|slot| slot.jobs == [id])
        .unwrap()
        .pid
        .unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(victim).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let record = pool.end(id).await;
    assert_eq!((record.status, record.attempts), (JobStatus::Completed, 2));
    assert!((pool.counter("reel_pool_worker_failure_total", "crash") - 1.0).abs() < f64::EPSILON);
    pool.shut_down().await;
}

#[tokio::test]
async fn a_request_that_kills_its_workers_is_not_tried_a_third_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let id = pool.submit(0, "crash").await;
    let record = pool.end(id).await;
    assert_eq!((record.status, record.attempts), (JobStatus::Failed, 2));
    assert_eq!(record.failure.unwrap().code, FailureCode::Quarantined);
    let job = pool.job(0, "crash");
    let given = Vec::new();
    let again = pool.handle.submit(Submission::new(job, given)).await;
    assert!(
        matches!(again, Err(Rejection::Quarantined { .. })),
        "{again:?}"
    );
    let next = pool.submit(1, "anything").await;
    assert_eq!(pool.end(next).await.status, JobStatus::Completed);
    pool.shut_down().await;
}

#[tokio::test]
async fn a_worker_that_hangs_is_killed_by_the_watchdog() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        progress_deadline: Duration::from_millis(300),
        ..Config::default()
    };
    let mut pool = Pool::start_with(dir.path(), config, "good").await;
    let id = pool.submit(0, "hang").await;
    let record = pool.end(id).await;
    assert_eq!(record.failure.unwrap().code, FailureCode::Quarantined);
    pool.until_counted("reel_pool_worker_failure_total", "hang", 2.0)
        .await;
    pool.shut_down().await;
}

#[tokio::test]
async fn lies_and_garbage_end_the_worker_not_the_pool() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    for prompt in ["babble", "hello"] {
        let id = pool.submit(0, prompt).await;
        assert_eq!(
            pool.end(id).await.failure.unwrap().code,
            FailureCode::Quarantined,
            "{prompt}"
        );
    }
    // A fault is counted when its worker is gone.
    pool.until_counted("reel_pool_worker_failure_total", "desync", 4.0)
        .await;
    let next = pool.submit(1, "anything").await;
    assert_eq!(pool.end(next).await.status, JobStatus::Completed);
    pool.shut_down().await;
}

#[tokio::test]
async fn a_soft_failure_leaves_the_worker_alive() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    pool.until_both_slots_are_hot().await;
    let before = pool.pids();
    let id = pool.submit(0, "fail").await;
    let record = pool.end(id).await;
    assert_eq!(record.failure.unwrap().code, FailureCode::GenerationFailed);
    assert_eq!(pool.pids(), before);
    pool.shut_down().await;
}

#[tokio::test]
async fn a_cold_shape_takes_the_place_of_the_one_used_longest_ago() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    // A worker that becomes ready counts as used: with both ready, only the job decides.
    pool.until_both_slots_are_hot().await;
    let warm = pool.submit(0, "anything").await;
    pool.end(warm).await;
    let cold = pool.submit(2, "anything").await;
    assert_eq!(pool.end(cold).await.status, JobStatus::Completed);
    pool.until_state(|state| {
        let states: Vec<_> = state
            .bundles
            .iter()
            .map(|bundle| bundle.state.as_str())
            .collect();
        states == ["hot", "cold", "hot"]
    })
    .await;
    assert!((pool.counter("reel_pool_eviction_total", SHAPES[1]) - 1.0).abs() < f64::EPSILON);
    pool.shut_down().await;
}

#[tokio::test]
async fn cancel_is_answered_when_the_device_is_free_and_delete_forgets() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let running = pool.submit(0, "slow").await;
    let waiting = pool.submit(0, "slow").await;
    pool.until(running, |progress| progress.step >= 1).await;
    assert_eq!(pool.handle.delete(running).await, Err(DeleteError::Running));
    pool.handle.cancel(waiting).await.unwrap();
    pool.handle.cancel(running).await.unwrap();
    assert!(
        pool.handle.state().devices[0]
            .slots
            .iter()
            .all(|slot| slot.jobs.is_empty())
    );
    assert_eq!(
        pool.reader.get(running).unwrap().unwrap().status,
        JobStatus::Cancelled
    );
    assert_eq!(
        pool.handle.cancel(running).await,
        Err(CancelError::NotRunning)
    );
    pool.handle.delete(running).await.unwrap();
    assert!(pool.reader.get(running).unwrap().is_none());
    assert_eq!(pool.handle.delete(running).await, Err(DeleteError::Unknown));
    pool.shut_down().await;
}

#[tokio::test]
async fn bundles_whose_workers_never_start_fail_their_jobs_by_name() {
    for id in ["broken", "liar"] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            backoff_min: Duration::from_millis(1),
            ..Config::default()
        };
        let mut pool = Pool::start_with(dir.path(), config, id).await;
        let job = pool.job(0, "anything");
        let name = job.id;
        match pool.handle.submit(Submission::new(job, Vec::new())).await {
            Ok(()) => {
                let failure = pool.end(name).await.failure.unwrap();
                assert_eq!(failure.code, FailureCode::ShapeUnavailable, "{id}");
            }
            // The workers that fill empty slots have failed often enough already.
            Err(rejection) => assert!(matches!(rejection, Rejection::BundleResting(_)), "{id}"),
        }
        pool.shut_down().await;
    }
}

#[tokio::test]
async fn draining_finishes_what_runs_and_the_next_start_does_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let one_at_a_time = Config {
        batch_max: 1,
        ..Config::default()
    };
    let mut pool = Pool::start_with(dir.path(), one_at_a_time, "good").await;
    let running = pool.submit(0, "slow").await;
    let waiting = pool.submit(0, "anything").await;
    pool.until(running, |progress| progress.step >= 1).await;
    let pids = pool.pids();
    let reader = pool.reader.clone();
    pool.shut_down().await;
    assert_eq!(
        reader.get(running).unwrap().unwrap().status,
        JobStatus::Completed
    );
    assert_eq!(
        reader.get(waiting).unwrap().unwrap().status,
        JobStatus::Queued
    );
    assert!(pids.into_iter().all(|pid| !alive(pid)));

    let pool = Pool::start(dir.path()).await;
    assert_eq!(pool.end(waiting).await.status, JobStatus::Completed);
    pool.shut_down().await;
}

#[tokio::test]
async fn a_second_request_to_end_hurries_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let id = pool.submit(0, "hang").await;
    pool.until(id, |progress| progress.status == JobStatus::InProgress)
        .await;
    let reader = pool.reader.clone();
    pool.control.shut_down().await;
    pool.shut_down().await;
    assert_eq!(reader.unfinished().unwrap().len(), 1);
}

#[tokio::test]
async fn a_queue_that_is_full_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        queue_jobs_max: 1,
        ..Config::default()
    };
    let mut pool = Pool::start_with(dir.path(), config, "good").await;
    let id = pool.submit(0, "slow").await;
    let job = pool.job(0, "anything");
    let refused = pool.handle.submit(Submission::new(job, Vec::new())).await;
    assert!(matches!(
        refused,
        Err(Rejection::QueueFull { limit: 1, .. })
    ));
    pool.end(id).await;
    pool.shut_down().await;
}

#[tokio::test]
async fn a_repeated_finish_leaves_the_published_video_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let first = pool.submit(0, "anything").await;
    pool.end(first).await;
    // The worker says once more that the first job is finished, with frames.
    let second = pool.submit(0, &format!("finish-again:{first}")).await;
    pool.end(second).await;
    let third = pool.submit(0, "anything").await;
    pool.end(third).await;
    assert!(pool.store.video_path(first).exists());
    assert!(pool.counter_of("reel_pool_stale_event_total") >= 1.0);
    pool.shut_down().await;
}

#[tokio::test]
async fn no_encoder_outlives_the_attempt_that_it_was_started_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let marker = marks(dir.path()).join("crashed");
    // At step 9 of 10 the encoder waits already.
    let id = pool
        .submit(0, &format!("crash@9 once:{}", marker.display()))
        .await;
    assert_eq!(pool.end(id).await.attempts, 2);
    let staging = dir.path().join("artifacts/.staging");
    assert_eq!(
        std::fs::read_dir(staging).unwrap().count(),
        0,
        "no half-written video is left"
    );
    pool.shut_down().await;
}

#[tokio::test]
async fn a_job_of_one_step_and_one_of_many_end_alike() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    for steps in [1, 2, 200] {
        let mut job = pool.job(0, "anything");
        job.sampling.steps = Steps::new(steps).unwrap();
        let id = job.id;
        pool.handle
            .submit(Submission::new(job, Vec::new()))
            .await
            .unwrap();
        assert_eq!(
            pool.end(id).await.status,
            JobStatus::Completed,
            "{steps} steps"
        );
    }
    pool.shut_down().await;
}

#[tokio::test]
async fn a_worker_that_never_stops_talking_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        cancel_deadline: Duration::from_millis(300),
        ..Config::default()
    };
    let mut pool = Pool::start_with(dir.path(), config, "good").await;
    let flood = pool.submit(0, "flood").await;
    pool.until(flood, |progress| progress.status == JobStatus::InProgress)
        .await;
    let other = pool.submit(1, "anything").await;
    assert_eq!(pool.end(other).await.status, JobStatus::Completed);
    // It does not listen either: the deadline of the cancellation ends it.
    pool.handle.cancel(flood).await.unwrap();
    pool.shut_down().await;
}

/// One worker for each shape, which carries so many attempts at once.
fn carrying(batch_max: u32) -> Config {
    Config {
        batching: Batching::Fixed,
        batch_max,
        ..Config::default()
    }
}

#[tokio::test]
async fn batch_work_waits_at_a_step_for_realtime_work_and_then_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start_with(dir.path(), carrying(1), "good").await;
    pool.until_both_slots_are_hot().await;
    let mut slow = pool.job(0, "slow");
    slow.sharing.priority = Priority::Batch;
    slow.sampling.steps = Steps::new(LONG_STEPS).unwrap();
    let mut urgent = pool.job(0, "anything");
    urgent.sharing.priority = Priority::Realtime;
    let (slow_id, urgent_id) = (slow.id, urgent.id);
    for job in [slow, urgent] {
        let given = Vec::new();
        pool.handle
            .submit(Submission::new(job, given))
            .await
            .unwrap();
        pool.until(slow_id, |progress| progress.step >= 2).await;
    }
    let urgent = pool.end(urgent_id).await;
    let slow = pool.end(slow_id).await;
    assert_eq!(
        (urgent.status, slow.status),
        (JobStatus::Completed, JobStatus::Completed)
    );
    assert!(urgent.finished_at_ms < slow.finished_at_ms);
    assert_eq!(slow.attempts, 1, "nothing was begun anew");
    assert!((pool.counter_of("reel_pool_pause_total") - 1.0).abs() < f64::EPSILON);
    pool.shut_down().await;
}

#[tokio::test]
async fn jobs_that_wait_for_an_engine_without_joins_begin_together_and_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start_with(dir.path(), carrying(3), "formed").await;
    pool.until_both_slots_are_hot().await;
    let first = pool.submit_long(0).await;
    pool.until(first, |progress| progress.status == JobStatus::InProgress)
        .await;
    let mut members = Vec::new();
    for prompt in ["one", "fail", "three"] {
        members.push(pool.submit(0, prompt).await);
    }
    let mut ends = Vec::new();
    for id in members {
        let record = pool.end(id).await;
        ends.push((record.status, record.attempts));
    }
    assert_eq!(
        ends,
        [
            (JobStatus::Completed, 1),
            (JobStatus::Failed, 2),
            (JobStatus::Completed, 1)
        ],
        "who fails in a batch is tried once more alone"
    );
    assert!((pool.counter_of("reel_pool_merge_total") - 2.0).abs() < f64::EPSILON);
    pool.shut_down().await;
}

#[tokio::test]
async fn a_job_that_waits_too_long_fails_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start_with(dir.path(), carrying(1), "good").await;
    pool.until_both_slots_are_hot().await;
    let first = pool.submit_long(0).await;
    let mut hurried = pool.job(0, "anything");
    hurried.sharing.begin_by_ms = Some(1);
    let id = hurried.id;
    let given = Vec::new();
    let job = hurried;
    pool.handle
        .submit(Submission::new(job, given))
        .await
        .unwrap();
    let record = pool.end(id).await;
    assert_eq!(record.failure.unwrap().code, FailureCode::DeadlineExceeded);
    assert_eq!(pool.end(first).await.status, JobStatus::Completed);
    pool.shut_down().await;
}

#[tokio::test]
async fn what_was_learned_of_bundles_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let id = pool.submit(0, "anything").await;
    pool.end(id).await;
    pool.shut_down().await;
    let text = std::fs::read_to_string(dir.path().join("profiles.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let profile = &file["bundles"]["good"];
    for measured in ["spawn_us", "private_bytes"] {
        assert!(
            profile[measured].as_u64().unwrap() > 0,
            "{measured}: {text}"
        );
    }
}
