//! A whole pool in this process: supervisor, journal, encoder, and one native worker.

use crate::Setting;
use reel_artifacts::Store;
use reel_domain::{
    BundleKey, Fps, Guidance, Job, JobId, JobStatus, Mode, Prompt, Sampling, Seed, Steps,
};
use reel_journal::Journal;
use reel_media::Ffmpeg;
use reel_pool::{JobProgress, PoolHandle, Submission};
use reel_process::Spawner;
use reel_scheduler::Config;
use reel_supervisor::{
    BakedBundle, BundleNews, DriverMemory, Parts, Supervisor, SupervisorHandle, Tuning,
    WorkerProgram,
};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// It runs until [`end`](Self::end).
pub(crate) struct Running {
    pub(crate) key: BundleKey,
    pub(crate) pool: PoolHandle,
    store: Store,
    control: SupervisorHandle,
    ended: JoinHandle<()>,
    _dir: TempDir,
}

impl Running {
    /// Starts it with the first bundle, and waits until that is hot.
    pub(crate) async fn start(setting: &Setting, config: Config) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (journal, reader) = Journal::open(&dir.path().join("journal.sqlite"))?;
        let bundle = &setting.bundles[0];
        let key = BundleKey {
            model: setting.model.menu.name.clone(),
            shape: bundle.manifest.shape,
        };
        let store = Store::open(dir.path())?;
        let parts = Parts {
            config,
            devices: vec![setting.device.clone()],
            slots_per_device: 1,
            menu: vec![key.clone()],
            worker: WorkerProgram::new(
                setting.worker.clone(),
                setting.cache.root().into(),
                setting.threads,
            ),
            scratch_dir: dir.path().join("scratch"),
            tuning: Tuning::in_data_dir(dir.path()),
            journal,
            reader,
            store: store.clone(),
            ffmpeg: Ffmpeg::locate(None)?,
            spawner: Spawner::start(None)?,
            registry: prometheus::Registry::new(),
            profiles: dir.path().join("profiles.json"),
            device_memory: Arc::new(DriverMemory),
            record: None,
            owed: Arc::default(),
        };
        let (supervisor, pool, control) = Supervisor::new(parts)?;
        let ended = tokio::spawn(supervisor.run());
        let baked = BakedBundle {
            id: bundle.id.clone(),
            dir: bundle.dir.clone(),
            modes: bundle.manifest.modes.clone(),
            extend_frames: None,
            weights_bytes: bundle.manifest.weights_bytes(),
        };
        control.bundle(key.clone(), BundleNews::Baked(baked)).await;
        while !pool.state().is_ready() {
            tokio::task::yield_now().await;
        }
        Ok(Self {
            key,
            pool,
            store,
            control,
            ended,
            _dir: dir,
        })
    }

    pub(crate) async fn submit(&self, job: Job) -> anyhow::Result<()> {
        Ok(self.pool.submit(Submission::new(job, Vec::new())).await?)
    }

    pub(crate) async fn until_step(&self, id: JobId, step: u32) -> anyhow::Result<()> {
        self.until(id, |progress| progress.step >= step).await?;
        Ok(())
    }

    pub(crate) async fn completed(&self, id: JobId) -> anyhow::Result<()> {
        let status = self
            .until(id, |progress| progress.status.is_terminal())
            .await?;
        anyhow::ensure!(
            status.is_none_or(|status| status == JobStatus::Completed),
            "the job ended as {status:?}"
        );
        Ok(())
    }

    /// `None`: the job has ended already.
    async fn until(
        &self,
        id: JobId,
        wanted: impl Fn(&JobProgress) -> bool,
    ) -> anyhow::Result<Option<JobStatus>> {
        let Some((_, mut watch)) = self.pool.board().watch(id) else {
            return Ok(None);
        };
        let progress = watch
            .wait_for(|progress| wanted(progress) || progress.status.is_terminal())
            .await?;
        Ok(Some(progress.status))
    }

    /// The published file.
    pub(crate) fn video(&self, id: JobId) -> anyhow::Result<Vec<u8>> {
        Ok(std::fs::read(self.store.video_path(id))?)
    }

    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.control.shut_down().await;
        Ok(self.ended.await?)
    }
}

/// The model's defaults, with a number for identity and seed.
pub(crate) fn job(setting: &Setting, key: &BundleKey, number: usize) -> anyhow::Result<Job> {
    let defaults = &setting.model.menu.defaults;
    Ok(Job {
        id: id(number),
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
        origin: None,
        callback: None,
        trace: None,
        created_at_ms: 0,
    })
}

pub(crate) fn id(number: usize) -> JobId {
    JobId::from_bytes((number as u128).to_be_bytes())
}
