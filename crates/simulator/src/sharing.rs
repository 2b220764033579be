//! What an attempt takes that is alone on its device, from a run in which few were: the time that attempts spent is
//! kept by how many shared their worker and how many workers were busy on their device, and each such hour is worth
//! as much less.

use crate::world::slowness;
use reel_scheduler::WorkerId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Who computed with whom, and for how long.
#[derive(Debug)]
pub(crate) struct Sharing {
    workers: BTreeMap<WorkerId, Worker>,
    /// When each device was looked at last.
    seen: BTreeMap<u32, Duration>,
    /// By bundle: time of attempts, by attempts on the worker and busy workers on the device.
    spent: Vec<BTreeMap<(usize, usize), Duration>>,
    /// By bundle: attempts that were finished.
    finished: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Worker {
    device: u32,
    bundle: usize,
    /// Attempts that it computes.
    attempts: usize,
}

impl Sharing {
    pub(crate) fn new(bundles: usize) -> Self {
        Self {
            workers: BTreeMap::new(),
            seen: BTreeMap::new(),
            spent: vec![BTreeMap::new(); bundles],
            finished: vec![0; bundles],
        }
    }

    pub(crate) fn spawns(&mut self, worker: WorkerId, device: u32, bundle: usize) {
        let attempts = 0;
        self.workers.insert(
            worker,
            Worker {
                device,
                bundle,
                attempts,
            },
        );
    }

    /// One attempt more on a worker.
    pub(crate) fn joins(&mut self, at: Duration, worker: WorkerId) {
        self.change(at, worker, |worker| worker.attempts += 1);
    }

    /// One less: it left, or waits.
    pub(crate) fn leaves(&mut self, at: Duration, worker: WorkerId) {
        self.change(at, worker, |worker| {
            worker.attempts = worker.attempts.saturating_sub(1);
        });
    }

    pub(crate) fn finishes(&mut self, at: Duration, worker: WorkerId) {
        self.leaves(at, worker);
        if let Some(worker) = self.workers.get(&worker) {
            self.finished[worker.bundle] += 1;
        }
    }

    /// A worker is gone.
    pub(crate) fn ends(&mut self, at: Duration, worker: WorkerId) {
        self.change(at, worker, |worker| worker.attempts = 0);
        self.workers.remove(&worker);
    }

    /// A worker has nothing to compute.
    pub(crate) fn is_idle(&self, worker: WorkerId) -> bool {
        self.workers
            .get(&worker)
            .is_none_or(|worker| worker.attempts == 0)
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

    /// Writes down what the workers of a device did since they were looked at last.
    fn catch_up(&mut self, at: Duration, device: u32) {
        let passed = at - self.seen.insert(device, at).unwrap_or(at);
        let on_device = |worker: &&Worker| worker.device == device && worker.attempts > 0;
        let busy = self.workers.values().filter(on_device).count();
        for worker in self.workers.values().filter(on_device) {
            let times = u32::try_from(worker.attempts).unwrap_or(u32::MAX);
            let spent = &mut self.spent[worker.bundle];
            *spent.entry((worker.attempts, busy)).or_default() += passed * times;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_shared_is_worth_less() {
        let at = Duration::from_secs;
        let (one, other) = (WorkerId(1), WorkerId(2));
        let mut sharing = Sharing::new(2);
        sharing.spawns(one, 0, 0);
        sharing.spawns(other, 0, 1);
        // Ten seconds alone, then twenty beside another worker: worth ten more.
        sharing.joins(at(0), one);
        sharing.joins(at(10), other);
        sharing.finishes(at(30), one);
        assert_eq!(sharing.alone(0, 0.0), Some(at(20)));
        // The other: twenty at half speed, then two attempts that share half of each step for fifteen.
        sharing.joins(at(30), other);
        sharing.finishes(at(45), other);
        sharing.finishes(at(45), other);
        assert_eq!(sharing.alone(1, 0.5), Some(at(15)));
        assert!(sharing.is_idle(other));
    }
}
