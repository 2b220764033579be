//! A scheduler on a bench: virtual time, commands collected, events by name.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test file uses its own part of the bench"
)]

use reel_domain::{
    AttemptId, BundleKey, DeviceId, Fps, Guidance, Job, JobId, Mode, Prompt, Sampling, Seed,
    SlotId, Steps,
};
use reel_scheduler::{BundleOffer, Command, Config, ExitReport, Scheduler, WorkerEvent, WorkerId};
use std::time::{Duration, Instant};

pub struct Bench {
    pub scheduler: Scheduler,
    pub now: Instant,
}

pub fn key(shape: &str) -> BundleKey {
    BundleKey {
        model: "tiny".parse().unwrap(),
        shape: shape.parse().unwrap(),
    }
}

pub fn menu() -> Vec<BundleKey> {
    ["64x64@17f", "96x64@17f", "64x96@17f", "64x64@33f"]
        .map(key)
        .to_vec()
}

pub fn slots(devices: u32, per_device: u32) -> Vec<SlotId> {
    (0..devices)
        .flat_map(|device| {
            (0..per_device).map(move |index| SlotId {
                device: DeviceId(device),
                index,
            })
        })
        .collect()
}

pub fn id(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

pub fn attempt(job: u8, number: u32) -> AttemptId {
    AttemptId {
        job: id(job),
        number,
    }
}

pub fn job(number: u8, bundle: &BundleKey) -> Job {
    let sampling = Sampling {
        prompt: Prompt::new("a red circle".into()).unwrap(),
        negative_prompt: Prompt::optional(String::new()).unwrap(),
        seed: Seed::new(1).unwrap(),
        steps: Steps::new(20).unwrap(),
        guidance: Guidance::new(3.0).unwrap(),
        fps: Fps::new(8).unwrap(),
    };
    Job {
        id: id(number),
        bundle: bundle.clone(),
        mode: Mode::T2v,
        conditioning_frames: 0,
        sampling,
        created_at_ms: 0,
    }
}

impl Bench {
    /// One device with `k` slots; every bundle of the menu baked.
    pub fn new(k: u32) -> Self {
        Self::with(Config::default(), slots(1, k))
    }

    pub fn with(config: Config, slots: Vec<SlotId>) -> Self {
        let mut bench = Self {
            scheduler: Scheduler::new(config, slots, menu()),
            now: Instant::now(),
        };
        for key in menu() {
            bench.offer(&key);
        }
        bench
    }

    pub fn offer(&mut self, key: &BundleKey) {
        let offer = BundleOffer {
            modes: vec![Mode::T2v, Mode::I2v],
        };
        self.scheduler.set_bundle(key, Some(offer), self.now);
    }

    pub fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.scheduler.poll_command()).collect()
    }

    pub fn submit(&mut self, number: u8, bundle: &BundleKey) {
        self.scheduler
            .submit(job(number, bundle), self.now)
            .unwrap();
        self.scheduler.handle_stored(id(number), true, self.now);
    }

    pub fn tell(&mut self, worker: u64, event: WorkerEvent) {
        self.scheduler
            .handle_worker(WorkerId(worker), event, self.now);
    }

    pub fn ready(&mut self, worker: u64) {
        self.tell(worker, WorkerEvent::Ready { batch_max: 8 });
    }

    pub fn exit(&mut self, worker: u64) {
        self.tell(
            worker,
            WorkerEvent::Exited(ExitReport {
                description: "signal 9".into(),
            }),
        );
    }

    /// Lets time pass as the driver does: the machine is woken by its own timers and by nothing else.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.scheduler.poll_timeout().filter(|&at| at <= end) {
            self.now = at.max(self.now);
            self.scheduler.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// Workers 0 and 1 are READY with the first two bundles of the menu; no commands are left.
    pub fn two_hot(k: u32) -> Self {
        let mut bench = Self::new(k);
        for worker in 0..u64::from(k.min(2)) {
            bench.ready(worker);
        }
        bench.commands();
        bench
    }
}

pub fn short(commands: &[Command]) -> Vec<String> {
    commands.iter().map(name).collect()
}

fn name(command: &Command) -> String {
    match command {
        Command::Spawn {
            slot,
            worker,
            bundle,
        } => format!("spawn {worker} {slot} {}", bundle.shape),
        Command::Generate {
            worker, attempt, ..
        } => format!("generate {worker} {}", brief(*attempt)),
        Command::Cancel { worker, attempt } => format!("cancel {worker} {}", brief(*attempt)),
        Command::Stop { worker } => format!("stop {worker}"),
        Command::Kill { worker, reason } => format!("kill {worker} {reason}"),
        Command::Encode { attempt } => format!("encode {}", brief(*attempt)),
        Command::Discard { attempt } => format!("discard {}", brief(*attempt)),
        Command::Update { change } => format!("{} {}", change.status, change.id.as_bytes()[0]),
        Command::End { id, outcome, .. } => {
            format!("end {} {}", id.as_bytes()[0], outcome.status())
        }
    }
}

fn brief(attempt: AttemptId) -> String {
    format!("{}/{}", attempt.job.as_bytes()[0], attempt.number)
}
