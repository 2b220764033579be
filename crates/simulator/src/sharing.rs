//! What an attempt takes that is alone on its device, from a run in which few were: the time that attempts spent is
//! kept by how many shared their worker and how many workers were busy on their device, and each such hour is worth
//! as much less.

use crate::world::slowness;
use reel_domain::AttemptId;
use reel_scheduler::WorkerId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Who computed with whom, and for how long.
#[derive(Debug)]
pub(crate) struct Sharing {
    workers: BTreeMap<WorkerId, Worker>,
    /// When each device was looked at last.
    seen: BTreeMap<u32, Duration>,
    /// By bundle: time of the attempts that were finished.
    spent: Vec<Spent>,
    /// By bundle: attempts that were finished.
    finished: Vec<u32>,
}

#[derive(Debug)]
struct Worker {
    device: u32,
    bundle: usize,
    attempts: BTreeMap<AttemptId, Attempt>,
}

#[derive(Debug, Default)]
struct Attempt {
    paused: bool,
    spent: Spent,
}

/// Time by attempts on the worker and busy workers on the device.
type Spent = BTreeMap<(usize, usize), Duration>;

impl Worker {
    /// Attempts that it computes.
    fn load(&self) -> usize {
        let attempts = self.attempts.values();
        attempts.filter(|attempt| !attempt.paused).count()
    }
}

impl Sharing {
    pub(crate) fn new(bundles: usize) -> Self {
        Self {
            workers: BTreeMap::new(),
            seen: BTreeMap::new(),
            spent: vec![Spent::new(); bundles],
            finished: vec![0; bundles],
        }
    }

    pub(crate) fn spawns(&mut self, worker: WorkerId, device: u32, bundle: usize) {
        let attempts = BTreeMap::new();
        self.workers.insert(
            worker,
            Worker {
                device,
                bundle,
                attempts,
            },
        );
    }

    pub(crate) fn joins(&mut self, at: Duration, worker: WorkerId, attempt: AttemptId) {
        self.change(at, worker, |worker| {
            worker.attempts.insert(attempt, Attempt::default());
        });
    }

    pub(crate) fn set_paused(
        &mut self,
        at: Duration,
        worker: WorkerId,
        attempt: AttemptId,
        paused: bool,
    ) {
        self.change(at, worker, |worker| {
            if let Some(attempt) = worker.attempts.get_mut(&attempt) {
                attempt.paused = paused;
            }
        });
    }

    /// It left without frames: what it spent says nothing.
    pub(crate) fn leaves(&mut self, at: Duration, worker: WorkerId, attempt: AttemptId) {
        self.change(at, worker, |worker| {
            worker.attempts.remove(&attempt);
        });
    }

    pub(crate) fn finishes(&mut self, at: Duration, worker: WorkerId, attempt: AttemptId) {
        let mut whole = None;
        self.change(at, worker, |worker| {
            let attempt = worker.attempts.remove(&attempt);
            whole = attempt.map(|attempt| (worker.bundle, attempt.spent));
        });
        let Some((bundle, spent)) = whole else { return };
        self.finished[bundle] += 1;
        for (with, time) in spent {
            *self.spent[bundle].entry(with).or_default() += time;
        }
    }

    /// A worker is gone.
    pub(crate) fn ends(&mut self, at: Duration, worker: WorkerId) {
        self.change(at, worker, |worker| worker.attempts.clear());
        self.workers.remove(&worker);
    }

    /// A worker has nothing to compute.
    pub(crate) fn is_idle(&self, worker: WorkerId) -> bool {
        self.workers
            .get(&worker)
            .is_none_or(|worker| worker.load() == 0)
    }

    /// What an attempt of a bundle takes alone; `None`: none was finished.
    pub(crate) fn alone(&self, bundle: usize, batch_share: f64) -> Option<Duration> {
        let worth = self.spent[bundle]
            .iter()
            .map(|(&(attempts, busy), time)| time.div_f64(slowness(batch_share, attempts, busy)));
        let worth: Duration = worth.sum();
        worth.checked_div(self.finished[bundle])
    }

    fn change(&mut self, at: Duration, worker: WorkerId, change: impl FnOnce(&mut Worker)) {
        let Some(device) = self.workers.get(&worker).map(|worker| worker.device) else {
            return;
        };
        self.catch_up(at, device);
        if let Some(worker) = self.workers.get_mut(&worker) {
            change(worker);
        }
    }

    /// Writes down what the attempts of a device did since they were looked at last.
    fn catch_up(&mut self, at: Duration, device: u32) {
        let passed = at.saturating_sub(self.seen.insert(device, at).unwrap_or(at));
        let on_device = |worker: &&Worker| worker.device == device && worker.load() > 0;
        let busy = self.workers.values().filter(on_device).count();
        let workers = self.workers.values_mut();
        for worker in workers.filter(|worker| worker.device == device) {
            let load = worker.load();
            let running = worker.attempts.values_mut();
            for attempt in running.filter(|attempt| !attempt.paused) {
                *attempt.spent.entry((load, busy)).or_default() += passed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reel_domain::JobId;

    fn attempt(number: u8) -> AttemptId {
        AttemptId {
            job: JobId::from_bytes([number; 16]),
            number: 1,
        }
    }

    #[test]
    fn time_that_is_shared_is_worth_less() {
        let at = Duration::from_secs;
        let (one, other) = (WorkerId(1), WorkerId(2));
        let mut sharing = Sharing::new(2);
        sharing.spawns(one, 0, 0);
        sharing.spawns(other, 0, 1);
        // Ten seconds alone, then twenty beside another worker: worth ten more.
        sharing.joins(at(0), one, attempt(1));
        sharing.joins(at(10), other, attempt(2));
        sharing.finishes(at(30), one, attempt(1));
        assert_eq!(sharing.alone(0, 0.0), Some(at(20)));
        // The other: twenty at half speed, then fifteen in which two share half of each step.
        sharing.joins(at(30), other, attempt(3));
        sharing.finishes(at(45), other, attempt(2));
        assert_eq!(sharing.alone(1, 0.5), Some(at(20)));
        sharing.leaves(at(50), other, attempt(3));
        assert_eq!(sharing.alone(1, 0.5), Some(at(20)), "it was not finished");
        assert!(sharing.is_idle(other));
    }

    #[test]
    fn a_pause_is_not_spent() {
        let at = Duration::from_secs;
        let worker = WorkerId(1);
        let mut sharing = Sharing::new(1);
        sharing.spawns(worker, 0, 0);
        sharing.joins(at(0), worker, attempt(1));
        sharing.set_paused(at(5), worker, attempt(1), true);
        assert!(sharing.is_idle(worker));
        sharing.set_paused(at(95), worker, attempt(1), false);
        sharing.finishes(at(100), worker, attempt(1));
        assert_eq!(sharing.alone(0, 0.0), Some(at(10)));
    }
}
