//! What the pool tells of its jobs, and what operators tell the pool.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "the helpers of tests are tests"
)]

mod harness;

use harness::{LONG_STEPS, PATIENCE, Pool};
use reel_domain::{
    DeviceId, Durations, FailureCode, Job, JobId, JobStatus, Mode, Origin, Rejection, Shape, Steps,
};
use reel_pool::{PoolOrder, Submission};
use std::process::Command;
use std::time::{Duration, Instant};

fn whole_ms(durations: &Durations) -> u64 {
    let Durations {
        queue_ms,
        spawn_ms,
        text_ms,
        denoise_ms,
        decode_ms,
        encode_ms,
    } = *durations;
    queue_ms + spawn_ms + text_ms + denoise_ms + decode_ms + encode_ms
}

#[tokio::test]
async fn a_job_tells_where_its_time_went_and_on_which_device() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    for _ in 0..2 {
        let begin = Instant::now();
        let id = pool.submit(0, "slow").await;
        pool.until(id, |progress| progress.step > 0).await;
        let (_, begun) = pool.handle.board().get(id).unwrap();
        assert_eq!(begun.device.as_deref(), Some("cpu:0"));
        let record = pool.end(id).await;
        let took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap();
        assert_eq!(record.status, JobStatus::Completed);
        assert_eq!(record.device.as_deref(), Some("cpu:0"));
        let durations = record.durations;
        // Each is cut to whole milliseconds: together they are never more than the time that there was.
        assert!(
            whole_ms(&durations) <= took_ms,
            "{durations:?} of {took_ms}"
        );
        // Ten steps of twenty milliseconds each, and a program that had to run.
        assert!(durations.denoise_ms >= 200, "{durations:?}");
        assert!(durations.encode_ms > 0, "{durations:?}");
        assert!(
            whole_ms(&durations) * 2 > took_ms,
            "{durations:?} of {took_ms}"
        );
    }
    pool.shut_down().await;
}

#[tokio::test]
async fn a_job_that_waits_for_another_tells_that_it_waited() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    pool.until_both_slots_are_hot().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        // One that joined another would not have waited.
        let mut job = pool.job(2, "slow");
        job.sharing.alone = true;
        ids.push(pool.submit_job(job).await);
    }
    let last = ids[3];
    let record = pool.end(last).await;
    assert_eq!(record.status, JobStatus::Completed);
    assert!(
        record.durations.queue_ms + record.durations.spawn_ms > 0,
        "{:?}",
        record.durations
    );
    pool.shut_down().await;
}

#[tokio::test]
async fn numbers_of_changes_grow_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let done = pool.submit(0, "anything").await;
    let done = pool.end(done).await;
    let id = pool.submit_long(0).await;
    pool.until(id, |progress| progress.step >= 2).await;
    let (_, before) = pool.handle.board().get(id).unwrap();
    let newest = *pool.handle.board().newest().borrow();
    // Twice is at once: the job goes on at the next start.
    pool.control.shut_down().await;
    pool.shut_down().await;
    let pool = Pool::start(dir.path()).await;
    let (_, after) = pool.handle.board().get(id).expect("it goes on");
    assert!(after.sequence > before.sequence.max(done.sequence));
    assert!(*pool.handle.board().newest().borrow() > newest);
    assert!(pool.handle.board().changes_after(newest, 1).is_err());
    let record = pool.end(id).await;
    assert_eq!(record.status, JobStatus::Completed);
    assert!(record.sequence > after.sequence);
    pool.shut_down().await;
}

#[tokio::test]
async fn every_change_of_a_job_has_a_higher_number_and_its_end_the_highest() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let after = *pool.handle.board().newest().borrow();
    let id = pool.submit(0, "anything").await;
    let record = pool.end(id).await;
    let changes = pool.handle.board().changes_after(after, 1_000).unwrap();
    let own: Vec<_> = changes
        .iter()
        .filter(|change| change.job.id == id)
        .collect();
    let sequences: Vec<u64> = own.iter().map(|change| change.progress.sequence).collect();
    assert!(
        sequences.is_sorted_by(|before, after| before < after),
        "{sequences:?}"
    );
    assert_eq!(sequences.last(), Some(&record.sequence));
    let statuses: Vec<JobStatus> = own.iter().map(|change| change.progress.status).collect();
    assert_eq!(statuses.first(), Some(&JobStatus::Queued));
    assert_eq!(statuses.last(), Some(&JobStatus::Completed));
    pool.shut_down().await;
}

#[tokio::test]
async fn estimates_are_made_and_checked_once_there_is_something_to_go_by() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let first = pool.submit(0, "slow").await;
    pool.end(first).await;
    assert!(pool.counter_of("reel_eta_total") < 0.5, "nothing to go by");
    for _ in 0..3 {
        let id = pool.submit(0, "slow").await;
        let (job, progress) = pool.handle.board().get(id).unwrap();
        let estimate = pool.handle.estimates().estimate(&job, &progress, true);
        let estimate = estimate.expect("one like it was measured");
        assert!(estimate.p50_ms > 0 && estimate.p50_ms <= estimate.p90_ms);
        assert_eq!(pool.end(id).await.status, JobStatus::Completed);
    }
    let (made, held) = (
        pool.counter_of("reel_eta_total"),
        pool.counter_of("reel_eta_p90_held_total"),
    );
    assert!((made - 3.0).abs() < f64::EPSILON, "{made}");
    assert!(held <= made);
    pool.shut_down().await;
}

/// A job that goes on with the video of another.
fn extension(pool: &mut Pool, of: &Job) -> Job {
    let mut job = pool.job(0, "slow");
    (job.mode, job.conditioning_frames) = (Mode::Extend, 1);
    job.origin = Some(Origin::Extension {
        of: of.id,
        frames: of.video_frames(),
    });
    job
}

fn given(job: &Job) -> Vec<u8> {
    let shape: Shape = job.bundle.shape;
    vec![200; usize::try_from(shape.frame_bytes()).unwrap()]
}

async fn submit(pool: &Pool, job: &Job) -> Result<(), Rejection> {
    let submission = Submission::new(job.clone(), given(job));
    pool.handle.submit(submission).await
}

/// Frames of a published video, each decoded.
fn frames(pool: &Pool, id: JobId) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0"])
        .args(["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"])
        .arg(pool.store.video_path(id))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn an_extension_is_its_source_and_what_is_new_though_the_source_is_deleted_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let source = pool.submit(0, "anything").await;
    let source = pool.end(source).await;
    assert_eq!(frames(&pool, source.job.id), "5");
    let job = extension(&mut pool, &source.job);
    submit(&pool, &job).await.unwrap();
    pool.handle.delete(source.job.id).await.unwrap();
    let record = pool.end(job.id).await;
    assert_eq!(record.status, JobStatus::Completed, "{:?}", record.failure);
    // Five, and five less the one that it goes on from.
    assert_eq!(
        (frames(&pool, job.id).as_str(), job.video_frames()),
        ("9", 9)
    );
    let next = extension(&mut pool, &record.job);
    submit(&pool, &next).await.unwrap();
    assert_eq!(pool.end(next.id).await.status, JobStatus::Completed);
    assert_eq!(frames(&pool, next.id), "13");
    // What they went on with is not kept beside them.
    let inputs = std::fs::read_dir(dir.path().join("inputs")).unwrap();
    let left = inputs.filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|extension| extension == "mp4")
    });
    assert_eq!(left.count(), 0);
    pool.shut_down().await;
}

#[tokio::test]
async fn an_extension_of_what_is_gone_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let source = pool.submit(0, "anything").await;
    let source = pool.end(source).await;
    pool.handle.delete(source.job.id).await.unwrap();
    let job = extension(&mut pool, &source.job);
    let refused = submit(&pool, &job).await;
    let id = source.job.id;
    assert_eq!(refused, Err(Rejection::SourceGone { id }));
    assert!(pool.reader.get(job.id).unwrap().is_none());
    assert!(pool.handle.board().get(job.id).is_none());
    assert!(pool.store.given(job.id).is_err());
    pool.shut_down().await;
}

async fn order(pool: &Pool, order: PoolOrder) {
    assert!(pool.handle.order(order).await);
}

#[tokio::test]
async fn a_device_that_is_cordoned_gets_no_work_until_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    pool.until_both_slots_are_hot().await;
    order(&pool, PoolOrder::Cordon(DeviceId(0))).await;
    pool.until_state(|state| state.devices[0].trust == "cordoned")
        .await;
    let id = pool.submit(0, "anything").await;
    pool.until_state(|state| state.queued == 1).await;
    order(&pool, PoolOrder::Cordon(DeviceId(7))).await;
    assert_eq!(pool.handle.state().running, 0);
    let (_, progress) = pool.handle.board().get(id).unwrap();
    assert_eq!((progress.status, progress.attempt), (JobStatus::Queued, 0));
    order(&pool, PoolOrder::Uncordon(DeviceId(0))).await;
    assert_eq!(pool.end(id).await.status, JobStatus::Completed);
    assert_eq!(pool.handle.state().devices[0].trust, "good");
    pool.shut_down().await;
}

#[tokio::test]
async fn a_worker_is_replaced_after_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    pool.until_both_slots_are_hot().await;
    let id = pool.submit(0, "slow").await;
    pool.until(id, |progress| progress.step >= 1).await;
    let state = pool.handle.state();
    let slots = &state.devices[0].slots;
    let slot = slots.iter().find(|slot| slot.jobs == [id]).unwrap();
    let (name, pid) = (slot.id, slot.pid.unwrap());
    order(&pool, PoolOrder::Replace(name)).await;
    let record = pool.end(id).await;
    assert_eq!((record.status, record.attempts), (JobStatus::Completed, 1));
    pool.until_state(|state| {
        let mut slots = state.devices[0].slots.iter();
        let slot = slots.find(|slot| slot.id == name).unwrap();
        slot.pid.is_some_and(|now| now != pid) && slot.state == "idle"
    })
    .await;
    pool.shut_down().await;
}

#[tokio::test]
async fn all_workers_are_replaced_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    pool.until_both_slots_are_hot().await;
    let before = pool.pids();
    let id = pool.submit(0, "slow").await;
    order(&pool, PoolOrder::Roll(None)).await;
    assert_eq!(pool.end(id).await.attempts, 1);
    pool.until_state(|state| {
        let slots = state.devices[0].slots.iter();
        let fresh = slots.filter(|slot| {
            let is_fresh = slot.pid.is_some_and(|pid| !before.contains(&pid));
            is_fresh && slot.state == "idle"
        });
        fresh.count() == before.len()
    })
    .await;
    pool.shut_down().await;
}

#[tokio::test]
async fn a_request_that_was_released_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let id = pool.submit(0, "crash").await;
    let failure = pool.end(id).await.failure.unwrap();
    assert_eq!(failure.code, FailureCode::Quarantined);
    let again = pool.job(0, "crash");
    let refused = pool.handle.submit(Submission::new(again, Vec::new())).await;
    let Err(Rejection::Quarantined { case }) = refused else {
        panic!("{refused:?}");
    };
    let number = u64::from_str_radix(case.strip_prefix("case-").unwrap(), 16).unwrap();
    order(&pool, PoolOrder::Release(number)).await;
    let id = pool.submit(0, "crash").await;
    assert!(pool.end(id).await.attempts > 0);
    pool.shut_down().await;
}

#[tokio::test]
async fn an_order_to_drain_that_is_sent_again_hurries_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(dir.path()).await;
    let mut job = pool.job(0, "slow");
    job.sampling.steps = Steps::new(LONG_STEPS / 2).unwrap();
    let id = pool.submit_job(job).await;
    pool.until(id, |progress| progress.step >= 1).await;
    for _ in 0..3 {
        order(&pool, PoolOrder::Drain).await;
    }
    let late = pool.job(0, "anything");
    let refused = pool.handle.submit(Submission::new(late, Vec::new())).await;
    assert_eq!(refused, Err(Rejection::Draining));
    let record = pool.end(id).await;
    assert_eq!((record.status, record.attempts), (JobStatus::Completed, 1));
    tokio::time::timeout(PATIENCE + Duration::from_secs(1), pool.running)
        .await
        .expect("in time")
        .unwrap();
}
