//! What came of a run.

use crate::world::Scenario;
use reel_scheduler::{Counters, DecisionHash, WorkerId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Who waits less long has not waited: a job is not begun before it is durable.
const AT_ONCE: Duration = Duration::from_millis(50);

/// The figures of one run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Jobs that were asked for.
    pub jobs: usize,
    /// Of these, refused.
    pub rejections: usize,
    /// Of these, ended.
    pub ended: usize,
    /// Arrival to the start of the first attempt, of all jobs that were begun, the shortest first.
    pub waits: Vec<Duration>,
    /// Jobs that found a hot worker with room at once.
    pub at_once: usize,
    /// Jobs that found a hot worker, with work or without.
    pub hot: usize,
    /// The same by bundle, in the menu's order.
    pub bundles: Vec<OfBundle>,
    /// Workers spawned.
    pub spawns: usize,
    /// Time spent in spawns.
    pub spawning: Duration,
    /// Of that, for bundles that had a worker already: what waits less by it, no offline optimum knows.
    pub spawning_more: Duration,
    /// Time in which workers had work.
    pub busy: Duration,
    /// Virtual time from the first to the last event.
    pub span: Duration,
    /// What the scheduler counted.
    pub counters: Counters,
    /// Inputs that the scheduler handled.
    pub events: u64,
    /// Hash of every command in order.
    pub decisions: DecisionHash,
    /// Real time that the run took.
    pub wall: Duration,
}

/// The jobs of one bundle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfBundle {
    /// How many were begun.
    pub jobs: usize,
    /// Of these, those that found a hot worker.
    pub hot: usize,
    /// The middle wait of those.
    pub wait_hot: Duration,
    /// The middle wait of the others.
    pub wait_cold: Duration,
    /// All waits together.
    pub waited: Duration,
}

impl OfBundle {
    fn new(mut found: [Vec<Duration>; 2]) -> Self {
        let [cold, hot] = &mut found;
        let (wait_cold, wait_hot) = (middle(cold), middle(hot));
        Self {
            jobs: cold.len() + hot.len(),
            hot: hot.len(),
            wait_hot,
            wait_cold,
            waited: cold.iter().chain(hot.iter()).sum(),
        }
    }
}

fn middle(waits: &mut [Duration]) -> Duration {
    waits.sort_unstable();
    waits.get(waits.len() / 2).copied().unwrap_or_default()
}

impl Report {
    /// The wait that so many percent of the jobs did not exceed; 100: the longest.
    #[must_use]
    pub fn wait(&self, percent: usize) -> Duration {
        let place = self.waits.len() * percent / 100;
        let place = place.min(self.waits.len().saturating_sub(1));
        self.waits.get(place).copied().unwrap_or_default()
    }
}

/// What is written down while a run goes on.
#[derive(Debug)]
pub(crate) struct Tally {
    arrivals: Vec<Duration>,
    waits: Vec<Option<Duration>>,
    ended: usize,
    pub(crate) rejections: usize,
    pub(crate) events: u64,
    /// By job: it found a hot worker.
    hot: Vec<bool>,
    spawns: usize,
    spawning: Duration,
    spawning_more: Duration,
    busy: Duration,
    busy_since: BTreeMap<WorkerId, Duration>,
}

impl Tally {
    pub(crate) fn new(jobs: usize) -> Self {
        Self {
            arrivals: vec![Duration::ZERO; jobs],
            waits: vec![None; jobs],
            ended: 0,
            rejections: 0,
            events: 0,
            hot: Vec::with_capacity(jobs),
            spawns: 0,
            spawning: Duration::ZERO,
            spawning_more: Duration::ZERO,
            busy: Duration::ZERO,
            busy_since: BTreeMap::new(),
        }
    }

    pub(crate) fn arrives(&mut self, job: usize, at: Duration) {
        self.arrivals[job] = at;
    }

    pub(crate) fn begins(&mut self, job: usize, now: Duration, worker: WorkerId) {
        // Only the first attempt: after a retry the client has waited once.
        self.waits[job].get_or_insert(now - self.arrivals[job]);
        self.busy_since.entry(worker).or_insert(now);
    }

    pub(crate) fn busy_ends(&mut self, now: Duration, worker: WorkerId, idle: bool) {
        if idle && let Some(since) = self.busy_since.remove(&worker) {
            self.busy += now - since;
        }
    }

    /// One more job, not known before.
    pub(crate) fn adds(&mut self, at: Duration) {
        self.arrivals.push(at);
        self.waits.push(None);
    }

    /// The next job arrives while a worker of its bundle is READY, or while none is.
    pub(crate) fn finds(&mut self, hot: bool) {
        self.hot.push(hot);
    }

    fn bundles(&self, scenario: &Scenario) -> Vec<OfBundle> {
        let mut waits = vec![[Vec::new(), Vec::new()]; scenario.menu.len()];
        let jobs = scenario.arrivals.iter().zip(&self.waits).zip(&self.hot);
        for ((arrival, wait), &hot) in jobs {
            waits[arrival.bundle][usize::from(hot)].extend(*wait);
        }
        waits.into_iter().map(OfBundle::new).collect()
    }

    pub(crate) const fn ends(&mut self) {
        self.ended += 1;
    }

    pub(crate) const fn spawns(&mut self) {
        self.spawns += 1;
    }

    /// Time of one spawn; `more`: of a bundle that had a worker already.
    pub(crate) fn spends(&mut self, spawning: Duration, more: bool) {
        self.spawning += spawning;
        if more {
            self.spawning_more += spawning;
        }
    }

    pub(crate) fn report(
        self,
        scenario: &Scenario,
        counters: Counters,
        span: Duration,
        decisions: DecisionHash,
        wall: Duration,
    ) -> Report {
        let bundles = self.bundles(scenario);
        let mut waits: Vec<Duration> = self.waits.into_iter().flatten().collect();
        waits.sort_unstable();
        Report {
            jobs: scenario.arrivals.len(),
            rejections: self.rejections,
            ended: self.ended,
            at_once: waits.partition_point(|wait| *wait < AT_ONCE),
            waits,
            hot: self.hot.iter().filter(|hot| **hot).count(),
            bundles,
            spawns: self.spawns,
            spawning: self.spawning,
            spawning_more: self.spawning_more,
            busy: self.busy,
            span,
            counters,
            events: self.events,
            decisions,
            wall,
        }
    }
}
