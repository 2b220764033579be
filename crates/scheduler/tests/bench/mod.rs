//! A scheduler on a bench: virtual time, commands collected, events by name.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test file uses its own part of the bench"
)]

use reel_domain::{
    AttemptId, BundleKey, Failure, JobId, Mode, Priority, Rejection, Stage, TenantName,
};
use reel_scheduler::{
    BundleOffer, BundleStanding, Command, Config, DeviceSpec, EngineFacts, ExitReport, Input, Mark,
    Merge, Order, Profile, RequestDigest, Scheduler, Work, WorkerEvent, WorkerId,
};
use std::time::{Duration, Instant};

/// Timers that may expire while time passes once; more is a machine that wakes itself for nothing.
const WAKES_MAX: u32 = 1_000;

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

pub fn devices(count: usize, slots: u32) -> Vec<DeviceSpec> {
    let spec = DeviceSpec {
        slots,
        memory_bytes: 0,
        shares_weights: true,
    };
    vec![spec; count]
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

/// So many steps of twenty are done.
pub fn denoised(attempt: AttemptId, step: u32) -> WorkerEvent {
    let mark = Mark {
        stage: Stage::Denoise,
        step,
        of: 20,
    };
    WorkerEvent::Progress { attempt, mark }
}

pub fn job(number: u8, bundle: &BundleKey) -> Work {
    Work {
        id: id(number),
        bundle: bundle.clone(),
        mode: Mode::T2v,
        tenant: TenantName::default(),
        priority: Priority::Interactive,
        merge: Merge {
            never: false,
            guided: true,
            signature: 0,
        },
        cost: 40,
        session: None,
        begin_within: None,
        digest: RequestDigest(number.into()),
    }
}

pub fn of_tenant(number: u8, bundle: &BundleKey, tenant: &str) -> Work {
    Work {
        tenant: tenant.parse().unwrap(),
        ..job(number, bundle)
    }
}

/// Attempts join only where a test says so, and nothing is started ahead.
pub fn unbatched() -> Config {
    Config {
        batch_max: 1,
        standby: false,
        ..Config::default()
    }
}

impl Bench {
    /// One device with `k` slots; every bundle of the menu baked.
    pub fn new(k: u32) -> Self {
        Self::with(unbatched(), &devices(1, k))
    }

    pub fn with(config: Config, devices: &[DeviceSpec]) -> Self {
        let mut bench = Self::unbaked(config, devices);
        for key in menu() {
            bench.offer(&key);
        }
        bench
    }

    /// Workers say nothing while they start, and nobody asks them whether they live, but where a test is about that.
    pub fn unbaked(config: Config, devices: &[DeviceSpec]) -> Self {
        let config = Config {
            exec_deadline: config.boot_deadline,
            heartbeat_after: Duration::ZERO,
            ..config
        };
        Self::watched(config, devices)
    }

    pub fn watched(config: Config, devices: &[DeviceSpec]) -> Self {
        Self {
            scheduler: Scheduler::new(config, devices, menu()),
            now: Instant::now(),
        }
    }

    pub fn put(&mut self, input: Input) {
        self.scheduler.handle(input, self.now);
    }

    pub fn order(&mut self, order: Order) {
        self.put(Input::Order(order));
    }

    pub fn offer(&mut self, key: &BundleKey) {
        self.offer_with(key, Profile::default());
    }

    pub fn offer_with(&mut self, key: &BundleKey, profile: Profile) {
        let offer = BundleOffer {
            modes: vec![Mode::T2v, Mode::I2v],
            profile,
        };
        self.put(Input::Bundle {
            key: key.clone(),
            standing: BundleStanding::Offered(offer),
        });
    }

    /// What was decided, but for storing: that goes without saying here.
    pub fn commands(&mut self) -> Vec<Command> {
        let mut commands = self.every_command();
        commands.retain(|command| !matches!(command, Command::Store { .. }));
        commands
    }

    pub fn every_command(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.scheduler.poll_command()).collect()
    }

    pub fn submit(&mut self, number: u8, bundle: &BundleKey) {
        self.submit_work(job(number, bundle));
    }

    pub fn submit_work(&mut self, work: Work) {
        let id = work.id;
        self.put(Input::Submit(work));
        self.stored(id, true);
    }

    pub fn stored(&mut self, id: JobId, durable: bool) {
        self.put(Input::Stored { id, durable });
    }

    pub fn restore(&mut self, work: Work, attempts: u32) {
        self.put(Input::Restore { work, attempts });
    }

    pub fn cancel(&mut self, number: u8) {
        self.put(Input::Cancel { id: id(number) });
    }

    /// Why a job is not accepted.
    pub fn refusal(&mut self, work: Work) -> Option<Rejection> {
        let id = work.id;
        self.put(Input::Submit(work));
        let refusal = self
            .commands()
            .into_iter()
            .find_map(|command| match command {
                Command::Refuse { rejection, .. } => Some(rejection),
                _ => None,
            });
        if refusal.is_none() {
            self.stored(id, false);
        }
        refusal
    }

    pub fn tell(&mut self, worker: u64, event: WorkerEvent) {
        self.put(Input::Worker {
            worker: WorkerId(worker),
            event,
        });
    }

    pub fn ready(&mut self, worker: u64) {
        self.ready_as(worker, true);
    }

    pub fn ready_as(&mut self, worker: u64, continuous: bool) {
        let engine = EngineFacts {
            batch_max: 8,
            continuous,
            pausable: continuous,
        };
        self.tell(worker, WorkerEvent::Ready { engine });
    }

    pub fn measured(&mut self, worker: u64, private_bytes: u64) {
        self.tell(worker, WorkerEvent::Measured { private_bytes });
    }

    pub fn started(&mut self, worker: u64, attempt: AttemptId) {
        self.tell(worker, WorkerEvent::Started { attempt });
    }

    pub fn finished(&mut self, worker: u64, attempt: AttemptId) {
        self.tell(worker, WorkerEvent::Finished { attempt });
    }

    pub fn encoded(&mut self, attempt: AttemptId, result: Result<(), Failure>) {
        self.put(Input::Encoded { attempt, result });
    }

    pub fn exit(&mut self, worker: u64) {
        self.tell(
            worker,
            WorkerEvent::Exited(ExitReport {
                description: "signal 9".into(),
                memory_held: false,
            }),
        );
    }

    /// Lets time pass as the driver does: the machine is woken by its own timers and by nothing else.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut wakes = 0;
        while let Some(at) = self.scheduler.poll_timeout().filter(|&at| at <= end) {
            self.now = at.max(self.now);
            wakes += 1;
            assert!(wakes < WAKES_MAX, "timers that wake it again and again");
            self.put(Input::Timeout);
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
        Command::Store { id } => format!("store {}", id.as_bytes()[0]),
        Command::Refuse { id, rejection } => {
            format!("refuse {} {}", id.as_bytes()[0], rejection.as_str())
        }
        Command::Spawn {
            slot,
            worker,
            bundle,
        } => format!("spawn {worker} {slot} {}", bundle.shape),
        Command::Generate {
            worker,
            attempt,
            more,
        } => {
            let more = if *more { " and" } else { "" };
            format!("generate {worker} {}{more}", brief(*attempt))
        }
        Command::Pause { worker, attempt } => format!("pause {worker} {}", brief(*attempt)),
        Command::Resume { worker, attempt } => format!("resume {worker} {}", brief(*attempt)),
        Command::Cancel { worker, attempt } => format!("cancel {worker} {}", brief(*attempt)),
        Command::Stop { worker } => format!("stop {worker}"),
        Command::Kill { worker, fault } => match fault {
            Some(fault) => format!("kill {worker} {}", fault.class()),
            None => format!("kill {worker}"),
        },
        Command::Ping { worker } => format!("ping {worker}"),
        Command::Abandon { worker } => format!("abandon {worker}"),
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
