//! The loop: carry out what was decided, wait for one event, decide again.
//!
//! Events of workers outrank requests of clients. Nothing here waits for anything else than the next event:
//! spawning, reading, encoding and storing run beside the loop and come back as events.

use crate::batches::Batches;
use crate::checkpoints::Checkpoints;
use crate::devices::Device;
use crate::effects::{SpaceSeen, now_ms};
use crate::encode::Prepared;
use crate::event::{BundleNews, EVENTS_MAX, Event};
use crate::incidents::Incidents;
use crate::jobs::Jobs;
use crate::memory::DeviceMemory;
use crate::metrics::{Metrics, MetricsError};
use crate::profiles::Profiles;
use crate::retention::{Keeper, Retention};
use crate::work::work;
use crate::workers::{Output, Workers};
use prometheus::Registry;
use reel_artifacts::Store;
use reel_domain::{AttemptId, BundleKey, Idempotency, JobId};
use reel_journal::{Ending, JobRecord, Journal, Reader, VideoMeta};
use reel_media::Ffmpeg;
use reel_pool::handle::POOL_REQUESTS_MAX;
use reel_pool::{Estimates, JobBoard, PoolHandle, PoolRequest, PoolState};
use reel_process::{Share, Spawner};
use reel_recording::{Header, Recorder};
use reel_scheduler::{Command, Config, DeviceSpec, Input, Scheduler};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// Every so many events a waiting request goes first, however many events of workers wait.
const REQUEST_TURN: u32 = 64;
/// Events that are taken before the picture of the pool is published again, if so many wait.
const UNPUBLISHED_MAX: u32 = 32;
/// Changes of one run are counted with so many bits, and runs above them.
const NUMBERS_OF_A_RUN_BITS: u32 = 32;

/// What the supervisor needs of the world.
#[derive(Debug)]
pub struct Parts {
    /// The bounds of the scheduler.
    pub config: Config,
    /// The devices, in the order of their [ids](reel_domain::DeviceId).
    pub devices: Vec<Device>,
    /// Workers on each device, if its memory allows so many.
    pub slots_per_device: u32,
    /// Every bundle that the deployment serves, in the menu's order.
    pub menu: Vec<BundleKey>,
    /// The worker program.
    pub worker: WorkerProgram,
    /// Where workers get their temporary directories.
    pub scratch_dir: PathBuf,
    /// The durable jobs.
    pub journal: Journal,
    /// The durable jobs, to be read.
    pub reader: Reader,
    /// The videos.
    pub store: Store,
    /// What an operator may change while the supervisor runs; the bounds of the scheduler are in `config`.
    pub tuning: Tuning,
    /// The encoder.
    pub ffmpeg: Ffmpeg,
    /// The parent of every worker.
    pub spawner: Spawner,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Where what is learned of bundles is kept.
    pub profiles: PathBuf,
    /// Who says whether a device has its memory back.
    pub device_memory: Arc<dyn DeviceMemory>,
    /// Where to record what happens, and how many bytes at most.
    pub record: Option<(PathBuf, u64)>,
    /// Told when a client is owed a word about the end of its job.
    pub owed: Arc<Notify>,
}

/// What an operator may change while the supervisor runs.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// How long running jobs may go on after the first request to end.
    pub drain_grace: Duration,
    /// How long videos and records are kept.
    pub retention: Retention,
    /// Where deaths of workers are written down.
    pub incidents: Incidents,
    /// What each new worker gets of the machine.
    pub share: Share,
}

impl Tuning {
    /// The defaults, for a data directory.
    #[must_use]
    pub fn in_data_dir(data_dir: &Path) -> Self {
        Self {
            drain_grace: Duration::from_secs(30),
            retention: Retention::default(),
            incidents: Incidents::in_data_dir(data_dir),
            share: Share::default(),
        }
    }
}

/// The worker program and what it needs to find.
#[derive(Debug, Clone)]
pub struct WorkerProgram {
    /// The executable.
    pub path: PathBuf,
    /// The cache with weights and bundles.
    pub cache_dir: PathBuf,
    /// Threads that each worker computes with.
    pub threads: NonZeroUsize,
    /// What markers of this data directory's workers begin with.
    pub marker_prefix: String,
    /// Each worker on the CPU keeps to processors of its own.
    pub pinned: bool,
    /// Workers write to their own directories only, and reach no network.
    pub sandboxed: bool,
    /// Directories that all of them may write to, beside their own.
    pub writable: Vec<PathBuf>,
}

impl WorkerProgram {
    /// With no limits beyond its user's, and no sandbox.
    #[must_use]
    pub fn new(path: PathBuf, cache_dir: PathBuf, threads: NonZeroUsize) -> Self {
        Self {
            path,
            cache_dir,
            threads,
            marker_prefix: String::new(),
            pinned: false,
            sandboxed: false,
            writable: Vec::new(),
        }
    }
}

/// The way to a running supervisor, for whoever bakes and whoever ends the process.
#[derive(Debug, Clone)]
pub struct SupervisorHandle {
    events: mpsc::Sender<Event>,
}

impl SupervisorHandle {
    /// A bundle of the menu changed.
    pub async fn bundle(&self, key: BundleKey, news: BundleNews) {
        // The loop is gone only when the process ends; then nobody needs the news.
        let _ = self.events.send(Event::Bundle(key, news)).await;
    }

    /// As [`bundle`](Self::bundle), from a thread outside the runtime.
    pub fn blocking_bundle(&self, key: BundleKey, news: BundleNews) {
        let _ = self.events.blocking_send(Event::Bundle(key, news));
    }

    /// Changes the bounds of a running supervisor.
    pub async fn tune(&self, config: Config, tuning: Tuning) {
        let _ = self
            .events
            .send(Event::Tune(Box::new((config, tuning))))
            .await;
    }

    /// Whether the loop goes round: it answers as soon as it comes to this.
    pub async fn is_alive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::AreYouThere(answer)).await.is_ok() && answered.await.is_ok()
    }

    /// Ends the supervisor: the first time after what runs, then at once.
    pub async fn shut_down(&self) {
        let _ = self.events.send(Event::Shutdown).await;
    }
}

/// The loop's state.
#[derive(Debug)]
pub struct Supervisor {
    pub(crate) scheduler: Scheduler,
    /// What was decided and is still to be done.
    decided: VecDeque<Command>,
    recorder: Option<Recorder>,
    pub(crate) jobs: Jobs,
    pub(crate) workers: Workers,
    /// The given frames of jobs that the scheduler has not accepted yet, and the keys of their requests.
    pub(crate) submitted: BTreeMap<JobId, (Vec<u8>, Option<Idempotency>)>,
    /// What is learned of how long jobs take.
    pub(crate) estimates: Arc<Estimates>,
    /// What attempts have made and is not published yet.
    pub(crate) outputs: BTreeMap<AttemptId, Output>,
    /// Encoders that were started ahead of their frames; `None`: on the way.
    pub(crate) prepared: BTreeMap<AttemptId, Option<Prepared>>,
    /// Attempts that their workers have not heard of yet.
    pub(crate) batches: Batches,
    /// Published videos whose rows are not terminal yet.
    pub(crate) published: BTreeMap<JobId, VideoMeta>,
    /// How jobs ended whose rows are on their way to say so, with the attempt.
    pub(crate) endings: BTreeMap<JobId, (u32, Ending)>,
    /// Where attempts stand.
    pub(crate) checkpoints: Checkpoints,
    pub(crate) device_memory: Arc<dyn DeviceMemory>,
    pub(crate) slots_per_device: u32,
    pub(crate) bundles: BTreeMap<BundleKey, BundleNews>,
    pub(crate) profiles: Profiles,
    pub(crate) menu: Vec<BundleKey>,
    pub(crate) devices: Vec<Device>,
    pub(crate) worker: WorkerProgram,
    pub(crate) scratch_dir: PathBuf,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    pub(crate) tuning: Tuning,
    retention: watch::Sender<Retention>,
    keeper: Option<Keeper>,
    /// Tells the keeper that space was taken, or is short.
    pub(crate) space: Arc<Notify>,
    /// Told when a client is owed a word about the end of its job.
    pub(crate) owed: Arc<Notify>,
    pub(crate) space_seen: SpaceSeen,
    pub(crate) ffmpeg: Ffmpeg,
    pub(crate) spawner: Spawner,
    pub(crate) metrics: Metrics,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) state: watch::Sender<Arc<PoolState>>,
    pub(crate) queue_moved: bool,
    /// Rows on their way to a terminal status.
    pub(crate) ending: usize,
    pub(crate) halt_at: Option<Instant>,
    inbox: mpsc::Receiver<Event>,
    requests: mpsc::Receiver<PoolRequest>,
    turns: u32,
    /// Events since the last picture.
    unpublished: u32,
}

impl Supervisor {
    /// A supervisor that has not begun, and the two ways to it.
    ///
    /// # Errors
    /// When a metric is registered twice.
    pub fn new(parts: Parts) -> Result<(Self, PoolHandle, SupervisorHandle), MetricsError> {
        let shapes: Vec<_> = parts.menu.iter().map(|key| key.shape).collect();
        let metrics = Metrics::register(&parts.registry, &shapes)?;
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let (requester, requests) = mpsc::channel(POOL_REQUESTS_MAX);
        let (state, watched) = watch::channel(Arc::new(PoolState::default()));
        // Numbers of one run follow all those of the runs before.
        let before = parts.journal.start() << NUMBERS_OF_A_RUN_BITS;
        let board = Arc::new(JobBoard::new(before));
        let estimates = Arc::new(Estimates::new(parts.devices.len()));
        let specs: Vec<_> = parts
            .devices
            .iter()
            .map(|device| DeviceSpec {
                slots: parts.slots_per_device,
                memory_bytes: device.memory_bytes,
                // On a CPU they are mapped; on a GPU each worker has a copy.
                shares_weights: device.is_cpu(),
            })
            .collect();
        let header = Header {
            config: parts.config.clone(),
            devices: specs.clone(),
            menu: parts.menu.clone(),
            started_at_ms: now_ms(),
        };
        let recorder = parts
            .record
            .and_then(|(path, bytes_max)| record(&path, &header, bytes_max));
        let space = Arc::new(Notify::new());
        let kept = (parts.journal.clone(), parts.reader, parts.store.clone());
        let (retention, bounds) = watch::channel(parts.tuning.retention.clone());
        let keeper = Keeper::new(bounds, kept, Arc::clone(&space));
        let mut supervisor = Self {
            keeper: Some(keeper),
            space,
            owed: parts.owed,
            space_seen: SpaceSeen::default(),
            tuning: parts.tuning,
            retention,
            decided: VecDeque::new(),
            recorder,
            scheduler: Scheduler::new(parts.config, &specs, parts.menu.clone()),
            jobs: Jobs::new(Arc::clone(&board), before),
            estimates: Arc::clone(&estimates),
            workers: Workers::default(),
            submitted: BTreeMap::new(),
            outputs: BTreeMap::new(),
            prepared: BTreeMap::new(),
            batches: Batches::default(),
            published: BTreeMap::new(),
            endings: BTreeMap::new(),
            checkpoints: Checkpoints::default(),
            device_memory: parts.device_memory,
            slots_per_device: parts.slots_per_device,
            turns: 0,
            unpublished: 0,
            bundles: BTreeMap::new(),
            profiles: Profiles::load(parts.profiles),
            menu: parts.menu,
            devices: parts.devices,
            worker: parts.worker,
            scratch_dir: parts.scratch_dir,
            journal: parts.journal,
            store: parts.store,
            ffmpeg: parts.ffmpeg,
            spawner: parts.spawner,
            metrics,
            events: events.clone(),
            state,
            queue_moved: false,
            ending: 0,
            halt_at: None,
            inbox,
            requests,
        };
        // Probes that come before the loop begins see the menu, not an empty pool.
        supervisor.publish(Instant::now());
        Ok((
            supervisor,
            PoolHandle::new(requester, watched, board, estimates),
            SupervisorHandle { events },
        ))
    }

    /// Takes back the jobs that an earlier run left unfinished, oldest first.
    pub fn restore(&mut self, unfinished: Vec<JobRecord>, now: Instant) {
        for JobRecord { job, attempts, .. } in unfinished {
            self.jobs.insert(job.clone(), None, now);
            self.jobs
                .change(job.id, |progress| progress.attempt = attempts);
            let mut work = work(&job, now_ms());
            if attempts > 0 {
                // It has begun once.
                work.begin_within = None;
            }
            self.decide(Input::Restore { work, attempts }, now);
        }
        self.queue_moved = true;
    }

    /// Runs until it was asked to end and everything has.
    pub async fn run(mut self) {
        let strays = tokio::spawn(self.spawner.clone().reap_strays());
        let keeper = self.keeper.take().map(|keeper| tokio::spawn(keeper.run()));
        loop {
            let now = Instant::now();
            while let Some(command) = self.decided.pop_front() {
                self.perform(command, now);
            }
            // The picture is for people and probes: what waits already goes first.
            self.unpublished += 1;
            if self.unpublished >= UNPUBLISHED_MAX || self.inbox.is_empty() {
                self.unpublished = 0;
                self.publish(now);
            }
            if self.is_over() {
                break;
            }
            let event = self.next_event().await;
            self.apply(event, Instant::now());
        }
        let spawner = self.spawner.clone();
        let _ = tokio::task::spawn_blocking(move || spawner.end_strays()).await;
        for task in keeper.into_iter().chain([strays]) {
            task.abort();
        }
        self.learn_all();
        self.profiles.save()();
        self.journal.close();
        if let Some(recorder) = self.recorder.take()
            && let Err(error) = recorder.close()
        {
            tracing::warn!(%error, "the end of the recording could not be written");
        }
    }

    /// New bounds hold from now on.
    pub(crate) fn tune(&mut self, config: Config, tuning: Tuning, now: Instant) {
        self.retention.send_replace(tuning.retention.clone());
        self.space.notify_one();
        // Files stay where they are, whatever the new configuration says of paths.
        let directory = std::mem::take(&mut self.tuning.incidents.directory);
        self.tuning = tuning;
        self.tuning.incidents.directory = directory;
        self.decide(Input::Configure(Box::new(config)), now);
    }

    /// The one door to the scheduler.
    pub(crate) fn decide(&mut self, input: Input, now: Instant) {
        if let Some(recorder) = &mut self.recorder {
            recorder.input(&input, now);
        }
        self.scheduler.handle(input, now);
        while let Some(command) = self.scheduler.poll_command() {
            if let Some(recorder) = &mut self.recorder {
                recorder.decision(&command);
            }
            self.decided.push_back(command);
        }
        if let Some(why) = self.recorder.as_mut().and_then(Recorder::take_end) {
            tracing::warn!(why, "nothing more is recorded");
        }
    }

    async fn next_event(&mut self) -> Event {
        let deadline = [self.scheduler.poll_timeout(), self.halt_at]
            .into_iter()
            .flatten()
            .min();
        // A worker that never stops talking must not hold up deadlines, nor clients for ever.
        if deadline.is_some_and(|at| at <= Instant::now()) {
            return Event::Timeout;
        }
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(REQUEST_TURN)
            && let Ok(request) = self.requests.try_recv()
        {
            return Event::Request(request);
        }
        tokio::select! {
            biased;
            Some(event) = self.inbox.recv() => event,
            Some(request) = self.requests.recv() => Event::Request(request),
            () = sleep_until(deadline) => Event::Timeout,
        }
    }

    /// Every process is gone, every video is published, every row is written.
    fn is_over(&self) -> bool {
        self.scheduler.is_drained() && self.workers.awaited() == 0 && self.ending == 0
    }
}

/// A recording is for later study: without one the pool serves just as well.
fn record(path: &Path, header: &Header, bytes_max: u64) -> Option<Recorder> {
    match Recorder::create(path, header, Instant::now(), bytes_max) {
        Ok(recorder) => Some(recorder),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "nothing is recorded");
            None
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
