//! A world without processes: workers that start, step and finish on a virtual clock.
//!
//! A worker with `n` attempts takes one step of all of them in `1 + (n - 1) * (1 - share)` of the time of one,
//! where `share` is what a batch has in common: the attempts progress together, each slower than alone. Workers
//! on one device share it: two that are busy at once are half as fast.

use crate::report::{Report, Tally};
use crate::timeline::Timeline;
use crate::traffic::Arrival;
use reel_domain::{AttemptId, BundleKey, JobId, Mode, SlotId, Stage};
use reel_recording::{Header, Recorder};
use reel_scheduler::{
    Batching, BundleOffer, BundleStanding, Command, Config, DecisionHash, DeviceSpec, EngineFacts,
    ExitReport, Input, Mark, Profile, RequestDigest, Scheduler, Work, WorkerEvent, WorkerId,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// What one bundle of the menu costs.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleCost {
    /// Which one.
    pub key: BundleKey,
    /// From spawn to READY.
    pub spawn: Duration,
    /// One attempt, alone on its worker.
    pub service: Duration,
    /// Denoising steps of an attempt.
    pub steps: u32,
    /// Share of a step's time that a batch has in common, 0 to 1.
    pub batch_share: f64,
    /// Memory of the weights, in bytes.
    pub weights_bytes: u64,
    /// Memory of a worker beside the weights, in bytes.
    pub private_bytes: u64,
}

/// A pool and what it is asked.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The bounds of the scheduler.
    pub config: Config,
    /// The devices.
    pub devices: Vec<DeviceSpec>,
    /// The menu.
    pub menu: Vec<BundleCost>,
    /// Attempts that a worker can carry at once.
    pub batch_max: u32,
    /// The jobs, in the order of their arrival.
    pub arrivals: Vec<Arrival>,
}

/// Frames to the published video; the device is free meanwhile.
/// A deadline that nobody misses: ten years.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
const ENCODING: Duration = Duration::from_millis(40);
/// From the request to stop to the end of a process.
const EXIT: Duration = Duration::from_millis(20);

/// Something that will happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrives(usize),
    Ready(WorkerId),
    /// A step of the attempts that a worker has; of no meaning when those have changed.
    Pulse(WorkerId, u64, u32),
    /// The attempt of a worker that is through first; of no meaning when its attempts have changed.
    Through(WorkerId, u64),
    Exited(WorkerId),
    Encoded(AttemptId),
}

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Starting,
    Hot,
    Leaving,
}

#[derive(Debug)]
struct Actor {
    device: usize,
    bundle: usize,
    life: Life,
    /// Attempts with the work that is left of each, as time alone on the worker.
    attempts: Vec<(AttemptId, Duration)>,
    /// Those that wait for others to be through.
    paused: Vec<(AttemptId, Duration)>,
    /// When that was true.
    at: Duration,
    /// Counts changes of the attempts.
    generation: u64,
}

/// The world of one run.
struct World<'a> {
    scenario: &'a Scenario,
    scheduler: Scheduler,
    /// When the run really began; virtual time is counted from there, as only differences count.
    start: Instant,
    now: Duration,
    future: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    sequence: u64,
    actors: BTreeMap<WorkerId, Actor>,
    /// The workers on each device.
    on_device: Vec<Vec<WorkerId>>,
    /// Hot workers of each bundle.
    hot: Vec<usize>,
    bundles: HashMap<BundleKey, usize>,
    /// What was decided and is still to be done.
    decided: VecDeque<Command>,
    tally: Tally,
    hash: DecisionHash,
    /// Everything that the scheduler was told, if that is wanted.
    told: Option<Vec<(Duration, Input)>>,
    /// What the workers did, if that is wanted.
    timeline: Option<Timeline>,
    /// Takes it down in a file, if that is wanted.
    recorder: Option<Recorder>,
}

/// Runs a scenario to its end.
#[must_use]
pub fn run(scenario: &Scenario) -> Report {
    let mut world = World::new(scenario);
    world.play();
    world.report()
}

/// Runs a scenario to its end, and writes down what the workers did in the beginning, as long as `window`.
#[must_use]
pub fn watch(scenario: &Scenario, window: Duration) -> (Report, Timeline) {
    let mut world = World::new(scenario);
    world.timeline = Some(Timeline::new(window));
    world.play();
    let timeline = world.timeline.take();
    let timeline = timeline.unwrap_or_else(|| Timeline::new(window));
    (world.report(), timeline)
}

/// Runs a scenario to its end, and gives back everything that the scheduler was told, and when.
#[must_use]
pub fn inputs(scenario: &Scenario) -> Vec<(Duration, Input)> {
    let mut world = World::new(scenario);
    world.told = Some(Vec::new());
    world.play();
    world.told.unwrap_or_default()
}

/// Runs a scenario to its end, and records it in a new file, for `reel replay`.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn record(scenario: &Scenario, path: &Path) -> io::Result<Report> {
    let header = Header {
        config: scenario.config.clone(),
        devices: scenario.devices.clone(),
        menu: scenario.menu.iter().map(|cost| cost.key.clone()).collect(),
        started_at_ms: 0,
    };
    let mut world = World::new(scenario);
    let recorder = Recorder::create(path, &header, world.start, u64::MAX)?;
    world.recorder = Some(recorder.waiting());
    world.play();
    if let Some(recorder) = world.recorder.take() {
        recorder.close()?;
    }
    Ok(world.report())
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let keys: Vec<_> = scenario.menu.iter().map(|cost| cost.key.clone()).collect();
        let bundles = keys.iter().cloned().zip(0..).collect();
        Self {
            scheduler: Scheduler::new(on_paper(&scenario.config), &scenario.devices, keys),
            scenario,
            start: Instant::now(),
            now: Duration::ZERO,
            future: BinaryHeap::new(),
            sequence: 0,
            actors: BTreeMap::new(),
            on_device: vec![Vec::new(); scenario.devices.len()],
            hot: vec![0; scenario.menu.len()],
            bundles,
            tally: Tally::new(scenario.arrivals.len()),
            decided: VecDeque::new(),
            hash: DecisionHash::default(),
            told: None,
            timeline: None,
            recorder: None,
        }
    }

    /// From the first job to the last event.
    fn play(&mut self) {
        self.open();
        while let Some(at) = self.next_time() {
            self.advance(at);
        }
    }

    fn report(self) -> Report {
        let counters = self.scheduler.counters();
        let wall = self.start.elapsed();
        self.tally
            .report(self.scenario, counters, self.now, self.hash, wall)
    }

    /// The menu is baked, and the first job is on its way.
    fn open(&mut self) {
        for cost in &self.scenario.menu {
            let profile = Profile {
                spawn_us: micros(cost.spawn),
                service_us: micros(cost.service),
                weights_bytes: cost.weights_bytes,
                private_bytes: cost.private_bytes,
                ..Profile::default()
            };
            let standing = BundleStanding::Offered(BundleOffer {
                modes: vec![Mode::T2v],
                profile,
            });
            let key = cost.key.clone();
            self.decide(Input::Bundle { key, standing });
        }
        self.await_arrival(0);
    }

    fn await_arrival(&mut self, index: usize) {
        if let Some(arrival) = self.scenario.arrivals.get(index) {
            self.will(arrival.at, Happening::Arrives(index));
        }
    }

    fn next_time(&self) -> Option<Duration> {
        let happens = self.future.peek().map(|Reverse((at, ..))| *at);
        let timer = self.scheduler.poll_timeout();
        let timer = timer.map(|at| at.saturating_duration_since(self.start));
        [happens, timer].into_iter().flatten().min()
    }

    fn advance(&mut self, at: Duration) {
        self.now = at;
        let due = self
            .future
            .peek()
            .is_some_and(|Reverse((when, ..))| *when <= at);
        if !due {
            return self.decide(Input::Timeout);
        }
        if let Some(Reverse((_, _, happening))) = self.future.pop() {
            self.happen(happening);
        }
    }

    fn will(&mut self, at: Duration, happening: Happening) {
        self.sequence += 1;
        self.future.push(Reverse((at, self.sequence, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives(index) => self.arrives(index),
            Happening::Ready(worker) => self.ready(worker),
            Happening::Pulse(worker, generation, step) => self.pulse(worker, generation, step),
            Happening::Through(worker, generation) => self.through(worker, generation),
            Happening::Exited(worker) => {
                if self.actors.contains_key(&worker) {
                    self.change(worker, |actor| actor.attempts.clear());
                    self.forget(worker);
                    self.draw(|timeline, now| timeline.ends(worker, now));
                    let report = ExitReport {
                        description: String::new(),
                        memory_held: false,
                    };
                    self.says(worker, WorkerEvent::Exited(report));
                }
            }
            Happening::Encoded(attempt) => {
                let result = Ok(());
                self.decide(Input::Encoded { attempt, result });
            }
        }
    }

    fn arrives(&mut self, index: usize) {
        self.await_arrival(index + 1);
        let arrival = &self.scenario.arrivals[index];
        let work = Work {
            id: job_id(index),
            bundle: self.scenario.menu[arrival.bundle].key.clone(),
            mode: Mode::T2v,
            tenant: arrival.tenant.clone(),
            priority: arrival.priority,
            merge: arrival.merge,
            cost: u64::from(self.scenario.menu[arrival.bundle].steps),
            session: arrival.session,
            begin_within: None,
            digest: RequestDigest(index as u64),
        };
        self.tally.arrives(index, arrival.at);
        self.tally.finds(self.hot[arrival.bundle] > 0);
        self.decide(Input::Submit(work));
    }

    fn ready(&mut self, worker: WorkerId) {
        let Some(actor) = self.actors.get_mut(&worker) else {
            return;
        };
        actor.life = Life::Hot;
        self.hot[actor.bundle] += 1;
        self.draw(|timeline, now| timeline.is_ready(worker, now));
        let engine = EngineFacts {
            batch_max: self.scenario.batch_max,
            continuous: true,
            pausable: true,
        };
        self.says(worker, WorkerEvent::Ready { engine });
    }

    fn pulse(&mut self, worker: WorkerId, generation: u64, step: u32) {
        let Some(actor) = self.actors.get(&worker) else {
            return;
        };
        if let Some(&(attempt, _)) = actor.attempts.first()
            && actor.generation == generation
        {
            let mark = Mark {
                stage: Stage::Denoise,
                step,
                of: u32::MAX,
            };
            self.says(worker, WorkerEvent::Progress { attempt, mark });
        }
    }

    fn through(&mut self, worker: WorkerId, generation: u64) {
        let Some(actor) = self.actors.get(&worker) else {
            return;
        };
        if actor.generation != generation {
            return;
        }
        let mut through = None;
        self.change(worker, |actor| {
            let first = (0..actor.attempts.len()).min_by_key(|&index| actor.attempts[index].1);
            through = first.map(|first| {
                let attempt = actor.attempts.remove(first).0;
                // Who is paused goes on.
                let idle = actor.attempts.is_empty() && actor.paused.is_empty();
                (attempt, idle)
            });
        });
        let Some((attempt, idle)) = through else {
            return;
        };
        self.tally.busy_ends(self.now, worker, idle);
        if idle {
            self.draw(|timeline, now| timeline.rests(worker, now));
        }
        self.says(worker, WorkerEvent::Finished { attempt });
    }

    /// Changes what a worker has. Everybody on its device gets faster or slower by that.
    fn change(&mut self, worker: WorkerId, change: impl FnOnce(&mut Actor)) {
        let Some(device) = self.actors.get(&worker).map(|actor| actor.device) else {
            return;
        };
        let before = self.busy_on(device);
        for index in 0..self.on_device[device].len() {
            self.catch_up(self.on_device[device][index], before);
        }
        if let Some(actor) = self.actors.get_mut(&worker) {
            change(actor);
        }
        let after = self.busy_on(device);
        for index in 0..self.on_device[device].len() {
            let other = self.on_device[device][index];
            if other == worker || before != after {
                self.plan(other, after);
            }
        }
    }

    /// Workers with work on a device.
    fn busy_on(&self, device: usize) -> usize {
        let workers = self.on_device[device].iter();
        workers
            .filter(|worker| !self.actors[worker].attempts.is_empty())
            .count()
    }

    /// Takes off what a worker has done since it was looked at last.
    fn catch_up(&mut self, worker: WorkerId, busy: usize) {
        if let Some(actor) = self.actors.get_mut(&worker) {
            let slow = slowness(
                self.scenario.menu[actor.bundle].batch_share,
                actor.attempts.len(),
                busy,
            );
            actor.catch_up(self.now, slow);
        }
    }

    /// A worker takes nothing more.
    fn cools(&mut self, worker: WorkerId) {
        if let Some(actor) = self.actors.get_mut(&worker)
            && std::mem::replace(&mut actor.life, Life::Leaving) == Life::Hot
        {
            self.hot[actor.bundle] -= 1;
        }
    }

    fn forget(&mut self, worker: WorkerId) {
        if let Some(actor) = self.actors.remove(&worker) {
            self.on_device[actor.device].retain(|other| *other != worker);
        }
    }

    /// What a worker does next.
    fn plan(&mut self, worker: WorkerId, busy: usize) {
        let now = self.now;
        let Some(actor) = self.actors.get_mut(&worker) else {
            return;
        };
        actor.generation += 1;
        let generation = actor.generation;
        let Some(left) = actor.attempts.iter().map(|(_, left)| *left).min() else {
            return;
        };
        let cost = &self.scenario.menu[actor.bundle];
        let slow = slowness(cost.batch_share, actor.attempts.len(), busy);
        self.will(
            now + left.mul_f64(slow),
            Happening::Through(worker, generation),
        );
        if self.scenario.batch_max > 1 && self.scenario.config.batching != Batching::Off {
            let step = cost.service.mul_f64(slow) / cost.steps.max(1);
            for number in [1, 2] {
                let at = now + step * number;
                self.will(at, Happening::Pulse(worker, generation, number));
            }
        }
    }

    fn draw(&mut self, line: impl FnOnce(&mut Timeline, Duration)) {
        if let Some(timeline) = &mut self.timeline {
            line(timeline, self.now);
        }
    }

    fn says(&mut self, worker: WorkerId, event: WorkerEvent) {
        self.decide(Input::Worker { worker, event });
    }

    /// Hands something to the scheduler, and carries out what it decides.
    fn decide(&mut self, input: Input) {
        self.tell(input);
        while let Some(command) = self.decided.pop_front() {
            self.perform(command);
        }
    }

    /// Hands something to the scheduler. What it decides is done in its turn.
    fn tell(&mut self, input: Input) {
        self.tally.events += 1;
        let now = self.start + self.now;
        if let Some(recorder) = &mut self.recorder {
            recorder.input(&input, now);
        }
        if let Some(told) = &mut self.told {
            told.push((self.now, input.clone()));
        }
        self.scheduler.handle(input, now);
        while let Some(command) = self.scheduler.poll_command() {
            self.hash.add(&command);
            if let Some(recorder) = &mut self.recorder {
                recorder.decision(&command);
            }
            self.decided.push_back(command);
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Store { id } => {
                let durable = true;
                self.tell(Input::Stored { id, durable });
            }
            Command::Refuse { .. } => self.tally.rejections += 1,
            Command::Spawn {
                worker,
                bundle,
                slot,
            } => self.spawn(worker, &bundle, slot),
            Command::Generate {
                worker, attempt, ..
            } => self.generate(worker, attempt),
            Command::Pause { worker, attempt } => self.pause(worker, attempt, true),
            Command::Resume { worker, attempt } => self.pause(worker, attempt, false),
            Command::Stop { worker } | Command::Kill { worker, .. } => {
                self.cools(worker);
                self.will(self.now + EXIT, Happening::Exited(worker));
            }
            Command::Encode { attempt } => {
                self.will(self.now + ENCODING, Happening::Encoded(attempt));
            }
            Command::End { .. } => self.tally.ends(),
            Command::Ping { .. } | Command::Abandon { .. } => {}
            Command::Cancel { .. } | Command::Discard { .. } | Command::Update { .. } => {}
        }
    }

    fn spawn(&mut self, worker: WorkerId, key: &BundleKey, slot: SlotId) {
        let device = slot.device.0 as usize;
        let bundle = self.bundles[key];
        let spawn = self.scenario.menu[bundle].spawn;
        let serves = |actor: &Actor| actor.bundle == bundle && actor.life != Life::Leaving;
        self.tally.spawns();
        self.tally.spends(spawn, self.actors.values().any(serves));
        self.actors.insert(
            worker,
            Actor {
                device,
                bundle,
                life: Life::Starting,
                attempts: Vec::new(),
                paused: Vec::new(),
                at: self.now,
                generation: 0,
            },
        );
        self.on_device[device].push(worker);
        self.draw(|timeline, now| timeline.spawns(worker, slot, bundle, now));
        self.will(self.now + spawn, Happening::Ready(worker));
    }

    fn pause(&mut self, worker: WorkerId, attempt: AttemptId, paused: bool) {
        self.change(worker, |actor| actor.set_paused(attempt, paused));
    }

    fn generate(&mut self, worker: WorkerId, attempt: AttemptId) {
        let Some(actor) = self.actors.get(&worker) else {
            return;
        };
        let service = self.scenario.menu[actor.bundle].service;
        self.change(worker, |actor| actor.attempts.push((attempt, service)));
        self.tally.begins(job_index(attempt.job), self.now, worker);
        self.draw(|timeline, now| timeline.begins(worker, now));
        let event = WorkerEvent::Started { attempt };
        self.tell(Input::Worker { worker, event });
    }
}

impl Actor {
    /// Moves an attempt to those that wait, or back.
    fn set_paused(&mut self, attempt: AttemptId, paused: bool) {
        let (from, to) = match paused {
            true => (&mut self.attempts, &mut self.paused),
            false => (&mut self.paused, &mut self.attempts),
        };
        to.extend(from.extract_if(.., |(held, _)| *held == attempt));
    }

    /// Takes off what was done since the attempts last changed.
    fn catch_up(&mut self, now: Duration, slowness: f64) {
        let done = (now - self.at).div_f64(slowness);
        self.at = now;
        for (_, left) in &mut self.attempts {
            *left = left.saturating_sub(done);
        }
    }
}

/// A step of `attempts` on a device with `busy` workers, over a step of one attempt alone on its device.
pub(crate) fn slowness(batch_share: f64, attempts: usize, busy: usize) -> f64 {
    let batch = 1.0 + attempts.saturating_sub(1) as f64 * (1.0 - batch_share);
    batch * busy.max(1) as f64
}

/// What the steps of a batch have in common, as measured: the mean over the sizes that were; nothing where none was.
#[must_use]
pub fn batch_share(profile: &Profile) -> f64 {
    let [one, larger @ ..] = &profile.step_us;
    let measured = larger.iter().zip(1_u32..).filter(|(us, _)| **us > 0);
    let shares: Vec<f64> = measured
        .map(|(&us, more)| 1.0 - (us as f64 / *one as f64 - 1.0) / f64::from(more))
        .collect();
    if *one == 0 || shares.is_empty() {
        return 0.0;
    }
    (shares.iter().sum::<f64>() / shares.len() as f64).clamp(0.0, 1.0)
}

fn job_id(index: usize) -> JobId {
    JobId::from_bytes((index as u128).to_le_bytes())
}

fn job_index(id: JobId) -> usize {
    usize::try_from(u128::from_le_bytes(*id.as_bytes())).unwrap_or(usize::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Workers on paper show few signs of life while they start and while they work, and never hang.
fn on_paper(config: &Config) -> Config {
    Config {
        exec_deadline: FOR_EVER,
        boot_deadline: FOR_EVER,
        progress_deadline: FOR_EVER,
        watchdog_floor: FOR_EVER,
        attempt_deadline: FOR_EVER,
        heartbeat_after: Duration::ZERO,
        ..config.clone()
    }
}
