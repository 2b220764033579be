//! A recorded run in the figures of a simulated one, and as traffic to try otherwise.

use crate::report::{Report, Tally};
use crate::sharing::Sharing;
use crate::traffic::Arrival;
use crate::world::{BundleCost, Scenario, batch_share};
use reel_domain::{BundleKey, JobId};
use reel_recording::read::Event;
use reel_recording::{ReadError, Recording};
use reel_scheduler::{
    Command, DecisionHash, Input, Profile, Scheduler, Work, WorkerEvent, WorkerId,
};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// What a bundle is taken to cost that nobody measured in the recording.
const UNMEASURED: Duration = Duration::from_secs(1);
/// Steps of an attempt; in a recording only their ends are seen.
const STEPS: u32 = 20;
/// What a recording says.
#[derive(Debug, Clone)]
pub struct Observed {
    /// What happened.
    pub report: Report,
    /// The same pool and the same jobs, to be run with other bounds.
    pub scenario: Scenario,
    /// By bundle: a spawn and a job were seen, so that its costs are measured.
    pub measured: Vec<bool>,
}

/// Reads a recording to its end.
///
/// # Errors
/// When it is damaged.
pub fn observe(mut recording: Recording) -> Result<Observed, ReadError> {
    let begun = Instant::now();
    let header = recording.header().clone();
    let mut observer = Observer::new(&header.menu);
    let mut scheduler = Scheduler::new(header.config.clone(), &header.devices, header.menu.clone());
    while let Some(event) = recording.next_event()? {
        let Event::Input(at, input) = event else {
            continue;
        };
        observer.sees(at, &input);
        scheduler.handle(*input, begun + at);
        while let Some(command) = scheduler.poll_command() {
            observer.decisions.add(&command);
            observer.does(at, &command);
        }
    }
    let measured = observer.measured();
    let scenario = Scenario {
        config: header.config,
        devices: header.devices,
        menu: observer.costs(&scheduler),
        batch_max: observer.batch_max,
        arrivals: observer.arrivals,
    };
    let report = observer.tally.report(
        &scenario,
        scheduler.counters(),
        observer.last,
        observer.decisions,
        begun.elapsed(),
    );
    Ok(Observed {
        report,
        scenario,
        measured,
    })
}

#[derive(Debug)]
struct Observer {
    menu: Vec<BundleKey>,
    places: HashMap<BundleKey, usize>,
    arrivals: Vec<Arrival>,
    jobs: HashMap<JobId, usize>,
    tally: Tally,
    decisions: DecisionHash,
    batch_max: u32,
    last: Duration,
    spawning: BTreeMap<WorkerId, Spawn>,
    hot: BTreeMap<WorkerId, usize>,
    sharing: Sharing,
    spawns: Vec<Mean>,
}

#[derive(Debug, Clone, Copy)]
struct Spawn {
    bundle: usize,
    since: Duration,
    /// The bundle had a worker already.
    more: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: Duration,
    count: u32,
}

impl Observer {
    fn new(menu: &[BundleKey]) -> Self {
        Self {
            menu: menu.to_vec(),
            places: menu.iter().cloned().zip(0..).collect(),
            arrivals: Vec::new(),
            jobs: HashMap::new(),
            tally: Tally::new(0),
            decisions: DecisionHash::default(),
            batch_max: 1,
            last: Duration::ZERO,
            spawning: BTreeMap::new(),
            hot: BTreeMap::new(),
            sharing: Sharing::new(menu.len()),
            spawns: vec![Mean::default(); menu.len()],
        }
    }

    fn sees(&mut self, at: Duration, input: &Input) {
        self.last = at;
        self.tally.events += 1;
        match input {
            Input::Submit(work) | Input::Restore { work, .. } => self.arrives(at, work),
            Input::Worker { worker, event } => self.hears(at, *worker, event),
            _ => {}
        }
    }

    fn arrives(&mut self, at: Duration, work: &Work) {
        let Some(&bundle) = self.places.get(&work.bundle) else {
            return;
        };
        self.jobs.insert(work.id, self.arrivals.len());
        self.tally.adds(at);
        self.tally
            .finds(self.hot.values().any(|&hot| hot == bundle));
        self.arrivals.push(Arrival {
            at,
            bundle,
            tenant: work.tenant.clone(),
            priority: work.priority,
            merge: work.merge,
            session: work.session,
        });
    }

    fn hears(&mut self, at: Duration, worker: WorkerId, event: &WorkerEvent) {
        match event {
            WorkerEvent::Ready { engine } => {
                self.batch_max = self.batch_max.max(engine.batch_max);
                if let Some(spawn) = self.spawning.remove(&worker) {
                    self.spawns[spawn.bundle].add(at - spawn.since);
                    self.tally.spends(at - spawn.since, spawn.more);
                    self.hot.insert(worker, spawn.bundle);
                }
            }
            WorkerEvent::Finished { attempt } => {
                self.sharing.finishes(at, worker, *attempt);
                self.rests(at, worker);
            }
            WorkerEvent::Cancelled { attempt } | WorkerEvent::Failed { attempt, .. } => {
                self.sharing.leaves(at, worker, *attempt);
                self.rests(at, worker);
            }
            WorkerEvent::SpawnFailed | WorkerEvent::Exited(_) => {
                self.spawning.remove(&worker);
                self.hot.remove(&worker);
                self.sharing.ends(at, worker);
                self.tally.busy_ends(at, worker, true);
            }
            WorkerEvent::Started { .. }
            | WorkerEvent::Progress { .. }
            | WorkerEvent::Measured { .. }
            | WorkerEvent::Booting { .. }
            | WorkerEvent::Answered
            | WorkerEvent::Died
            | WorkerEvent::Broken { .. } => {}
        }
    }

    /// A worker may have no work left.
    fn rests(&mut self, at: Duration, worker: WorkerId) {
        let idle = self.sharing.is_idle(worker);
        self.tally.busy_ends(at, worker, idle);
    }

    fn does(&mut self, at: Duration, command: &Command) {
        match command {
            Command::Refuse { .. } => self.tally.rejections += 1,
            Command::Spawn {
                slot,
                worker,
                bundle,
            } => {
                let bundle = self.places[bundle];
                self.sharing.spawns(*worker, slot.device.0, bundle);
                self.spawns(*worker, bundle, at);
            }
            Command::Generate {
                worker, attempt, ..
            } => {
                self.sharing.joins(at, *worker, *attempt);
                if let Some(&job) = self.jobs.get(&attempt.job) {
                    self.tally.begins(job, at, *worker);
                }
            }
            Command::Pause { worker, attempt } => {
                self.sharing.set_paused(at, *worker, *attempt, true);
            }
            Command::Resume { worker, attempt } => {
                self.sharing.set_paused(at, *worker, *attempt, false);
            }
            Command::Stop { worker } | Command::Kill { worker, .. } => {
                self.spawning.remove(worker);
                self.hot.remove(worker);
            }
            Command::End { .. } => self.tally.ends(),
            _ => {}
        }
    }

    fn spawns(&mut self, worker: WorkerId, bundle: usize, since: Duration) {
        let starting = self.spawning.values().map(|spawn| spawn.bundle);
        let more = starting
            .chain(self.hot.values().copied())
            .any(|of| of == bundle);
        let spawn = Spawn {
            bundle,
            since,
            more,
        };
        self.spawning.insert(worker, spawn);
        self.tally.spawns();
    }

    fn measured(&self) -> Vec<bool> {
        let spawns = self.spawns.iter().enumerate();
        spawns
            .map(|(place, spawns)| spawns.count > 0 && self.sharing.alone(place, 0.0).is_some())
            .collect()
    }

    fn costs(&self, scheduler: &Scheduler) -> Vec<BundleCost> {
        let costs = self.menu.iter().enumerate().map(|(place, key)| {
            let profile = scheduler.profile(key).unwrap_or_default();
            let share = batch_share(&profile);
            let Profile {
                weights_bytes,
                private_bytes,
                ..
            } = profile;
            BundleCost {
                key: key.clone(),
                spawn: self.spawns[place].mean(),
                service: self.sharing.alone(place, share).unwrap_or(UNMEASURED),
                steps: STEPS,
                batch_share: share,
                weights_bytes,
                private_bytes,
            }
        });
        costs.collect()
    }
}

impl Mean {
    fn add(&mut self, time: Duration) {
        self.sum += time;
        self.count += 1;
    }

    fn mean(self) -> Duration {
        match self.count {
            0 => UNMEASURED,
            count => self.sum / count,
        }
    }
}
