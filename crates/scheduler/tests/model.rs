//! Random operations against a small world that plays the workers, and promises checked after every step:
//! no job lost, none run twice at once, none ended twice, every command legal in its slot's state, no device over
//! its memory, nothing paused or overtaken too often, and everything comes to an end when the faults stop.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod bench;

use bench::{Bench, attempt, job, menu};
use proptest::prelude::*;
use reel_domain::{AttemptId, BundleKey, DeviceId, Fault, JobId, JobStatus, Priority, SessionId};
use reel_scheduler::{
    Command, Config, DeviceSpec, EngineFacts, Input, Profile, SlotPhase, Work, WorkerEvent,
    WorkerId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One thing that can happen. Numbers choose among whatever is there.
#[derive(Debug, Clone)]
enum Step {
    Submit(Wish),
    Store { which: usize, durable: bool },
    Cancel { which: usize },
    WorkerActs { which: usize, act: Act },
    Encoded { which: usize, ok: bool },
    Wait { millis: u64 },
}

/// What a client asks for.
#[derive(Debug, Clone)]
struct Wish {
    bundle: usize,
    priority: usize,
    session: Option<u8>,
    begin_within_ms: Option<u64>,
}

#[derive(Debug, Clone)]
enum Act {
    /// The next thing that a good worker does.
    GoOn,
    Progress,
    Fail,
    Exit,
    Break,
    /// Somebody looks how much memory it holds.
    Measured(u64),
    /// Talks about an attempt that it does not have.
    Lie,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        8 => Just(Act::GoOn),
        2 => Just(Act::Progress),
        1 => Just(Act::Fail),
        1 => Just(Act::Exit),
        1 => Just(Act::Break),
        1 => (1..2 * PRIVATE).prop_map(Act::Measured),
        1 => Just(Act::Lie),
    ];
    let wish = (
        0..4_usize,
        0..3_usize,
        prop::option::weighted(0.3, 0..3_u8),
        prop::option::weighted(0.1, 1_u64..60_000),
    );
    let wish = wish.prop_map(|(bundle, priority, session, begin_within_ms)| Wish {
        bundle,
        priority,
        session,
        begin_within_ms,
    });
    let step = prop_oneof![
        3 => wish.prop_map(Step::Submit),
        4 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(which, durable)| Step::Store { which, durable }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        10 => (any::<usize>(), act).prop_map(|(which, act)| Step::WorkerActs { which, act }),
        3 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, ok)| Step::Encoded { which, ok }),
        1 => (1_u64..200_000).prop_map(|millis| Step::Wait { millis }),
    ];
    prop::collection::vec(step, 1..250)
}

/// A worker, as the world plays it.
#[derive(Debug)]
struct Actor {
    bundle: BundleKey,
    device: DeviceId,
    ready: bool,
    asked_to_stop: bool,
    attempts: Vec<(AttemptId, bool)>,
    cancels: BTreeSet<AttemptId>,
    paused: BTreeSet<AttemptId>,
    /// The batch that it is being given is not whole yet.
    more: bool,
}

/// A pool to try.
#[derive(Debug, Clone)]
struct Pool {
    k: u32,
    devices: usize,
    batch_max: u32,
    continuous: bool,
    /// Every bound of overtaking and pausing.
    strict: u32,
    standby: bool,
    /// Workers hold more than was thought.
    grows: bool,
    spawns_max: usize,
    memory_bytes: u64,
    batch_delay_ms: u64,
}

/// Memory of the weights, and of a worker beside them.
const WEIGHTS: u64 = 10;
const PRIVATE: u64 = 4;

fn pools() -> impl Strategy<Value = Pool> {
    let sizes = (1_u32..4, 1_usize..3, 1_u32..4, 0_u32..4);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let memory = prop_oneof![Just(0), WEIGHTS + PRIVATE..WEIGHTS + 5 * PRIVATE];
    let delay = prop_oneof![Just(0), Just(50_u64)];
    let all = (sizes, flags, 1_usize..4, memory, delay);
    all.prop_map(|(sizes, flags, spawns_max, memory_bytes, batch_delay_ms)| {
        let (k, devices, batch_max, strict) = sizes;
        let (continuous, standby, grows) = flags;
        Pool {
            k,
            devices,
            batch_max,
            continuous,
            strict,
            standby,
            grows,
            spawns_max,
            memory_bytes,
            batch_delay_ms,
        }
    })
}

/// Who waits, by class and acceptance, and how often the oldest of each class was overtaken.
#[derive(Debug, Default)]
struct Waiting {
    /// The order of acceptance.
    tickets: BTreeMap<JobId, usize>,
    line: BTreeSet<(Priority, usize, JobId)>,
    /// By class: its oldest job, and the younger ones of the class that were begun since it is the oldest.
    look_past: BTreeMap<Priority, (JobId, u32)>,
    /// By class: its oldest job, and the jobs of more urgent classes for its bundle that were begun since.
    urgent: BTreeMap<Priority, (JobId, u32)>,
}

impl Waiting {
    fn accepted(&mut self, id: JobId) {
        let ticket = self.tickets.len();
        self.tickets.insert(id, ticket);
    }

    fn enters(&mut self, work: &Work) {
        let ticket = self.tickets[&work.id];
        self.line.insert((work.priority, ticket, work.id));
    }

    fn leaves(&mut self, work: &Work) {
        let ticket = self.tickets[&work.id];
        self.line.remove(&(work.priority, ticket, work.id));
        for counts in [&mut self.look_past, &mut self.urgent] {
            counts.retain(|_, (oldest, _)| *oldest != work.id);
        }
    }

    fn oldest(&self, class: Priority) -> Option<JobId> {
        let mut of_class = self.line.iter().filter(|(of, ..)| *of == class);
        of_class.next().map(|(.., id)| *id)
    }

    /// A worker is given a job: none that is older may have been overtaken more often than allowed.
    fn begins(&mut self, work: &Work, works: &BTreeMap<JobId, Work>, strict: u32) {
        for class in Priority::ALL
            .into_iter()
            .filter(|class| *class >= work.priority)
        {
            let Some(oldest) = self.oldest(class).filter(|oldest| *oldest != work.id) else {
                continue;
            };
            let same_class = class == work.priority;
            if !same_class && works[&oldest].bundle != work.bundle {
                continue;
            }
            let counts = if same_class {
                &mut self.look_past
            } else {
                &mut self.urgent
            };
            let (of, times) = counts.entry(class).or_insert((oldest, 0));
            if *of != oldest {
                (*of, *times) = (oldest, 0);
            }
            *times += 1;
            // More urgent work may go first, then joins may pass what cannot join; and where two classes are due at
            // once, the turn of the other one lets one more of each through.
            let limit = match same_class {
                true => strict,
                false => 2 * (strict + 1),
            };
            assert!(
                *times <= limit,
                "{oldest} is overtaken {times} times: {class}, {strict} allowed, {same_class}"
            );
        }
        self.leaves(work);
    }
}

/// Everything outside the scheduler, and what it promised.
struct World {
    bench: Bench,
    actors: BTreeMap<WorkerId, Actor>,
    killed: BTreeSet<WorkerId>,
    held: Vec<JobId>,
    encoding: Vec<AttemptId>,
    accepted: BTreeSet<JobId>,
    ended: BTreeSet<JobId>,
    works: BTreeMap<JobId, Work>,
    /// Realtime attempts that began while an attempt was paused.
    preempted: BTreeMap<AttemptId, u32>,
    waiting: Waiting,
    pool: Pool,
    next: u8,
}

impl World {
    fn new(pool: Pool) -> Self {
        let config = Config {
            batch_max: pool.batch_max,
            look_past_max: pool.strict,
            overtakes_max: pool.strict,
            class_overtakes_max: pool.strict,
            preemptions_max: pool.strict,
            standby: pool.standby,
            spawns_max: pool.spawns_max,
            batch_delay: Duration::from_millis(pool.batch_delay_ms),
            ..Config::default()
        };
        let spec = DeviceSpec {
            slots: pool.k,
            memory_bytes: pool.memory_bytes,
            shares_weights: true,
        };
        let mut bench = Bench::unbaked(config, &vec![spec; pool.devices]);
        let profile = Profile {
            weights_bytes: WEIGHTS,
            private_bytes: PRIVATE,
            ..Profile::default()
        };
        for key in menu() {
            bench.offer_with(&key, profile);
        }
        let mut world = Self {
            bench,
            actors: BTreeMap::new(),
            killed: BTreeSet::new(),
            held: Vec::new(),
            encoding: Vec::new(),
            accepted: BTreeSet::new(),
            ended: BTreeSet::new(),
            works: BTreeMap::new(),
            preempted: BTreeMap::new(),
            waiting: Waiting::default(),
            pool,
            next: 0,
        };
        world.obey();
        world
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Submit(ref wish) => self.submit(wish),
            Step::Store { which, durable } => {
                if let Some(id) = take(&mut self.held, which) {
                    if durable {
                        self.waiting.enters(&self.works[&id]);
                    } else {
                        self.accepted.remove(&id);
                    }
                    self.bench.stored(id, durable);
                }
            }
            Step::Cancel { which } => {
                let running: Vec<_> = self.accepted.difference(&self.ended).copied().collect();
                if let Some(id) = pick(&running, which) {
                    self.bench.put(Input::Cancel { id });
                }
            }
            Step::WorkerActs { which, ref act } => self.act(which, act),
            Step::Encoded { which, ok } => {
                if let Some(attempt) = take(&mut self.encoding, which) {
                    let failure = reel_domain::Failure {
                        code: reel_domain::FailureCode::EncodingFailed,
                        message: String::new(),
                    };
                    self.bench
                        .encoded(attempt, if ok { Ok(()) } else { Err(failure) });
                }
            }
            Step::Wait { millis } => self.bench.pass(Duration::from_millis(millis)),
        }
        self.obey();
        self.check();
    }

    fn submit(&mut self, wish: &Wish) {
        if self.next == u8::MAX {
            return;
        }
        self.next += 1;
        let work = Work {
            priority: Priority::ALL[wish.priority],
            session: wish
                .session
                .map(|number| SessionId::from_bytes([number; 16])),
            begin_within: wish.begin_within_ms.map(Duration::from_millis),
            ..job(self.next, &menu()[wish.bundle])
        };
        self.works.insert(work.id, work.clone());
        self.bench.put(Input::Submit(work));
    }

    fn act(&mut self, which: usize, act: &Act) {
        let workers: Vec<_> = self.actors.keys().copied().collect();
        let Some(worker) = pick(&workers, which) else {
            return;
        };
        let event = match act {
            _ if self.killed.contains(&worker) => self.exit(worker),
            Act::GoOn => match self.go_on(worker) {
                Some(event) => event,
                None => return,
            },
            Act::Progress => bench::denoised(self.seen(which), 1),
            Act::Fail => match self
                .actors
                .get_mut(&worker)
                .and_then(|actor| actor.attempts.pop())
            {
                Some((attempt, _)) => WorkerEvent::Failed {
                    attempt,
                    message: String::new(),
                },
                None => return,
            },
            Act::Exit => self.exit(worker),
            Act::Break => WorkerEvent::Broken { fault: Fault::Oom },
            Act::Measured(bytes) => WorkerEvent::Measured {
                private_bytes: match self.pool.grows {
                    true => *bytes,
                    false => (*bytes).min(PRIVATE),
                },
            },
            Act::Lie if self.carries(worker, self.seen(which)) => return,
            Act::Lie => WorkerEvent::Finished {
                attempt: self.seen(which),
            },
        };
        self.bench.put(Input::Worker { worker, event });
    }

    /// Some attempt that was or is somewhere.
    fn seen(&self, which: usize) -> AttemptId {
        let number = u8::try_from(which % usize::from(self.next.max(1))).unwrap() + 1;
        attempt(number, u32::try_from(which % 3).unwrap())
    }

    fn carries(&self, worker: WorkerId, attempt: AttemptId) -> bool {
        let attempts = self.actors.get(&worker).map(|actor| &actor.attempts);
        attempts.is_some_and(|attempts| attempts.iter().any(|(held, _)| *held == attempt))
    }

    fn exit(&mut self, worker: WorkerId) -> WorkerEvent {
        self.actors.remove(&worker);
        self.killed.remove(&worker);
        WorkerEvent::Exited(reel_scheduler::ExitReport {
            description: String::new(),
            memory_held: false,
        })
    }

    /// What a worker without faults does next.
    fn go_on(&mut self, worker: WorkerId) -> Option<WorkerEvent> {
        let actor = self.actors.get_mut(&worker)?;
        if actor.asked_to_stop && actor.attempts.is_empty() {
            return Some(self.exit(worker));
        }
        if !actor.ready {
            actor.ready = true;
            return Some(WorkerEvent::Ready {
                engine: EngineFacts {
                    batch_max: 3,
                    continuous: self.pool.continuous,
                    pausable: true,
                },
            });
        }
        let goes_on = |(attempt, _): &(AttemptId, bool)| {
            !actor.paused.contains(attempt) || actor.cancels.contains(attempt)
        };
        let place = actor.attempts.iter().position(goes_on)?;
        let (attempt, started) = &mut actor.attempts[place];
        let attempt = *attempt;
        if !std::mem::replace(started, true) {
            return Some(WorkerEvent::Started { attempt });
        }
        actor.attempts.remove(place);
        actor.paused.remove(&attempt);
        Some(match actor.cancels.remove(&attempt) {
            true => WorkerEvent::Cancelled { attempt },
            false => WorkerEvent::Finished { attempt },
        })
    }

    /// Carries out the commands, and checks that each is legal.
    fn obey(&mut self) {
        for command in self.bench.every_command() {
            match command {
                Command::Spawn {
                    slot,
                    worker,
                    bundle,
                } => {
                    let others = self
                        .bench
                        .scheduler
                        .snapshot()
                        .filter(|view| view.id == slot);
                    assert_eq!(others.count(), 1);
                    let actor = Actor {
                        bundle,
                        device: slot.device,
                        ready: false,
                        asked_to_stop: false,
                        attempts: Vec::new(),
                        cancels: BTreeSet::new(),
                        paused: BTreeSet::new(),
                        more: false,
                    };
                    assert!(
                        self.actors.insert(worker, actor).is_none(),
                        "a worker is spawned once"
                    );
                }
                Command::Refuse { .. } => {}
                Command::Store { id } => {
                    self.held.push(id);
                    self.accepted.insert(id);
                    self.waiting.accepted(id);
                }
                Command::Generate {
                    worker,
                    attempt,
                    more,
                } => self.generate(worker, attempt, more),
                Command::Pause { worker, attempt } => {
                    let actor = self.actors.get_mut(&worker).unwrap();
                    assert!(actor.attempts.iter().any(|(held, _)| *held == attempt));
                    assert!(actor.paused.insert(attempt), "it is paused once");
                    assert_eq!(self.works[&attempt.job].priority, Priority::Batch);
                }
                Command::Resume { worker, attempt } => {
                    let actor = self.actors.get_mut(&worker).unwrap();
                    assert!(actor.paused.remove(&attempt), "it was paused");
                }
                Command::Cancel { worker, attempt } => {
                    self.actors
                        .get_mut(&worker)
                        .unwrap()
                        .cancels
                        .insert(attempt);
                }
                Command::Stop { worker } => {
                    let actor = self.actors.get_mut(&worker).unwrap();
                    assert!(actor.attempts.is_empty(), "a victim has no work on it");
                    actor.asked_to_stop = true;
                }
                Command::Ping { .. } | Command::Abandon { .. } => {}
                Command::Kill { worker, .. } => {
                    assert!(self.actors.contains_key(&worker));
                    assert!(self.killed.insert(worker), "a worker is killed once");
                }
                Command::Encode { attempt } => self.encoding.push(attempt),
                Command::Discard { .. } => {}
                Command::Update { change } => {
                    assert!(!self.ended.contains(&change.id), "nothing follows an end");
                    assert!(!change.status.is_terminal());
                    let work = &self.works[&change.id];
                    match change.status {
                        JobStatus::Queued => self.waiting.enters(work),
                        JobStatus::Starting => {
                            self.waiting.begins(work, &self.works, self.pool.strict);
                        }
                        _ => {}
                    }
                }
                Command::End { id, .. } => {
                    assert!(self.ended.insert(id), "a job ends once");
                    self.waiting.leaves(&self.works[&id]);
                }
            }
        }
    }

    fn generate(&mut self, worker: WorkerId, attempt: AttemptId, more: bool) {
        let work = &self.works[&attempt.job];
        let actor = self.actors.get_mut(&worker).unwrap();
        assert!(
            actor.ready && !actor.asked_to_stop,
            "work goes to workers that can take it"
        );
        assert_eq!(actor.bundle, work.bundle);
        assert!(
            self.pool.continuous || actor.more || actor.attempts.is_empty(),
            "nobody joins a formed batch that has begun"
        );
        assert!(!(more && self.pool.continuous), "joins are one by one");
        actor.more = more;
        actor.attempts.push((attempt, false));
        let load = actor.attempts.len() - actor.paused.len();
        assert!(load <= self.pool.batch_max.min(3) as usize);
        if work.priority == Priority::Realtime {
            for paused in &actor.paused {
                let times = self.preempted.entry(*paused).or_default();
                *times += 1;
                assert!(*times <= self.pool.strict, "{paused} is paused too often");
            }
        }
    }

    /// What the processes on a device hold.
    fn footprint(&self, device: DeviceId) -> u64 {
        let workers = self.actors.values();
        let on_device = workers.filter(|actor| actor.device == device).count() as u64;
        on_device.min(1) * WEIGHTS + on_device * PRIVATE
    }

    fn check(&self) {
        for device in 0..self.pool.devices {
            let device = DeviceId(u32::try_from(device).unwrap());
            assert!(
                self.pool.memory_bytes == 0
                    || self.pool.grows
                    || self.footprint(device) <= self.pool.memory_bytes,
                "{device:?} is over its memory"
            );
        }
        assert!(
            self.actors.values().all(|actor| !actor.more),
            "a batch is given as a whole"
        );
        let views: Vec<_> = self.bench.scheduler.snapshot().collect();
        let mut running = BTreeSet::new();
        for view in &views {
            for attempt in &view.attempts {
                assert!(running.insert(attempt.job), "{attempt} runs twice at once");
            }
        }
        for job in self.bench.scheduler.waiting() {
            assert!(
                !running.contains(&job) && !self.ended.contains(&job),
                "{job} waits and is elsewhere too"
            );
        }
        let processes = views.iter().filter(|view| view.worker.is_some()).count();
        assert_eq!(processes, self.actors.len(), "every process is in a slot");
        let places = (self.pool.k + u32::from(self.pool.standby)) as usize * self.pool.devices;
        assert_eq!(views.len(), places);
    }

    /// The faults stop: everything that was accepted must end, and then nothing may be waited for.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            while let Some(id) = self.held.pop() {
                self.waiting.enters(&self.works[&id]);
                self.bench.stored(id, true);
                self.obey();
            }
            let workers: Vec<_> = self.actors.keys().copied().collect();
            let mut moved = !self.encoding.is_empty();
            for worker in workers {
                let event = if self.killed.contains(&worker) {
                    Some(self.exit(worker))
                } else {
                    self.go_on(worker)
                };
                if let Some(event) = event {
                    moved = true;
                    self.bench.put(Input::Worker { worker, event });
                    self.obey();
                }
            }
            while let Some(attempt) = self.encoding.pop() {
                self.bench.encoded(attempt, Ok(()));
                self.obey();
            }
            if !moved && self.bench.scheduler.poll_timeout().is_none() {
                break;
            }
            if !moved {
                self.bench.pass(Duration::from_secs(61));
                self.obey();
            }
            self.check();
        }
        let left: Vec<_> = self.accepted.difference(&self.ended).collect();
        let slots: Vec<_> = self.bench.scheduler.snapshot().collect();
        assert!(left.is_empty(), "{left:?} never end: {slots:#?}");
    }

    /// No job is left, so nothing is on its way anywhere and no timer is armed.
    fn check_idle(&self) {
        let idle = |phase| matches!(phase, SlotPhase::Idle | SlotPhase::Vacant);
        let scheduler = &self.bench.scheduler;
        assert!(scheduler.snapshot().all(|view| idle(view.phase)));
        assert_eq!(
            scheduler.poll_timeout(),
            None,
            "an idle pool waits for nothing"
        );
    }
}

fn pick<T: Copy>(items: &[T], which: usize) -> Option<T> {
    items.get(which.checked_rem(items.len())?).copied()
}

fn take<T>(items: &mut Vec<T>, which: usize) -> Option<T> {
    which
        .checked_rem(items.len())
        .map(|index| items.remove(index))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("REEL_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_job_is_lost_and_none_runs_twice(steps in steps(), pool in pools()) {
        let mut world = World::new(pool);
        for step in &steps {
            world.apply(step);
        }
        world.settle();
        world.check_idle();
    }
}
