//! Jobs to workers.
//!
//! A READY worker takes the first waiting job of its bundle; one that has work is joined where the batch
//! allows it and where that pays; batch work is paused for realtime work. Whoever is passed by is counted, and
//! what is counted is bounded.

use crate::bundle::BundleIx;
use crate::carried::{Activity, Carried};
use crate::command::WorkerId;
use crate::config::Batching;
use crate::jobs::waiting;
use crate::line::{Rank, Waiting, Wanted};
use crate::scheduler::Scheduler;
use crate::timer::Timer;
use crate::work::{Lane, Place};
use reel_domain::{JobId, JobStatus, Priority, SessionId, Stage};
use std::time::Instant;

/// A join that did not pay is tried again after so many refusals: the load may have changed.
pub(crate) const RETRY_UNPROFITABLE: u64 = 256;

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
            self.begin_batches(now);
            if std::mem::take(&mut self.reserved_due) {
                self.enter_reserved(now);
            }
            self.claim(now);
            if std::mem::take(&mut self.fill_due) {
                self.fill(now);
            }
            let claims = self.claims_due || !self.claimants.is_empty() || !self.idled.is_empty();
            let due = claims || self.fill_due || self.reserved_due;
            if self.touched.is_empty() && !due {
                return;
            }
        }
    }

    /// A tenant's oldest job is gone: what waited behind it may be served, by workers that nothing else wakes.
    fn look_at_what_is_shown(&mut self) {
        for bundle in self.line.take_shown() {
            self.touched.insert(bundle);
            self.claimants.insert(bundle);
        }
    }

    /// Gives one waiting job of a bundle to a worker.
    fn match_one(&mut self, bundle: BundleIx, now: Instant) -> bool {
        if !self.places.of(bundle).idle.is_empty() {
            let Some((rank, id)) = self.line.first(Wanted::Any(bundle)) else {
                return false;
            };
            let Some(slot) = self.best_idle(bundle, id) else {
                return false;
            };
            if self.menu[bundle].passed_by_joins.0 == Some(id) {
                self.menu[bundle].passed_by_joins = (None, 0);
            }
            self.start(slot, id, rank, now);
            return true;
        }
        let Some((rank, id, slot)) = self.best_join(bundle) else {
            return self.preempt(bundle, now);
        };
        if self.passes_by_too_often(bundle, id) {
            self.counters.not_merged.fenced += 1;
            return self.preempt(bundle, now);
        }
        self.counters.merges += 1;
        self.start(slot, id, rank, now);
        true
    }

    /// The idle worker that served the session of a job last, or any.
    fn best_idle(&self, bundle: BundleIx, id: JobId) -> Option<usize> {
        let idle = &self.places.of(bundle).idle;
        let entry = self.jobs.get(&id)?;
        let home = entry.work.session.and_then(|session| self.home(session));
        if let Some(home) = home.filter(|home| idle.contains(home)) {
            return Some(home);
        }
        idle.first().copied()
    }

    /// The slot of the worker that served a session last, if that worker lives.
    fn home(&self, session: SessionId) -> Option<usize> {
        self.workers.get(&self.homes.of(session)?).copied()
    }

    /// The waiting job that should join a worker of its bundle, and which worker.
    fn best_join(&mut self, bundle: BundleIx) -> Option<(Rank, JobId, usize)> {
        if self.config.batching == Batching::Off || !self.line.has(bundle) {
            return None;
        }
        let lanes: Vec<Lane> = self.places.of(bundle).joinable.keys().copied().collect();
        let mut best: Option<(Rank, JobId, usize)> = None;
        for lane in lanes {
            let Some((rank, id)) = self.line.first(Wanted::Lane(bundle, lane)) else {
                self.count_misfit(bundle);
                continue;
            };
            let Some((load, slot)) = self.affordable(bundle, lane, id) else {
                self.counters.not_merged.too_costly += 1;
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

    /// The least loaded worker of a lane whose cost budget has room for a job.
    fn affordable(&self, bundle: BundleIx, lane: Lane, id: JobId) -> Option<(u32, usize)> {
        let slots = self.places.of(bundle).joinable.get(&lane)?;
        let affords = |(_, slot): &&(u32, usize)| self.affords(*slot, id);
        slots.iter().find(affords).copied()
    }

    /// Nothing that waits can join: because its clients want it alone, or because it does not match.
    fn count_misfit(&mut self, bundle: BundleIx) {
        let first = self.line.first(Wanted::Any(bundle));
        let place = first.and_then(|(_, id)| Some(self.jobs.get(&id)?.place));
        match place {
            Some(Place::Queued(None)) => self.counters.not_merged.alone += 1,
            _ => self.counters.not_merged.incompatible += 1,
        }
    }

    /// The cost budget of a worker's batch has room for one more job.
    fn affords(&self, slot: usize, id: JobId) -> bool {
        let Some(ready) = self.slots[slot].ready() else {
            return false;
        };
        let spent: u64 = ready.batch().map(|carried| carried.cost).sum();
        let cost = self.jobs.get(&id).map_or(0, |entry| entry.work.cost);
        spent.saturating_add(cost) <= self.cap(slot, ready.bundle).cost_max
    }

    /// One more in a batch of `load` makes more videos per second, or nobody knows yet.
    pub(crate) fn pays(&self, bundle: BundleIx, load: u32) -> bool {
        let Batching::Profit { gain_permille } = self.config.batching else {
            return true;
        };
        let gain = self.menu[bundle].gain_permille(load as usize);
        gain.is_none_or(|gain| gain >= 1_000 + gain_permille)
    }

    /// It pays, or it has not been tried for a while.
    fn join_pays(&mut self, bundle: BundleIx, load: u32) -> bool {
        if self.pays(bundle, load) {
            return true;
        }
        let refused = self.counters.not_merged.no_gain;
        let tries = refused >= self.next_trial;
        if tries {
            self.next_trial = refused + RETRY_UNPROFITABLE;
        }
        tries
    }

    /// A join past the first waiting job: allowed, but not for ever, or a job that cannot join would starve.
    fn passes_by_too_often(&mut self, bundle: BundleIx, joins: JobId) -> bool {
        let first = self.line.first(Wanted::Any(bundle)).map(|(_, id)| id);
        let (of, passed) = &mut self.menu[bundle].passed_by_joins;
        if first == Some(joins) {
            return false;
        }
        if *of != first {
            (*of, *passed) = (first, 0);
        }
        *passed = passed.saturating_add(1);
        *passed > self.config.overtakes_max
    }

    /// Begins an attempt at a waiting job on a worker that has room for it.
    pub(crate) fn start(&mut self, index: usize, id: JobId, rank: Rank, now: Instant) {
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
        let (attempt, session) = (entry.attempt(), entry.work.session);
        let carried = Carried {
            attempt,
            lane: waiting.lane,
            priority: entry.work.priority,
            cost: entry.work.cost,
            activity: Activity::Forming,
            pending: (Stage::Encode, 0),
            marked: now,
            preempted: 0,
            together: false,
        };
        self.timers.stop(Timer::Begin(id));
        if let Some(session) = session {
            self.settle_session(session, worker);
        }
        self.count_overtaken(waiting.bundle, rank);
        self.charge(&waiting);
        if waiting.priority == Priority::Realtime {
            self.count_preempted(index);
        }
        self.carry(index, carried, now);
        self.update(id, JobStatus::Starting, Some(slot));
        if self.forms_batches(index) {
            self.forming.insert(index);
        } else {
            self.begin_batch(index, now);
        }
    }

    /// Takes a job out of the line; its tenant pays for it.
    fn charge(&mut self, waiting: &Waiting) {
        let weights = &self.config.weights;
        let weight = weights.get(&waiting.tenant).copied().unwrap_or(1);
        let cost = self.menu[waiting.bundle].profile.service_us / 1_000;
        self.line.serve(waiting, cost, weight);
        self.one_waits_less();
    }

    fn carry(&mut self, index: usize, carried: Carried, now: Instant) {
        self.alter_ready(index, |ready| {
            ready.carried.push(carried);
            ready.used = now;
            ready.pulse = None;
        });
    }

    /// A session goes on with this worker.
    fn settle_session(&mut self, session: SessionId, worker: WorkerId) {
        let before = self.homes.of(session);
        let lives = before.is_some_and(|before| self.workers.contains_key(&before));
        self.counters.sessions_moved += u64::from(lives && before != Some(worker));
        self.homes.settle(session, worker, self.config.sessions_max);
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
