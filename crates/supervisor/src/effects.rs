//! What each command does. Everything returns at once; anything slow comes back as an event.

use crate::batches::{Given, Memory};
use crate::devices::Device;
use crate::driver::Supervisor;
use crate::encode;
use crate::event::{BakedBundle, BundleNews, Event};
use crate::workers::{Asked, Conversation, Process, Wanted, Worker, spoken};
use reel_artifacts::Store;
use reel_domain::{
    AttemptId, Breach, BundleKey, Fault, Job, JobId, JobStatus, Mode, Outcome, Rejection, SlotId,
};
use reel_journal::Ending;
use reel_process::{LaunchSpec, Sandbox, SendError, Share, affinity};
use reel_protocol::{ChannelError, Checkpoint, Item, Pixels, ToWorker};
use reel_scheduler::{Command, JobChange, WorkerEvent, WorkerId};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Variables of the supervisor's own environment that workers get too; everything else is set here or absent.
const ENVIRONMENT_KEPT: [&str; 4] = ["LANG", "LD_LIBRARY_PATH", "RUST_BACKTRACE", "RUST_LOG"];

/// How long a thread of a worker spins before it sleeps, in turns of libgomp's waiting loop (about 10 µs in
/// all). A step is hundreds of parallel regions: sleeping at the end of each costs a wake-up of 50 µs on an
/// idle virtual machine and doubles a step's time; libgomp's own default, milliseconds, takes the processors
/// that other slots compute with (libgomp manual, `GOMP_SPINCOUNT`).
pub const SHORT_SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "1000");

impl Supervisor {
    pub(crate) fn perform(&mut self, command: Command, now: Instant) {
        tracing::trace!(?command, "perform");
        match command {
            Command::Store { id } => self.store_job(id),
            Command::Refuse { id, rejection } => {
                self.submitted.remove(&id);
                self.jobs.refused(id, rejection);
            }
            Command::Spawn {
                slot,
                worker,
                bundle,
            } => self.spawn(slot, worker, bundle, now),
            Command::Generate {
                worker,
                attempt,
                more,
            } => self.generate(worker, attempt, more, now),
            Command::Pause { worker, attempt } => self.pause(worker, attempt, now),
            Command::Resume { worker, attempt } => self.resume(worker, attempt, now),
            Command::Cancel { worker, attempt } => self.cancel_attempt(worker, attempt, now),
            Command::Stop { worker } => self.stop(worker, now),
            Command::Kill { worker, fault } => self.kill(worker, fault),
            Command::Ping { worker } => self.ping(worker, now),
            Command::Abandon { worker } => self.abandon(worker),
            Command::Encode { attempt } => self.encode(attempt, now),
            Command::Discard { attempt } => self.discard(attempt),
            Command::Update { change } => self.update(&change),
            Command::End {
                id,
                attempt,
                outcome,
            } => self.end(id, attempt, outcome),
        }
    }

    /// Makes an accepted job durable.
    fn store_job(&mut self, id: JobId) {
        let given = self.submitted.remove(&id).unwrap_or_default();
        let Some(job) = self.jobs.get(id).map(|live| live.job.clone()) else {
            return;
        };
        let (journal, store, events) = (
            self.journal.clone(),
            self.store.clone(),
            self.events.clone(),
        );
        let hard = self.tuning.retention.hard_free_bytes;
        tokio::task::spawn_blocking(move || match keep_given(&store, id, &given, hard) {
            Ok(()) => journal.insert(&job, move |result| {
                let result =
                    result.map_err(|error| not_stored(id, &error, error.is_out_of_space()));
                let _ = events.blocking_send(Event::Stored(id, result));
            }),
            Err(rejection) => {
                let _ = events.blocking_send(Event::Stored(id, Err(rejection)));
            }
        });
    }

    // --- processes ---

    fn spawn(&mut self, slot: SlotId, id: WorkerId, bundle: BundleKey, now: Instant) {
        let Some(BundleNews::Baked(baked)) = self.bundles.get(&bundle) else {
            // It was withdrawn between the decision and now.
            return self.hear(id, WorkerEvent::SpawnFailed, now);
        };
        let scratch = self
            .scratch_dir
            .join(format!("{}-{id}", std::process::id()));
        let spec = self.launch_spec(slot, id, baked, &scratch);
        let label = format!("{id} slot {slot} {}", bundle.shape);
        self.metrics
            .spawns
            .with_label_values(&[bundle.shape.to_string()])
            .inc();
        tracing::info!(worker = %id, %slot, %bundle, "spawning");
        let worker = Worker {
            slot,
            bundle_id: baked.id.clone(),
            weights_bytes: baked.weights_bytes,
            bundle,
            spawned: now,
            scratch: scratch.clone(),
            process: Process::Spawning {
                wanted: Wanted::Alive,
            },
            conversation: Conversation::default(),
            fault: None,
            lost: Vec::new(),
            abandoned: false,
        };
        self.workers.insert(id, worker);
        let (spawner, events) = (self.spawner.clone(), self.events.clone());
        tokio::spawn(async move {
            make_scratch(&scratch).await;
            let wrap = move |event| Event::Process(id, event);
            let spawned = spawner.spawn(spec, label, events.clone(), wrap).await;
            let _ = events.send(Event::Spawned(id, spawned)).await;
        });
    }

    fn launch_spec(
        &self,
        slot: SlotId,
        id: WorkerId,
        bundle: &BakedBundle,
        scratch: &Path,
    ) -> LaunchSpec {
        let device = &self.devices[slot.device.0 as usize];
        let threads = self.worker.threads.to_string();
        let args = [
            "--bundle".into(),
            bundle.dir.clone().into_os_string(),
            "--cache-dir".into(),
            self.worker.cache_dir.clone().into_os_string(),
            "--device".into(),
            device.engine_name.into(),
            "--threads".into(),
            threads.clone().into(),
        ];
        let mut env = vec![
            ("CUDA_VISIBLE_DEVICES".into(), device.visible.clone()),
            ("OMP_NUM_THREADS".into(), threads.into()),
            (SHORT_SPIN.0.into(), SHORT_SPIN.1.into()),
            ("TMPDIR".into(), scratch.as_os_str().to_owned()),
            ("CUDA_CACHE_PATH".into(), scratch.as_os_str().to_owned()),
        ];
        env.extend(
            ENVIRONMENT_KEPT
                .into_iter()
                .filter_map(|name| Some((name.into(), std::env::var_os(name)?))),
        );
        LaunchSpec {
            program: self.worker.path.clone(),
            args: args.into(),
            env,
            marker: format!("{}{}.{id}", self.worker.marker_prefix, std::process::id()),
            share: self.share(slot),
            sandbox: self.worker.sandboxed.then(|| Sandbox {
                writable: self.writable(device, scratch),
                network: false,
            }),
        }
    }

    /// Where a worker may write. On a GPU libtorch unpacks a package under `/tmp`, wherever `TMPDIR` points
    /// (`AOTIModelPackageLoader` of torch 2.11.0).
    fn writable(&self, device: &Device, scratch: &Path) -> Vec<PathBuf> {
        let mut writable = self.worker.writable.clone();
        writable.push(scratch.to_owned());
        if !device.is_cpu() {
            writable.push("/tmp".into());
        }
        writable
    }

    fn share(&self, slot: SlotId) -> Share {
        let device = &self.devices[slot.device.0 as usize];
        let mut share = self.tuning.share.clone();
        if self.worker.pinned && device.is_cpu() {
            let place =
                slot.device.0 as usize * self.slots_per_device as usize + slot.index as usize;
            share.processors = affinity::processors(place, self.worker.threads);
        }
        share
    }

    fn stop(&mut self, id: WorkerId, now: Instant) {
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        if !self.scheduler.is_draining() {
            self.metrics
                .evictions
                .with_label_values(&[worker.bundle.shape.to_string()])
                .inc();
        }
        match &mut worker.process {
            Process::Spawning { wanted } => *wanted = (*wanted).max_of(Wanted::Stopped),
            Process::Running(process) => {
                if let Err(error) = process.ask_to_exit() {
                    self.unheard(id, &error, now);
                }
            }
        }
    }

    /// Ends a worker by force; for nothing that it did when the server ends.
    fn kill(&mut self, id: WorkerId, fault: Option<Fault>) {
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        if let Some(fault) = fault {
            tracing::warn!(worker = %id, slot = %worker.slot, bundle = %worker.bundle, %fault, "killing");
            worker.blame(fault, "");
            worker.lost = worker.conversation.has_begun();
        }
        match (&mut worker.process, fault) {
            (Process::Spawning { wanted }, _) => *wanted = Wanted::Killed,
            (Process::Running(process), Some(_)) => process.terminate(),
            (Process::Running(process), None) => process.kill(),
        }
        if let Some(fault) = fault {
            let lost = worker.lost.clone();
            self.distrust(&lost, fault);
        }
    }

    /// Sends a message; a worker that does not take it has lost the thread.
    fn tell(&mut self, id: WorkerId, message: &ToWorker, memory: Option<&Memory>, now: Instant) {
        let Some(Worker {
            process: Process::Running(process),
            ..
        }) = self.workers.get(id)
        else {
            return;
        };
        if let Err(error) = process.send(message, memory.map(AsFd::as_fd)) {
            self.unheard(id, &error, now);
        }
    }

    /// A worker did not take a message.
    fn unheard(&mut self, id: WorkerId, error: &SendError, now: Instant) {
        match error {
            // It is gone, which its pidfd says in a moment, or lives on without its channel, which its watcher says.
            SendError::Channel(ChannelError::Closed) => {
                tracing::debug!(worker = %id, %error, "a message came too late");
            }
            _ => self.broken(id, Fault::Desync(Breach::Deaf), &error.to_string(), now),
        }
    }

    fn ping(&mut self, id: WorkerId, now: Instant) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.conversation.pinged();
        }
        self.tell(id, &ToWorker::Ping { nonce: id.0 }, None, now);
    }

    // --- attempts ---

    pub(crate) fn generate(
        &mut self,
        worker: WorkerId,
        attempt: AttemptId,
        more: bool,
        now: Instant,
    ) {
        self.queue_moved = true;
        let Some(frames) = self
            .jobs
            .get(attempt.job)
            .map(|live| live.job.conditioning_frames)
        else {
            return;
        };
        let device = self
            .workers
            .get(worker)
            .map(|worker| worker.slot.device.0 as usize);
        let device = device.and_then(|device| Some(self.devices.get(device)?.name.clone()));
        self.jobs
            .change(attempt.job, |progress| progress.device = device);
        let given = match self.resumable(worker, attempt) {
            Some(checkpoint) => Given::Checkpoint(checkpoint),
            None if frames == 0 => Given::None,
            None => {
                self.read_given(worker, attempt);
                Given::Reading
            }
        };
        self.batches.add(worker, attempt, given, more);
        self.send_batches(now);
    }

    /// Where an earlier attempt of the job stood when its worker died.
    fn resumable(&self, worker: WorkerId, attempt: AttemptId) -> Option<Arc<Checkpoint>> {
        let bundle_id = &self.workers.get(worker)?.bundle_id;
        let (checkpoint, step) = self.checkpoints.latest(attempt.job, bundle_id)?;
        tracing::info!(%worker, %attempt, step, "the attempt goes on where the one before stood");
        self.metrics.resumed.inc();
        Some(checkpoint)
    }

    fn read_given(&self, worker: WorkerId, attempt: AttemptId) {
        let (store, events) = (self.store.clone(), self.events.clone());
        tokio::task::spawn_blocking(move || {
            let frames = store.given(attempt.job).map_err(|error| error.to_string());
            let pixels =
                frames.and_then(|frames| Pixels::new(&frames).map_err(|error| error.to_string()));
            let _ = events.blocking_send(Event::Given(worker, attempt, pixels));
        });
    }

    /// Tells workers of the batches of which nothing is missing.
    pub(crate) fn send_batches(&mut self, now: Instant) {
        while let Some((worker, members)) = self.batches.take_ready() {
            let items = members.into_iter().filter_map(|told| {
                let live = self.jobs.get(told.attempt.job)?;
                Some((item(&live.job), told))
            });
            let items: Vec<_> = items.collect();
            let last = items.len().saturating_sub(1);
            for (place, (item, told)) in items.into_iter().enumerate() {
                let resumes = matches!(told.memory, Some(Memory::Checkpoint(_)));
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.conversation.gives(told.attempt, resumes);
                }
                let attempt = spoken(told.attempt);
                let generate = ToWorker::Generate {
                    attempt,
                    item,
                    resumes,
                    more: place < last,
                };
                self.tell(worker, &generate, told.memory.as_ref(), now);
                if told.paused {
                    self.ask(worker, told.attempt, Asked::Paused);
                    self.tell(worker, &ToWorker::Pause { attempt }, None, now);
                }
            }
        }
    }

    fn cancel_attempt(&mut self, worker: WorkerId, attempt: AttemptId, now: Instant) {
        if self.batches.withdraw(attempt) {
            self.hear(worker, WorkerEvent::Cancelled { attempt }, now);
            return self.send_batches(now);
        }
        self.ask(worker, attempt, Asked::Cancelled);
        let attempt = spoken(attempt);
        self.tell(worker, &ToWorker::Cancel { attempt }, None, now);
    }

    fn ask(&mut self, worker: WorkerId, attempt: AttemptId, asked: Asked) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.conversation.asks(attempt, asked);
        }
    }

    pub(crate) fn pause(&mut self, worker: WorkerId, attempt: AttemptId, now: Instant) {
        self.jobs
            .change(attempt.job, |progress| progress.stage = Some(PAUSED));
        if !self.batches.set_paused(attempt, true) {
            self.ask(worker, attempt, Asked::Paused);
            let attempt = spoken(attempt);
            self.tell(worker, &ToWorker::Pause { attempt }, None, now);
        }
    }

    fn resume(&mut self, worker: WorkerId, attempt: AttemptId, now: Instant) {
        self.jobs
            .change(attempt.job, |progress| progress.stage = None);
        if !self.batches.set_paused(attempt, false) {
            self.ask(worker, attempt, Asked::Nothing);
            let attempt = spoken(attempt);
            self.tell(worker, &ToWorker::Resume { attempt }, None, now);
        }
    }

    /// Starts the encoder of an attempt whose frames will exist soon.
    pub(crate) fn prepare_encoder(&mut self, attempt: AttemptId) {
        let Some(live) = self.jobs.get(attempt.job) else {
            return;
        };
        let (shape, fps) = (live.job.bundle.shape, live.job.sampling.fps);
        if self.prepared.contains_key(&attempt) || !encode::is_worth_preparing(shape) {
            return;
        }
        self.prepared.insert(attempt, None);
        let (ffmpeg, store, events) =
            (self.ffmpeg.clone(), self.store.clone(), self.events.clone());
        tokio::spawn(async move {
            let prepared = encode::prepare(ffmpeg, store, attempt, shape, fps)
                .await
                .ok();
            let _ = events.send(Event::Prepared(attempt, prepared)).await;
        });
    }

    fn encode(&mut self, attempt: AttemptId, now: Instant) {
        let (Some(pixels), Some(live)) = (self.frames.remove(&attempt), self.jobs.get(attempt.job))
        else {
            tracing::error!(%attempt, "no frames to encode");
            return;
        };
        let form = (live.job.bundle.shape, live.job.sampling.fps);
        let prepared = self.prepared.remove(&attempt).flatten();
        let (ffmpeg, store, events) =
            (self.ffmpeg.clone(), self.store.clone(), self.events.clone());
        let histogram = self.metrics.encode.clone();
        tokio::spawn(async move {
            let result =
                encode::publish_video(ffmpeg, store, attempt, pixels, form, prepared).await;
            histogram.observe(now.elapsed().as_secs_f64());
            let _ = events.send(Event::Encoded(attempt, result)).await;
        });
    }

    fn discard(&mut self, attempt: AttemptId) {
        self.frames.remove(&attempt);
        // A living job may have published a later attempt's video under the same name.
        if self.jobs.get(attempt.job).is_none() {
            self.remove_files(attempt.job);
        }
    }

    /// Removes the video and the given frames of a job.
    pub(crate) fn remove_files(&self, id: JobId) {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.remove(id) {
                tracing::warn!(job = %id, %error, "files of a job that is gone could not be removed");
            }
        });
    }

    // --- jobs ---

    fn update(&mut self, change: &JobChange) {
        let JobChange {
            id,
            attempt,
            status,
            slot,
        } = *change;
        self.queue_moved = true;
        if status == JobStatus::Queued {
            // The worker of that attempt is gone, and its frames will not come.
            let attempt = AttemptId {
                job: id,
                number: attempt,
            };
            encode::abandon(self.prepared.remove(&attempt).flatten());
        }
        self.journal.set_status(id, attempt, status, move |result| {
            if let Err(error) = result {
                tracing::error!(job = %id, %status, %error, "a status could not be stored");
            }
        });
        self.jobs.change(id, |progress| {
            progress.status = status;
            progress.attempt = attempt;
            progress.queue_position = None;
            if slot.is_none() {
                progress.device = None;
                progress.stage = None;
            }
            if status == JobStatus::Queued {
                progress.step = 0;
            }
        });
    }

    /// Makes the row terminal. Whoever waits is told by the event that comes back.
    fn end(&mut self, id: JobId, attempt: u32, outcome: Outcome) {
        self.queue_moved = true;
        self.ending += 1;
        let last = AttemptId {
            job: id,
            number: attempt,
        };
        encode::abandon(self.prepared.remove(&last).flatten());
        let video = self.published.remove(&id);
        let finished_at_ms = now_ms();
        let ending = Ending {
            outcome,
            finished_at_ms,
            video,
            expires_at_ms: self.tuning.retention.expires_at_ms(finished_at_ms),
        };
        self.endings.insert(id, (attempt, ending));
        self.store_ending(id);
    }

    /// Writes the end of a job into its row.
    pub(crate) fn store_ending(&self, id: JobId) {
        let Some((attempt, ending)) = self.endings.get(&id) else {
            return;
        };
        let events = self.events.clone();
        self.journal
            .finish(id, *attempt, ending.clone(), move |result| {
                let _ = events.blocking_send(Event::Ended(id, result));
            });
    }

    /// Writes the end of a job again after a pause: a full disk may have space by then.
    pub(crate) fn store_ending_later(&self, id: JobId) {
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ENDING_RETRY_PAUSE).await;
            let _ = events.send(Event::StoreEnding(id)).await;
        });
    }
}

/// The stage of an attempt that waits for more urgent work; its next step ends that.
const PAUSED: &str = "paused";

/// Between two tries to store the end of a job.
const ENDING_RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Wanted {
    fn max_of(self, other: Self) -> Self {
        if self == Self::Killed { self } else { other }
    }
}

fn item(job: &Job) -> Item {
    let sampling = &job.sampling;
    Item {
        mode: match job.mode {
            Mode::T2v => reel_protocol::Mode::T2v,
            Mode::I2v => reel_protocol::Mode::I2v,
            Mode::Extend => reel_protocol::Mode::Extend,
        },
        prompt: sampling.prompt.as_str().to_owned(),
        negative_prompt: sampling.negative_prompt.as_str().to_owned(),
        seed: sampling.seed.value(),
        steps: sampling.steps.value(),
        guidance: sampling.guidance.value(),
        fps: sampling.fps.value(),
        conditioning_frames: job.conditioning_frames,
    }
}

/// Puts the given frames of a job where its workers find them, if there is space for more work at all.
fn keep_given(
    store: &Store,
    id: JobId,
    given: &[u8],
    hard_free_bytes: u64,
) -> Result<(), Rejection> {
    // A file system that does not say how full it is will say so when it is written to.
    if store.free_bytes().is_ok_and(|free| free < hard_free_bytes) {
        tracing::error!(job = %id, hard_free_bytes, "a job is refused: the disk is full");
        return Err(Rejection::StorageFull);
    }
    if given.is_empty() {
        return Ok(());
    }
    let kept = store.put_given(id, given);
    kept.map_err(|error| not_stored(id, &error, error.is_out_of_space()))
}

fn not_stored(id: JobId, error: &dyn std::error::Error, out_of_space: bool) -> Rejection {
    tracing::error!(job = %id, error = encode::chain(error), "a job could not be stored");
    match out_of_space {
        true => Rejection::StorageFull,
        false => Rejection::NotDurable,
    }
}

async fn make_scratch(scratch: &Path) {
    let directory: PathBuf = scratch.to_owned();
    if let Err(error) = tokio::fs::create_dir_all(&directory).await {
        // The worker says so too, when it needs the directory.
        tracing::error!(path = %directory.display(), %error, "no temporary directory for a worker");
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
