//! Jobs to workers.
//!
//! A READY worker takes the first waiting job of its bundle; one that has work is joined where the batch
//! allows it and where that pays. Whoever is passed by is counted, and what is counted is bounded.

use crate::bundle::BundleIx;
use crate::command::Command;
use crate::config::Batching;
use crate::line::{Rank, Wanted};
use crate::scheduler::{Scheduler, waiting};
use crate::timer::Timer;
use crate::work::{Lane, Place};
use reel_domain::{JobId, JobStatus};
use std::time::Instant;

/// A join that did not pay is tried again after so many refusals: the load may have changed.
const RETRY_UNPROFITABLE: u64 = 256;

impl Scheduler {
    /// Decides until nothing is left to decide.
    pub(crate) fn settle(&mut self, now: Instant) {
        if self.draining {
            self.touched.clear();
            return;
        }
        loop {
            self.look_at_what_is_shown();
            while let Some(bundle) = self.touched.pop_first() {
                while self.match_one(bundle, now) {}
                self.look_at_what_is_shown();
            }
            if std::mem::take(&mut self.claims_due) {
                self.claim(now);
            }
            if std::mem::take(&mut self.fill_due) {
                self.fill(now);
            }
            if self.touched.is_empty() && !self.claims_due && !self.fill_due {
                return;
            }
        }
    }

    /// A tenant's oldest job is gone: what waited behind it may be served, by workers that nothing else wakes.
    fn look_at_what_is_shown(&mut self) {
        let before = self.touched.len();
        self.touched.extend(self.line.take_shown());
        self.claims_due |= self.touched.len() > before;
    }

    /// Gives one waiting job of a bundle to a worker.
    fn match_one(&mut self, bundle: BundleIx, now: Instant) -> bool {
        if let Some(&slot) = self.places.of(bundle).idle.first() {
            let Some((rank, id)) = self.line.first(Wanted::Any(bundle)) else {
                return false;
            };
            self.menu[bundle].passed_by_joins = 0;
            self.start(slot, id, rank, now);
            return true;
        }
        let Some((rank, id, slot)) = self.best_join(bundle) else {
            return false;
        };
        if self.passes_by_too_often(bundle, id) {
            self.counters.not_merged.fenced += 1;
            return false;
        }
        self.counters.merges += 1;
        self.start(slot, id, rank, now);
        true
    }

    /// The waiting job that should join a worker of its bundle, and which worker.
    fn best_join(&mut self, bundle: BundleIx) -> Option<(Rank, JobId, usize)> {
        if self.config.batching == Batching::Off || !self.line.has(bundle) {
            return None;
        }
        let batches: Vec<(Lane, u32, usize)> = self
            .places
            .of(bundle)
            .joinable
            .iter()
            .filter_map(|(&lane, slots)| slots.first().map(|&(load, slot)| (lane, load, slot)))
            .collect();
        let mut best: Option<(Rank, JobId, usize)> = None;
        for (lane, load, slot) in batches {
            let Some((rank, id)) = self.line.first(Wanted::Lane(bundle, lane)) else {
                self.counters.not_merged.incompatible += 1;
                continue;
            };
            if !self.join_pays(bundle, load) {
                self.counters.not_merged.no_gain += 1;
            } else if best.is_none_or(|(other, ..)| rank < other) {
                best = Some((rank, id, slot));
            }
        }
        best
    }

    /// One more in a batch of `load` makes more videos per second, or nobody knows yet.
    fn join_pays(&self, bundle: BundleIx, load: u32) -> bool {
        let Batching::Profit { gain_permille } = self.config.batching else {
            return true;
        };
        let gain = self.menu[bundle].gain_permille(load as usize);
        let curious =
            self.counters.not_merged.no_gain % RETRY_UNPROFITABLE == RETRY_UNPROFITABLE - 1;
        curious || gain.is_none_or(|gain| gain >= 1_000 + gain_permille)
    }

    /// A join past the first waiting job: allowed, but not for ever, or a job that cannot join would starve.
    fn passes_by_too_often(&mut self, bundle: BundleIx, joins: JobId) -> bool {
        let first = self.line.first(Wanted::Any(bundle)).map(|(_, id)| id);
        let passed = &mut self.menu[bundle].passed_by_joins;
        if first == Some(joins) {
            return false;
        }
        *passed = passed.saturating_add(1);
        *passed > self.config.overtakes_max
    }

    /// Begins an attempt at a waiting job on a worker that has room for it.
    fn start(&mut self, index: usize, id: JobId, rank: Rank, now: Instant) {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        let (Some(waiting), Some(worker)) = (waiting(entry), self.slots[index].worker()) else {
            return;
        };
        let slot = self.slots[index].id;
        entry.attempts += 1;
        entry.place = Place::Placed {
            slot,
            worker,
            started: None,
        };
        let attempt = entry.attempt();
        let weight = self
            .config
            .weights
            .get(&waiting.tenant)
            .copied()
            .unwrap_or(1);
        let cost = self.menu[waiting.bundle].profile.service_us / 1_000;
        self.count_overtaken(waiting.bundle, rank);
        self.line.serve(&waiting, cost, weight);
        self.claims_due |= !self.places.promised.is_empty();
        let due = now + self.config.progress_deadline;
        self.alter_ready(index, |ready| {
            ready.attempts.push(attempt);
            ready.lane = waiting.lane;
            ready.used = now;
            ready.progress_due = Some(due);
            ready.pulse = None;
        });
        self.timers.start(Timer::Progress(slot), due);
        self.update(id, JobStatus::Starting, Some(slot));
        self.commands
            .push_back(Command::Generate { worker, attempt });
    }

    /// A job of `started` begins: older jobs of bundles without a worker were overtaken.
    fn count_overtaken(&mut self, started: BundleIx, rank: Rank) {
        for bundle in self.menu.indices() {
            let of = self.places.of(bundle);
            if bundle == started || of.ready + of.coming > 0 || !self.line.has(bundle) {
                continue;
            }
            let Some((older, _)) = self.line.first(Wanted::Any(bundle)) else {
                continue;
            };
            // Of a more urgent class, only what came later overtakes; and it may do so more often.
            let limit = match older.priority > rank.priority {
                true if older.ticket < rank.ticket => self.config.class_overtakes_max,
                false if older < rank => self.config.overtakes_max,
                _ => continue,
            };
            let waiting = &mut self.menu[bundle];
            waiting.overtaken += 1;
            if waiting.overtaken >= limit {
                waiting.overdue = true;
                (self.claims_due, self.overtaken_too_often) = (true, true);
            }
        }
    }
}
