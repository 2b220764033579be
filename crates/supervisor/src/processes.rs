//! Processes of workers: what they are started with, what they are told, how they are ended.

use crate::batches::Memory;
use crate::devices::Device;
use crate::driver::Supervisor;
use crate::event::{BakedBundle, BundleNews, Event};
use crate::workers::{Conversation, Process, Wanted, Worker};
use reel_domain::{Breach, BundleKey, Fault, SlotId};
use reel_process::{LaunchSpec, Sandbox, SendError, Share, affinity};
use reel_protocol::{ChannelError, ToWorker};
use reel_scheduler::{WorkerEvent, WorkerId};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Variables of the supervisor's own environment that workers get too; everything else is set here or absent.
const ENVIRONMENT_KEPT: [&str; 4] = ["LANG", "LD_LIBRARY_PATH", "RUST_BACKTRACE", "RUST_LOG"];

/// How long a thread of a worker spins before it sleeps, in turns of libgomp's waiting loop (about 10 µs in
/// all). A step is hundreds of parallel regions: sleeping at the end of each costs a wake-up of 50 µs on an
/// idle virtual machine and doubles a step's time; libgomp's own default, milliseconds, takes the processors
/// that other slots compute with (libgomp manual, `GOMP_SPINCOUNT`).
pub const SHORT_SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "1000");

impl Supervisor {
    pub(crate) fn spawn(&mut self, slot: SlotId, id: WorkerId, bundle: BundleKey, now: Instant) {
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
            ready_at: None,
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

    pub(crate) fn launch_spec(
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
    pub(crate) fn writable(&self, device: &Device, scratch: &Path) -> Vec<PathBuf> {
        let mut writable = self.worker.writable.clone();
        writable.push(scratch.to_owned());
        if !device.is_cpu() {
            writable.push("/tmp".into());
        }
        writable
    }

    pub(crate) fn share(&self, slot: SlotId) -> Share {
        let device = &self.devices[slot.device.0 as usize];
        let mut share = self.tuning.share.clone();
        if self.worker.pinned && device.is_cpu() {
            let place =
                slot.device.0 as usize * self.slots_per_device as usize + slot.index as usize;
            share.processors = affinity::processors(place, self.worker.threads);
        }
        share
    }

    pub(crate) fn stop(&mut self, id: WorkerId, now: Instant) {
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
    pub(crate) fn kill(&mut self, id: WorkerId, fault: Option<Fault>) {
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
    pub(crate) fn tell(
        &mut self,
        id: WorkerId,
        message: &ToWorker,
        memory: Option<&Memory>,
        now: Instant,
    ) {
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
    pub(crate) fn unheard(&mut self, id: WorkerId, error: &SendError, now: Instant) {
        match error {
            // It is gone, which its pidfd says in a moment, or lives on without its channel, which its watcher says.
            SendError::Channel(ChannelError::Closed) => {
                tracing::debug!(worker = %id, %error, "a message came too late");
            }
            _ => self.broken(id, Fault::Desync(Breach::Deaf), &error.to_string(), now),
        }
    }

    pub(crate) fn ping(&mut self, id: WorkerId, now: Instant) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.conversation.pinged();
        }
        self.tell(id, &ToWorker::Ping { nonce: id.0 }, None, now);
    }
}

impl Wanted {
    fn max_of(self, other: Self) -> Self {
        if self == Self::Killed { self } else { other }
    }
}

async fn make_scratch(scratch: &Path) {
    let directory: PathBuf = scratch.to_owned();
    if let Err(error) = tokio::fs::create_dir_all(&directory).await {
        // The worker says so too, when it needs the directory.
        tracing::error!(path = %directory.display(), %error, "no temporary directory for a worker");
    }
}
