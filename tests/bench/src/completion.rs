//! The whole pool in this process: from a video's last denoising step to `completed`.

use crate::Setting;
use crate::table::Table;
use reel_artifacts::Store;
use reel_domain::{
    BundleKey, Fps, Guidance, Job, JobId, JobStatus, Mode, Prompt, Sampling, Seed, Steps,
};
use reel_journal::Journal;
use reel_media::Ffmpeg;
use reel_pool::{PoolHandle, Submission};
use reel_process::Spawner;
use reel_scheduler::Config;
use reel_supervisor::{BakedBundle, BundleNews, Parts, Supervisor, WorkerProgram};
use std::time::{Duration, Instant};

/// The bar of the brief, for 64x64@17f.
const COMPLETED_BAR_MS: f64 = 150.0;

/// Generates videos one after the other and times the tail of each: decode, encode, publish, journal.
pub(crate) async fn last_step_to_completed(
    setting: &Setting,
    table: &mut Table,
) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (journal, _reader) = Journal::open(&dir.path().join("journal.sqlite"))?;
    let bundle = &setting.bundles[0];
    let key = BundleKey {
        model: setting.model.menu.name.clone(),
        shape: bundle.manifest.shape,
    };
    let parts = Parts {
        config: Config::default(),
        devices: vec![setting.device.clone()],
        slots_per_device: 1,
        menu: vec![key.clone()],
        worker: WorkerProgram {
            path: setting.worker.clone(),
            cache_dir: setting.cache.root().into(),
            threads: setting.threads,
        },
        scratch_dir: dir.path().join("scratch"),
        drain_grace: Duration::from_secs(10),
        journal,
        store: Store::open(dir.path())?,
        ffmpeg: Ffmpeg::locate(None)?,
        spawner: Spawner::start()?,
        registry: prometheus::Registry::new(),
        profiles: dir.path().join("profiles.json"),
        record: None,
    };
    let (supervisor, pool, control) = Supervisor::new(parts)?;
    let running = tokio::spawn(supervisor.run());
    let baked = BakedBundle {
        id: bundle.id.clone(),
        dir: bundle.dir.clone(),
        modes: bundle.manifest.modes.clone(),
        weights_bytes: bundle.manifest.weights_bytes(),
    };
    control.bundle(key.clone(), BundleNews::Baked(baked)).await;
    while !pool.state().is_ready() {
        tokio::task::yield_now().await;
    }
    let mut samples = Vec::new();
    for number in 0..=setting.runs {
        let tail = one(&pool, job(setting, &key, number)?).await?;
        if number > 0 {
            samples.push(tail.as_secs_f64() * 1e3);
        }
    }
    table.add(
        &format!("last step to completed, {}", key.shape),
        "ms",
        samples,
        Some(COMPLETED_BAR_MS),
    );
    control.shut_down().await;
    running.await?;
    Ok(())
}

async fn one(pool: &PoolHandle, job: Job) -> anyhow::Result<Duration> {
    let (id, steps) = (job.id, job.sampling.steps.value());
    pool.submit(Submission {
        job,
        given: Vec::new(),
    })
    .await?;
    let mut watch = pool
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

fn job(setting: &Setting, key: &BundleKey, number: usize) -> anyhow::Result<Job> {
    let defaults = &setting.model.menu.defaults;
    let mut id = [0; 16];
    id[8..].copy_from_slice(&(number as u64).to_be_bytes());
    Ok(Job {
        id: JobId::from_bytes(id),
        bundle: key.clone(),
        mode: Mode::T2v,
        conditioning_frames: 0,
        sampling: Sampling {
            prompt: Prompt::new("a red circle moving right on a black background".into())?,
            negative_prompt: Prompt::optional(String::new())?,
            seed: Seed::new(number as u64)?,
            steps: Steps::new(defaults.num_inference_steps)?,
            guidance: Guidance::new(defaults.guidance_scale)?,
            fps: Fps::new(defaults.fps)?,
        },
        sharing: reel_domain::Sharing::default(),
        created_at_ms: 0,
    })
}
