//! The whole pool in this process: from a video's last denoising step to `completed`.

use crate::Setting;
use crate::pool::{Running, job};
use crate::table::Table;
use reel_domain::{Job, JobStatus};
use reel_pool::{PoolHandle, Submission};
use reel_scheduler::Config;
use std::time::{Duration, Instant};

/// Bar for 64x64@17f.
const COMPLETED_BAR_MS: f64 = 150.0;

/// Generates videos one after the other and times the tail of each: decode, encode, publish, journal.
pub(crate) async fn last_step_to_completed(
    setting: &Setting,
    table: &mut Table,
) -> anyhow::Result<()> {
    let running = Running::start(setting, Config::default()).await?;
    let mut samples = Vec::new();
    for number in 0..=setting.runs {
        let tail = one(&running.pool, job(setting, &running.key, number)?).await?;
        if number > 0 {
            samples.push(tail.as_secs_f64() * 1e3);
        }
    }
    table.add(
        &format!("last step to completed, {}", running.key.shape),
        "ms",
        samples,
        Some(COMPLETED_BAR_MS),
    );
    running.end().await
}

async fn one(pool: &PoolHandle, job: Job) -> anyhow::Result<Duration> {
    let (id, steps) = (job.id, job.sampling.steps.value());
    pool.submit(Submission::new(job, Vec::new())).await?;
    let (_, mut watch) = pool
        .board()
        .watch(id)
        .ok_or_else(|| anyhow::anyhow!("the job has ended already"))?;
    watch.wait_for(|progress| progress.step == steps).await?;
    let last_step = Instant::now();
    let end = watch
        .wait_for(|progress| progress.status.is_terminal())
        .await?;
    anyhow::ensure!(
        end.status == JobStatus::Completed,
        "the job ended as {}",
        end.status
    );
    Ok(last_step.elapsed())
}
