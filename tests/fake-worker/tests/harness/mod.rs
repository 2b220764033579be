//! A pool with real processes, a real journal and real videos; only the engine is scripted.
#![allow(dead_code, reason = "each test program uses a part of it")]

use reel_artifacts::Store;
use reel_domain::{BundleKey, Fps, Guidance, Job, JobId, Mode, Prompt, Sampling, Seed, Steps};
use reel_journal::{JobRecord, Journal, Reader};
use reel_media::Ffmpeg;
use reel_pool::{BundleState, PoolHandle, PoolState, Submission};
use reel_process::orphans::marker_prefix;
use reel_process::{Cgroups, Share, Spawner};
use reel_scheduler::Config;
use reel_supervisor::{
    BakedBundle, BundleNews, Device, DeviceMemory, DriverMemory, Parts, Supervisor,
    SupervisorHandle, Tuning, WorkerProgram,
};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Steps of a slow job of two seconds.
pub(crate) const LONG_STEPS: u32 = 100;
/// Memory that a worker may take.
const WORKER_BYTES_MAX: u64 = 256 << 20;
pub(crate) const SHAPES: [&str; 3] = ["32x16@5f", "16x32@5f", "16x16@9f"];

/// Where workers note what they have done once.
pub(crate) fn marks(dir: &Path) -> PathBuf {
    dir.join("marks")
}

pub(crate) struct Pool {
    pub(crate) handle: PoolHandle,
    pub(crate) control: SupervisorHandle,
    pub(crate) reader: Reader,
    pub(crate) store: Store,
    pub(crate) registry: prometheus::Registry,
    pub(crate) running: tokio::task::JoinHandle<()>,
    pub(crate) next: u64,
}

pub(crate) fn key(index: usize) -> BundleKey {
    BundleKey {
        model: "fake".parse().unwrap(),
        shape: SHAPES[index].parse().unwrap(),
    }
}

impl Pool {
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, Config::default(), "good").await
    }

    pub(crate) async fn start_with(dir: &Path, config: Config, bundle_id: &str) -> Self {
        Self::start_on(dir, config, bundle_id, Arc::new(DriverMemory)).await
    }

    pub(crate) async fn start_on(
        dir: &Path,
        config: Config,
        bundle_id: &str,
        device_memory: Arc<dyn DeviceMemory>,
    ) -> Self {
        Self::build(dir, config, bundle_id, device_memory, |_| {}).await
    }

    pub(crate) async fn tuned(dir: &Path, config: Config, tune: impl FnOnce(&mut Tuning)) -> Self {
        Self::build(dir, config, "good", Arc::new(DriverMemory), tune).await
    }

    async fn build(
        dir: &Path,
        config: Config,
        bundle_id: &str,
        device_memory: Arc<dyn DeviceMemory>,
        tune: impl FnOnce(&mut Tuning),
    ) -> Self {
        let mut tuning = Tuning {
            drain_grace: Duration::from_secs(10),
            share: Share {
                memory_bytes: Some(WORKER_BYTES_MAX),
                ..Share::default()
            },
            ..Tuning::in_data_dir(dir)
        };
        tune(&mut tuning);
        let bundles = SHAPES.map(|shape| dir.join(shape).join(bundle_id));
        for directory in bundles.iter().chain([&marks(dir)]) {
            std::fs::create_dir_all(directory).unwrap();
        }
        let store = Store::open(dir).unwrap();
        let (journal, reader) = Journal::open(&dir.join("journal.sqlite")).unwrap();
        let cgroups = Cgroups::find().ok();
        if let Some(cgroups) = &cgroups {
            cgroups.sweep(&marker_prefix(dir).unwrap());
        }
        let registry = prometheus::Registry::new();
        let parts = Parts {
            config,
            devices: vec![Device::cpu(0, 0)],
            slots_per_device: 2,
            menu: (0..SHAPES.len()).map(key).collect(),
            worker: WorkerProgram {
                marker_prefix: marker_prefix(dir).unwrap(),
                sandboxed: true,
                writable: [marks(dir)].into_iter().chain(bundles.clone()).collect(),
                ..WorkerProgram::new(
                    env!("CARGO_BIN_EXE_fake-worker").into(),
                    dir.into(),
                    NonZeroUsize::MIN,
                )
            },
            scratch_dir: dir.join("scratch"),
            tuning,
            journal,
            reader: reader.clone(),
            store: store.clone(),
            ffmpeg: Ffmpeg::locate(None).unwrap(),
            spawner: Spawner::start(cgroups).unwrap(),
            registry: registry.clone(),
            profiles: dir.join("profiles.json"),
            device_memory,
            record: None,
            owed: Arc::default(),
        };
        let (mut supervisor, handle, control) = Supervisor::new(parts).unwrap();
        supervisor.restore(reader.unfinished().unwrap(), Instant::now());
        let next = u64::try_from(
            reader
                .list(None, None, 100, reel_journal::Order::Descending)
                .unwrap()
                .records
                .len(),
        );
        let running = tokio::spawn(supervisor.run());
        let pool = Self {
            handle,
            control,
            reader,
            store,
            registry,
            running,
            next: next.unwrap(),
        };
        for (index, shape) in SHAPES.iter().enumerate() {
            let baked = BakedBundle {
                id: bundle_id.into(),
                dir: dir.join(shape).join(bundle_id),
                modes: vec![Mode::T2v, Mode::I2v, Mode::Extend],
                extend_frames: Some(1),
                weights_bytes: 0,
            };
            pool.control
                .bundle(key(index), BundleNews::Baked(baked))
                .await;
        }
        pool
    }

    pub(crate) fn job(&mut self, shape: usize, prompt: &str) -> Job {
        self.next += 1;
        Job {
            id: JobId::from_bytes(u128::from(self.next).to_be_bytes()),
            bundle: key(shape),
            mode: Mode::T2v,
            conditioning_frames: 0,
            sampling: Sampling {
                prompt: Prompt::new(prompt.into()).unwrap(),
                negative_prompt: Prompt::optional(String::new()).unwrap(),
                seed: Seed::new(7).unwrap(),
                steps: Steps::new(10).unwrap(),
                guidance: Guidance::new(1.0).unwrap(),
                fps: Fps::new(8).unwrap(),
            },
            sharing: reel_domain::Sharing::default(),
            origin: None,
            callback: None,
            trace: None,
            created_at_ms: 1,
        }
    }

    /// A job that still runs when others have been submitted and stored, on a busy machine too.
    pub(crate) async fn submit_long(&mut self, shape: usize) -> JobId {
        let mut job = self.job(shape, "slow");
        job.sampling.steps = Steps::new(LONG_STEPS).unwrap();
        self.submit_job(job).await
    }

    pub(crate) async fn submit(&mut self, shape: usize, prompt: &str) -> JobId {
        let job = self.job(shape, prompt);
        self.submit_job(job).await
    }

    pub(crate) async fn submit_job(&mut self, job: Job) -> JobId {
        let id = job.id;
        self.handle
            .submit(Submission {
                job,
                idempotency: None,
                given: Vec::new(),
            })
            .await
            .unwrap();
        id
    }

    /// Waits until a job's progress satisfies a condition, or the job is terminal.
    pub(crate) async fn until(&self, id: JobId, wanted: impl Fn(&reel_pool::JobProgress) -> bool) {
        let Some((_, mut watch)) = self.handle.board().watch(id) else {
            return;
        };
        tokio::time::timeout(PATIENCE, watch.wait_for(|progress| wanted(progress)))
            .await
            .expect("in time")
            .ok();
    }

    pub(crate) async fn end(&self, id: JobId) -> JobRecord {
        self.until(id, |progress| progress.status.is_terminal())
            .await;
        self.reader.get(id).unwrap().unwrap()
    }

    pub(crate) async fn until_state(&self, wanted: impl Fn(&PoolState) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&self.handle.state()) {
            assert!(
                Instant::now() < deadline,
                "in time: {:?}",
                self.handle.state()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn until_both_slots_are_hot(&self) {
        let is_hot = |bundle: &&reel_pool::ModelState| bundle.state == BundleState::Hot;
        self.until_state(|state| state.bundles.iter().filter(is_hot).count() == 2)
            .await;
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        let state = self.handle.state();
        state
            .devices
            .iter()
            .flat_map(|device| &device.slots)
            .filter_map(|slot| slot.pid)
            .collect()
    }

    pub(crate) fn counter(&self, family: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|candidate| candidate.name() == family)
            .unwrap();
        let has_label = |metric: &&prometheus::proto::Metric| {
            metric.get_label().iter().any(|pair| pair.value() == label)
        };
        family
            .get_metric()
            .iter()
            .filter(has_label)
            .map(|metric| metric.get_counter().get_value())
            .sum()
    }

    /// The family has a metric with this value of some label, counted or not.
    pub(crate) fn has_label(&self, family: &str, label: &str) -> bool {
        let families = self.registry.gather();
        let metrics = families
            .iter()
            .filter(|candidate| candidate.name() == family)
            .flat_map(prometheus::proto::MetricFamily::get_metric);
        metrics
            .flat_map(prometheus::proto::Metric::get_label)
            .any(|pair| pair.value() == label)
    }

    pub(crate) async fn until_counted(&self, family: &str, label: &str, least: f64) {
        let deadline = Instant::now() + PATIENCE;
        while self.counter(family, label) < least {
            assert!(Instant::now() < deadline, "in time: {family} {label}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn counter_of(&self, family: &str) -> f64 {
        sum(&self.registry, family)
    }

    pub(crate) async fn shut_down(self) {
        self.control.shut_down().await;
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .expect("in time")
            .unwrap();
    }
}

/// All counters of a family together.
pub(crate) fn sum(registry: &prometheus::Registry, family: &str) -> f64 {
    let families = registry.gather();
    let family = families
        .iter()
        .find(|candidate| candidate.name() == family)
        .unwrap();
    let counters = family.get_metric().iter();
    counters
        .map(|metric| metric.get_counter().get_value())
        .sum()
}

pub(crate) fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
