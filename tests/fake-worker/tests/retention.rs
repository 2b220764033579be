//! Videos that have had their time, and disks that are full.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "the helpers of tests are tests"
)]

mod harness;

use harness::{PATIENCE, Pool};
use reel_domain::{JobId, JobStatus, Rejection};
use reel_pool::Submission;
use reel_scheduler::Config;
use reel_supervisor::Retention;
use std::path::Path;
use std::time::{Duration, Instant};

async fn keeping(dir: &Path, retention: Retention) -> Pool {
    Pool::tuned(dir, Config::default(), |tuning| {
        tuning.retention = retention;
    })
    .await
}

/// No watermark of this machine's disk counts.
fn roomy() -> Retention {
    Retention {
        soft_free_bytes: 0,
        hard_free_bytes: 0,
        ..Retention::default()
    }
}

async fn until_status(pool: &Pool, id: JobId, wanted: Option<JobStatus>) {
    let deadline = Instant::now() + PATIENCE;
    while pool.reader.get(id).unwrap().map(|record| record.status) != wanted {
        assert!(Instant::now() < deadline, "in time: {wanted:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_video_is_removed_when_its_time_is_up_and_its_row_later() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention {
        video_ttl: Some(Duration::from_millis(300)),
        record_ttl: Some(Duration::from_millis(1_500)),
        ..roomy()
    };
    let mut pool = keeping(dir.path(), retention).await;
    let id = pool.submit(0, "anything").await;
    let record = pool.end(id).await;
    assert_eq!(
        record.expires_at_ms,
        record.finished_at_ms.map(|at| at + 300)
    );
    assert!(pool.store.video_path(id).exists());
    until_status(&pool, id, Some(JobStatus::Expired)).await;
    until_status(&pool, id, None).await;
    assert!(!pool.store.video_path(id).exists());
    pool.shut_down().await;
}

#[tokio::test]
async fn when_space_is_short_videos_go_early() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention {
        soft_free_bytes: u64::MAX,
        kept_at_least: Duration::ZERO,
        ..roomy()
    };
    let mut pool = keeping(dir.path(), retention).await;
    let id = pool.submit(0, "anything").await;
    pool.until(id, |progress| progress.status.is_terminal())
        .await;
    until_status(&pool, id, Some(JobStatus::Expired)).await;
    pool.shut_down().await;
}

#[tokio::test]
async fn a_full_disk_takes_no_job_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention {
        hard_free_bytes: u64::MAX,
        ..roomy()
    };
    let mut pool = keeping(dir.path(), retention).await;
    let job = pool.job(0, "anything");
    let given = Vec::new();
    let refused = pool.handle.submit(Submission::new(job, given)).await;
    assert_eq!(refused, Err(Rejection::StorageFull));
    pool.shut_down().await;
}
