//! Batches of engines that cannot take in attempts later: formed before they begin.
//!
//! The first attempt waits for more of its lane: not at all, or up to
//! [`batch_delay`](crate::Config::batch_delay), and never where more would not pay.

use crate::carried::Activity;
use crate::command::Command;
use crate::config::Batching;
use crate::scheduler::Scheduler;
use crate::timer::Timer;
use std::time::Instant;

impl Scheduler {
    /// An attempt on this worker begins when its batch does.
    pub(crate) fn forms_batches(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        let engine = slot.ready().map(|ready| ready.engine);
        self.config.batching != Batching::Off
            && engine.is_some_and(|engine| !engine.continuous)
            && self.batch_max(index) > 1
    }

    /// Everything that could join at once has: batches begin, unless they wait for more.
    pub(crate) fn begin_batches(&mut self, now: Instant) {
        for index in std::mem::take(&mut self.forming) {
            let id = self.slots[index].id;
            if self.waits_for_more(index) {
                self.timers
                    .start(Timer::Form(id), now + self.config.batch_delay);
            } else {
                self.begin_batch(index, now);
            }
        }
    }

    /// The batch could be larger, and nobody measured that this would not pay.
    fn waits_for_more(&self, index: usize) -> bool {
        let Some(ready) = self.slots[index].ready() else {
            return false;
        };
        let (load, bundle) = (ready.load(), ready.bundle);
        let more = load < self.batch_max(index) && ready.lane().is_some();
        more && !self.config.batch_delay.is_zero() && self.pays(bundle, load)
    }

    /// Gives a worker the attempts that waited for each other.
    pub(crate) fn begin_batch(&mut self, index: usize, now: Instant) {
        let slot = &self.slots[index];
        let Some(ready) = slot.ready() else { return };
        let (id, worker) = (slot.id, ready.worker);
        let forming = ready.carried.iter();
        let forming = forming.filter(|carried| carried.activity == Activity::Forming);
        let attempts: Vec<_> = forming.map(|carried| carried.attempt).collect();
        self.timers.stop(Timer::Form(id));
        self.alter_ready(index, |ready| {
            for carried in &mut ready.carried {
                if carried.activity == Activity::Forming {
                    carried.activity = Activity::Waking;
                    carried.together = attempts.len() > 1;
                }
            }
        });
        self.watch(index, now);
        for (place, &attempt) in attempts.iter().enumerate() {
            if let Some(entry) = self.jobs.get_mut(&attempt.job) {
                // It has begun: no time to begin binds it any more.
                entry.begin_by = None;
            }
            let more = place + 1 < attempts.len();
            self.commands.push_back(Command::Generate {
                worker,
                attempt,
                more,
            });
        }
    }
}
