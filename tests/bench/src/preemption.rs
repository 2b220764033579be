//! Realtime work beside batch work on one worker: how soon it begins, and that the batch work does not notice.

use crate::Setting;
use crate::pool::{self, Running};
use crate::table::Table;
use reel_domain::{BundleKey, Job, JobId, Priority, Steps};
use reel_scheduler::Config;
use std::time::{Duration, Instant};

/// Steps of the batch job, so that it runs long enough to be paused.
const BATCH_STEPS: u32 = 60;
/// Its step at which the realtime job is asked for.
const PAUSED_AT: u32 = 10;
/// Both jobs of the batch class have this seed, so that their videos must be the same.
const BATCH_SEED: usize = 7;

/// Times a realtime job from its request to its first step: on an idle worker, and on one that computes a batch job.
/// The batch job is paused for it, and its video must be that of an undisturbed run.
pub(crate) async fn segment_beside_batch_work(
    setting: &Setting,
    table: &mut Table,
) -> anyhow::Result<()> {
    // One attempt at a time: what runs must be paused, nobody can join it.
    let config = Config {
        batch_max: 1,
        ..Config::default()
    };
    let running = Running::start(setting, config).await?;
    let undisturbed = batch_job(setting, &running.key, 1_000)?;
    let id = undisturbed.id;
    running.submit(undisturbed).await?;
    running.completed(id).await?;
    let expected = running.video(id)?;
    let (mut idle, mut beside) = (Vec::new(), Vec::new());
    for number in 0..=setting.runs {
        let first = running
            .first_step(segment(setting, &running.key, number)?)
            .await?;
        let batch = batch_job(setting, &running.key, 2_000 + number)?;
        let id = batch.id;
        running.submit(batch).await?;
        running.until_step(id, PAUSED_AT).await?;
        let second = running
            .first_step(segment(setting, &running.key, 3_000 + number)?)
            .await?;
        running.completed(id).await?;
        anyhow::ensure!(
            running.video(id)? == expected,
            "a paused job made another video"
        );
        if number > 0 {
            idle.push(millis(first));
            beside.push(millis(second));
        }
    }
    table.add(
        "realtime job to its first step, idle worker",
        "ms",
        idle,
        None,
    );
    table.add(
        "realtime job to its first step, batch work paused",
        "ms",
        beside,
        None,
    );
    running.end().await
}

fn batch_job(setting: &Setting, key: &BundleKey, number: usize) -> anyhow::Result<Job> {
    let mut job = pool::job(setting, key, BATCH_SEED)?;
    job.id = pool::id(number);
    job.sampling.steps = Steps::new(BATCH_STEPS)?;
    job.sharing.priority = Priority::Batch;
    Ok(job)
}

fn segment(setting: &Setting, key: &BundleKey, number: usize) -> anyhow::Result<Job> {
    let mut job = pool::job(setting, key, number)?;
    job.sharing.priority = Priority::Realtime;
    Ok(job)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Running {
    /// From the request to the first step; waits for the end too.
    async fn first_step(&self, job: Job) -> anyhow::Result<Duration> {
        let (id, asked): (JobId, _) = (job.id, Instant::now());
        self.submit(job).await?;
        self.until_step(id, 1).await?;
        let took = asked.elapsed();
        self.completed(id).await?;
        Ok(took)
    }
}
