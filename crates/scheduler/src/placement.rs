//! Who runs where.
//!
//! From the head of the queue, as far as the look-past allows: a job goes to a worker that is hot for it;
//! if none is hot or coming, a place is found for one: an empty slot, a slot that only waits to respawn
//! something nobody wants, or the idle worker that was used longest ago. Slots that nobody needs are then
//! filled with the menu, in its order, so that first requests find a hot worker.

use crate::command::Command;
use crate::job::Place;
use crate::scheduler::Scheduler;
use crate::slot::State;
use crate::timer::Timer;
use reel_domain::{BundleKey, JobId, JobStatus};
use std::collections::BTreeSet;
use std::time::Instant;

impl Scheduler {
    /// Gives work to workers, and workers to slots.
    pub(crate) fn place(&mut self, now: Instant) {
        if self.draining {
            return;
        }
        // Jobs whose bundle is still being baked are not in the way of others.
        let head: Vec<JobId> = self
            .queue
            .iter()
            .filter(|id| self.can_serve(&self.jobs[id].job.bundle, now))
            .take(self.config.look_past_max + 1)
            .collect();
        // Bundles that earlier jobs wait for: their workers are not evicted for later jobs, and a later
        // job does not take what an earlier one of the same bundle could not get.
        let mut wanted = BTreeSet::new();
        for id in head {
            let key = self.jobs[&id].job.bundle.clone();
            if wanted.contains(&key) || self.start(id, &key, now) {
                continue;
            }
            self.make_room(&key, &wanted, now);
            wanted.insert(key);
        }
        self.fill(now);
    }

    fn can_serve(&self, key: &BundleKey, now: Instant) -> bool {
        self.bundle(key).is_some_and(|bundle| bundle.can_spawn(now))
            || self.slots.iter().any(|slot| slot.serves() == Some(key))
    }

    /// Gives a waiting job to a hot worker, if one has room.
    fn start(&mut self, id: JobId, key: &BundleKey, now: Instant) -> bool {
        let limit = self.config.batch_max;
        // An idle worker before one that would carry several.
        let index = (0..self.slots.len())
            .filter(|&index| self.slots[index].has_room_for(key, limit))
            .min_by_key(|&index| self.slots[index].attempts().len());
        let Some(index) = index else { return false };
        let Some(entry) = self.jobs.get_mut(&id) else {
            return false;
        };
        let slot = &mut self.slots[index];
        let Some(worker) = slot.worker() else {
            return false;
        };
        entry.attempts += 1;
        entry.place = Place::Placed {
            slot: slot.id,
            worker,
            started: false,
        };
        let (attempt, job) = (entry.attempt(), Box::new(entry.job.clone()));
        self.queue.remove(entry.ticket);
        slot.take(attempt);
        let slot = slot.id;
        self.timers
            .set(Timer::Progress(slot), now + self.config.progress_deadline);
        self.update(id, JobStatus::Starting, Some(slot));
        self.commands.push_back(Command::Generate {
            worker,
            attempt,
            job,
        });
        true
    }

    /// Sees to it that a worker for `key` comes, unless one is there or coming.
    fn make_room(&mut self, key: &BundleKey, wanted: &BTreeSet<BundleKey>, now: Instant) {
        let coming = self
            .slots
            .iter()
            .any(|slot| slot.is_coming() && slot.serves() == Some(key));
        let can_spawn = self.bundle(key).is_some_and(|bundle| bundle.can_spawn(now));
        if coming || !can_spawn {
            return;
        }
        if let Some(index) = self.empty_slot(key, wanted) {
            self.spawn(index, key.clone(), now);
        } else if let Some(index) = self.victim(key, wanted) {
            self.stop(index, Some(key.clone()), now);
        }
    }

    /// A slot without a process that nobody else counts on, on a device that does not serve `key` yet.
    fn empty_slot(&self, key: &BundleKey, wanted: &BTreeSet<BundleKey>) -> Option<usize> {
        let free = |index: &usize| match &self.slots[*index].state {
            State::Vacant => true,
            State::Backoff { bundle } => !wanted.contains(bundle),
            _ => false,
        };
        (0..self.slots.len())
            .filter(|&index| !self.device_serves(index, key))
            .find(free)
    }

    /// The idle worker that was used longest ago, unless somebody waits for its bundle.
    fn victim(&self, key: &BundleKey, wanted: &BTreeSet<BundleKey>) -> Option<usize> {
        let idle_since = |index: usize| match &self.slots[index].state {
            State::Idle { bundle, since, .. } if !wanted.contains(bundle) => Some((*since, index)),
            _ => None,
        };
        (0..self.slots.len())
            .filter(|&index| !self.device_serves(index, key))
            .filter_map(idle_since)
            .min()
            .map(|(_, index)| index)
    }

    /// A second worker of one bundle on one device would only take the first one's share.
    fn device_serves(&self, index: usize, key: &BundleKey) -> bool {
        let device = self.slots[index].id.device;
        self.slots
            .iter()
            .any(|slot| slot.id.device == device && slot.serves() == Some(key))
    }

    /// Spawns the menu, in its order, into slots that stay empty otherwise.
    fn fill(&mut self, now: Instant) {
        let cold: Vec<BundleKey> = self
            .bundles
            .iter()
            .filter(|bundle| bundle.can_spawn(now))
            .filter(|bundle| {
                !self
                    .slots
                    .iter()
                    .any(|slot| slot.serves() == Some(&bundle.key))
            })
            .map(|bundle| bundle.key.clone())
            .collect();
        for key in cold {
            let vacant = self
                .slots
                .iter()
                .position(|slot| matches!(slot.state, State::Vacant));
            let Some(index) = vacant else { return };
            self.spawn(index, key, now);
        }
    }
}
