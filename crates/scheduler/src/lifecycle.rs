//! What the events of workers mean: the slot machine's transitions, and what becomes of the work in a slot.

use crate::WorkerId;
use crate::bundle::{BundleIx, VISIT};
use crate::command::Command;
use crate::config::Eviction;
use crate::input::{EngineFacts, WorkerEvent};
use crate::jobs::waiting;
use crate::scheduler::Scheduler;
use crate::slot::{Ending, Leaving, Ready, State};
use crate::timer::Timer;
use crate::watchdog::Mark;
use crate::work::{Entry, Place};
use reel_domain::{
    AttemptId, BootFailure, BootPhase, Breach, DeviceId, Failure, FailureCode, Fault, JobStatus,
    Outcome, Silence, Stage,
};
use std::time::{Duration, Instant};

impl Scheduler {
    pub(crate) fn worker_says(&mut self, worker: WorkerId, event: WorkerEvent, now: Instant) {
        let Some(&index) = self.workers.get(&worker) else {
            self.counters.stale_events += 1;
            return;
        };
        if let Some(ready) = self.slots[index].ready_mut() {
            (ready.heard, ready.pinged) = (now, None);
        }
        match event {
            WorkerEvent::SpawnFailed => self.exited(index, false, now),
            WorkerEvent::Exited(report) => self.exited(index, report.memory_held, now),
            WorkerEvent::Booting { phase } => self.booting(index, phase, now),
            WorkerEvent::Answered => {}
            WorkerEvent::Died => self.died(index, now),
            WorkerEvent::Ready { engine } => self.ready(index, engine, now),
            WorkerEvent::Measured { private_bytes } => self.measured(index, private_bytes, now),
            WorkerEvent::Broken { fault } => self.kill(index, fault, now),
            WorkerEvent::Started { attempt } => self.started(index, attempt, now),
            WorkerEvent::Progress { attempt, mark } => self.progressed(index, attempt, mark, now),
            WorkerEvent::Finished { attempt } => self.finished(index, attempt, now),
            WorkerEvent::Cancelled { attempt } => self.left(index, attempt, None, now),
            WorkerEvent::Failed { attempt, message } => {
                self.left(index, attempt, Some(message), now);
            }
        }
    }

    /// A start comes to its next phase, which has a deadline of its own.
    fn booting(&mut self, index: usize, reached: BootPhase, now: Instant) {
        let id = self.slots[index].id;
        match &mut self.slots[index].state {
            State::Starting { phase, .. } if *phase < reached => *phase = reached,
            _ => return self.kill_unless_leaving(index, now),
        }
        let deadline = match reached {
            BootPhase::Exec => self.config.exec_deadline,
            BootPhase::Load => self.config.boot_deadline,
            BootPhase::Canary => self.config.canary_deadline,
        };
        self.timers.set(Timer::Boot(id), now + deadline);
    }

    pub(crate) fn boot_is_due(&mut self, index: usize, now: Instant) {
        if let State::Starting { phase, .. } = self.slots[index].state {
            let how = BootFailure::Timeout;
            self.kill(index, Fault::BootFailed { phase, how }, now);
        }
    }

    fn ready(&mut self, index: usize, engine: EngineFacts, now: Instant) {
        let slot = &self.slots[index];
        let State::Starting {
            worker,
            bundle,
            since,
            ..
        } = slot.state
        else {
            return self.kill_unless_leaving(index, now);
        };
        self.timers.stop(Timer::Boot(slot.id));
        self.booted(slot.id.device, bundle, now);
        let known = &mut self.menu[bundle];
        known.learn_spawn(micros(now.saturating_duration_since(since)));
        let changed =
            std::mem::replace(&mut known.continuous, engine.continuous) != engine.continuous;
        let price = self.price(bundle);
        self.alter(index, |slot| {
            slot.price = price;
            slot.state = State::Ready(Ready {
                worker,
                bundle,
                engine: EngineFacts {
                    batch_max: engine.batch_max.max(1),
                    ..engine
                },
                carried: Vec::new(),
                leaving: Leaving::No,
                used: now,
                pulse: None,
                heard: now,
                pinged: None,
            });
        });
        if changed {
            self.line_up_again(bundle);
        }
        self.make_room_for(index, now);
        self.came_back(index, now);
    }

    /// What a bundle needs is known better now; if that is more than was thought, somebody has to go.
    fn measured(&mut self, index: usize, private_bytes: u64, now: Instant) {
        if let Some(bundle) = self.slots[index].holds() {
            self.menu[bundle].learn_memory(private_bytes);
            self.make_room_for(index, now);
            self.fail_what_fits_nowhere(bundle);
        }
    }

    /// Nobody waits for a worker that cannot be. One that is ready proves the contrary as long as it lives.
    fn fail_what_fits_nowhere(&mut self, bundle: BundleIx) {
        if let Some(reason) = self.cannot_serve(bundle) {
            self.fail_waiting(bundle, &reason);
        }
    }

    /// What a bundle's engine can do is known now: its waiting jobs share with others than was thought.
    fn line_up_again(&mut self, bundle: BundleIx) {
        self.touched.insert(bundle);
        for id in self.line.of_bundle(bundle) {
            let continuous = self.menu[bundle].continuous;
            let Some(entry) = self.jobs.get_mut(&id) else {
                continue;
            };
            let lane = entry.lane(continuous);
            if let Some(waiting) = waiting(entry) {
                self.line.change_lane(&waiting, lane);
                entry.place = Place::Queued(lane);
            }
        }
    }

    fn started(&mut self, index: usize, attempt: AttemptId, now: Instant) {
        let id = self.slots[index].id;
        let Some(entry) = self.placed(index, attempt) else {
            return;
        };
        let mut first = false;
        if let Place::Placed { started, .. } = &mut entry.place {
            first = started.is_none();
            started.get_or_insert(now);
        }
        if first {
            self.update(attempt.job, JobStatus::InProgress, Some(id));
        }
        self.alive(index, attempt, None, now);
    }

    fn progressed(&mut self, index: usize, attempt: AttemptId, mark: Mark, now: Instant) {
        if self.placed(index, attempt).is_none() {
            return;
        }
        self.alive(index, attempt, Some(mark), now);
        let step = match mark.stage {
            Stage::Denoise => mark.step,
            Stage::Encode | Stage::Decode => 0,
        };
        let Some(ready) = self.slots[index].ready_mut() else {
            return;
        };
        let size = ready.load() as usize;
        let bundle = ready.bundle;
        let pulse = ready.pulse;
        let runs = |of: AttemptId| ready.batch().any(|carried| carried.attempt == of);
        let beats = pulse.is_some_and(|(of, ..)| runs(of));
        if !runs(attempt) {
            return;
        }
        match pulse {
            Some((of, last, at, then)) if of == attempt => {
                ready.pulse = Some((attempt, step, now, size));
                if step == last + 1 && then == size {
                    let us = micros(now.saturating_duration_since(at));
                    self.menu[bundle].learn_step(size, us);
                }
            }
            Some(_) if beats => {}
            _ if step > 0 => ready.pulse = Some((attempt, step, now, size)),
            _ => {}
        }
    }

    fn finished(&mut self, index: usize, attempt: AttemptId, now: Instant) {
        let Some(entry) = self.placed(index, attempt) else {
            return;
        };
        let (cancelled, bundle, digest) = (entry.cancelled, entry.bundle, entry.work.digest);
        let place = entry.place;
        let mut carried = self.slots[index].carried().iter();
        let paused = carried.any(|carried| carried.attempt == attempt && carried.preempted > 0);
        // How long it would have taken without a pause nobody knows.
        if let Place::Placed {
            started: Some(started),
            ..
        } = place
            && !paused
        {
            let us = micros(now.saturating_duration_since(started));
            self.menu[bundle].learn_service(us);
        }
        self.decoded(index, attempt, now);
        self.settle_place(attempt);
        self.release(index, attempt, now);
        self.trusted(self.slots[index].id.device);
        self.faults.release(digest);
        if cancelled {
            self.end(attempt.job, Outcome::Cancelled);
            self.commands.push_back(Command::Discard { attempt });
        } else {
            self.update(attempt.job, JobStatus::Encoding, None);
            self.commands.push_back(Command::Encode { attempt });
        }
    }

    fn settle_place(&mut self, attempt: AttemptId) {
        if let Some(entry) = self.jobs.get_mut(&attempt.job) {
            entry.place = Place::Encoding;
            self.unsettled += 1;
        }
    }

    /// An attempt left its worker without frames: cancelled, or (with a message) failed.
    fn left(&mut self, index: usize, attempt: AttemptId, failure: Option<String>, now: Instant) {
        let Some(entry) = self.placed(index, attempt) else {
            return;
        };
        let (cancelled, budget_left) = (entry.cancelled, !entry.alone);
        let Some(message) = failure.or_else(|| cancelled.then(String::new)) else {
            // It was not asked to leave.
            return self.kill(index, Fault::Desync(Breach::Impossible), now);
        };
        let mut carried = self.slots[index].carried().iter();
        let together = carried.any(|carried| carried.attempt == attempt && carried.together);
        self.release(index, attempt, now);
        if cancelled {
            self.end(attempt.job, Outcome::Cancelled);
        } else if together && budget_left {
            // One member may have spoilt the batch for all: each is tried again by itself.
            self.requeue(attempt, true);
        } else {
            self.end(
                attempt.job,
                Outcome::Failed(Failure {
                    code: FailureCode::GenerationFailed,
                    message,
                }),
            );
        }
    }

    /// The job of an attempt that this very worker has, or a counted stale event.
    fn placed(&mut self, index: usize, attempt: AttemptId) -> Option<&mut Entry> {
        if !self.slots[index].carries(attempt) {
            self.counters.stale_events += 1;
            return None;
        }
        self.jobs.get_mut(&attempt.job)
    }

    /// A worker is done with an attempt.
    pub(crate) fn release(&mut self, index: usize, attempt: AttemptId, now: Instant) {
        let Some(bundle) = self.slots[index].ready().map(|ready| ready.bundle) else {
            return;
        };
        let (id, price) = (self.slots[index].id, self.price(bundle));
        let (leaving, idle) = self.alter(index, |slot| {
            (slot.failures, slot.price) = (0, price);
            let Some(ready) = slot.ready_mut() else {
                return (Leaving::No, false);
            };
            ready.carried.retain(|carried| carried.attempt != attempt);
            if ready.is_idle() {
                (ready.used, ready.pulse) = (now, None);
            }
            (ready.leaving, ready.is_idle())
        });
        if self.next_cancel_due(index).is_none() {
            self.timers.stop(Timer::Cancel(id));
        }
        self.resume_paused(index, now);
        // A full worker may be as full as before, but of other work: of some that can be paused.
        self.touched.insert(bundle);
        if !idle {
            return;
        }
        self.forming.remove(&index);
        for timer in [
            Timer::Form(id),
            Timer::Preempt(id),
            Timer::Progress(id),
            Timer::Heartbeat(id),
        ] {
            self.timers.stop(timer);
        }
        match leaving {
            Leaving::No if self.draining => self.stop(index, None, now),
            Leaving::No => {}
            Leaving::For(next) => {
                self.counters.evictions += u64::from(next != bundle);
                self.stop(index, Some(next), now);
            }
            Leaving::Empty => self.stop(index, None, now),
        }
    }

    /// When the next attempt that was cancelled must have left a worker.
    fn next_cancel_due(&self, index: usize) -> Option<Instant> {
        let carried = self.slots[index].carried().iter();
        carried
            .filter_map(|carried| self.jobs.get(&carried.attempt.job)?.cancel_due)
            .min()
    }

    pub(crate) fn cancel_is_due(&mut self, index: usize, now: Instant) {
        match self.next_cancel_due(index) {
            Some(due) if due > now => {
                self.timers.set(Timer::Cancel(self.slots[index].id), due);
            }
            Some(_) => self.kill(index, Fault::Hang(Silence::Cancel), now),
            None => {}
        }
    }

    /// Asks a worker without work to make room for `next`.
    pub(crate) fn stop(&mut self, index: usize, next: Option<BundleIx>, now: Instant) {
        let slot = &self.slots[index];
        let (Some(worker), Some(bundle)) = (slot.worker(), slot.holds()) else {
            return;
        };
        let ending = Ending {
            worker,
            bundle,
            next,
        };
        self.timers.stop_slot(slot.id);
        self.timers
            .set(Timer::Stop(slot.id), now + self.config.stop_grace);
        self.alter(index, |slot| slot.state = State::Stopping(ending));
        self.commands.push_back(Command::Stop { worker });
    }

    /// A message that only a worker in another state may send: the conversation is out of step.
    fn kill_unless_leaving(&mut self, index: usize, now: Instant) {
        match self.slots[index].is_ending() {
            true => self.counters.stale_events += 1,
            false => self.kill(index, Fault::Desync(Breach::Impossible), now),
        }
    }

    /// Ends a worker by force. Its jobs do not wait for the process to be gone: its results are fenced off.
    pub(crate) fn kill(&mut self, index: usize, fault: Fault, now: Instant) {
        if let Some(worker) = self.slots[index].worker()
            && !matches!(self.slots[index].state, State::Killing(_))
        {
            self.commands.push_back(Command::Kill {
                worker,
                fault: Some(fault),
            });
            self.condemn(index, now);
        }
    }

    /// A worker's process has ended, asked or not. Its place is free when nothing of it is left.
    fn died(&mut self, index: usize, now: Instant) {
        if !self.slots[index].is_ending() {
            self.condemn(index, now);
        }
    }

    /// Whatever a worker had is somebody else's from now on; its slot waits until it is gone.
    fn condemn(&mut self, index: usize, now: Instant) {
        let slot = &self.slots[index];
        let (Some(worker), Some(bundle)) = (slot.worker(), slot.holds()) else {
            return;
        };
        // Leaving too slowly says nothing about the bundle that comes next.
        let counts = !matches!(slot.state, State::Stopping(_));
        let (id, starting) = (slot.id, slot.is_starting());
        let carried = slot.carried().to_vec();
        let next = slot.serves().filter(|_| self.takes_workers(id.device));
        let ending = Ending {
            worker,
            bundle,
            next,
        };
        self.timers.stop_slot(id);
        let gone_by = now + self.config.kill_deadline;
        self.timers.set(Timer::Kill(id), gone_by);
        self.forming.remove(&index);
        self.alter(index, |slot| {
            slot.failures += u32::from(counts);
            slot.state = State::Killing(ending);
        });
        if starting {
            self.boot_failed(index, bundle, now);
        }
        self.lose(id.device, &carried, now);
    }

    /// Ends a worker that is not ready, and has done nothing wrong.
    pub(crate) fn end_start(&mut self, index: usize, now: Instant) {
        let slot = &self.slots[index];
        let State::Starting { worker, bundle, .. } = slot.state else {
            return;
        };
        let id = slot.id;
        let ending = Ending {
            worker,
            bundle,
            next: None,
        };
        self.timers.stop_slot(id);
        let gone_by = now + self.config.kill_deadline;
        self.timers.set(Timer::Kill(id), gone_by);
        self.alter(index, |slot| slot.state = State::Killing(ending));
        self.commands.push_back(Command::Kill {
            worker,
            fault: None,
        });
    }

    /// A worker does not go, whatever is done: it sits in the kernel, most often in the driver of its device.
    pub(crate) fn kill_is_due(&mut self, index: usize, now: Instant) {
        let slot = &self.slots[index];
        if let State::Killing(Ending { worker, .. }) = slot.state {
            let device = slot.id.device;
            self.commands.push_back(Command::Abandon { worker });
            self.held(worker, device, now);
        }
    }

    fn takes_workers(&self, device: DeviceId) -> bool {
        !self.draining && !self.devices[device.0 as usize].is_closed()
    }

    fn exited(&mut self, index: usize, memory_held: bool, now: Instant) {
        let slot = &self.slots[index];
        let Some(worker) = slot.worker() else { return };
        let (id, next, starting) = (slot.id, slot.serves(), slot.is_starting());
        let held = slot.holds();
        let carried = slot.carried().to_vec();
        self.timers.stop_slot(id);
        self.workers.remove(&worker);
        self.forming.remove(&index);
        // Its memory is free, and a spare slot may be.
        (self.claims_due, self.reserved_due) = (true, true);
        self.alter(index, |slot| {
            match slot.state {
                // An orderly exit clears the slate for whoever comes next; a kill was counted when it was decided.
                State::Stopping(_) => slot.failures = 0,
                State::Killing(_) => {}
                _ => slot.failures += 1,
            }
            slot.state = State::Vacant;
        });
        match memory_held {
            true => self.held(worker, id.device, now),
            false => self.freed(worker, id.device, now),
        }
        self.lose(id.device, &carried, now);
        if let Some(bundle) = held {
            self.fail_what_fits_nowhere(bundle);
        }
        let Some(bundle) = next.filter(|_| self.takes_workers(id.device)) else {
            return;
        };
        self.back_off(index, bundle, worker, now);
        if starting {
            self.boot_failed(index, bundle, now);
        }
    }

    /// An empty slot keeps its bundle: the worker comes back, at once after a first death.
    fn back_off(&mut self, index: usize, bundle: BundleIx, gone: WorkerId, now: Instant) {
        let slot = &self.slots[index];
        let pause = self.config.backoff(slot.failures, gone);
        if pause.is_zero() {
            return self.enter(index, bundle, now);
        }
        // What cannot be served any more does not come back.
        if self.menu[bundle].offer.is_some() && !self.rests(slot.id.device, bundle, now) {
            self.timers.set(Timer::Backoff(slot.id), now + pause);
            self.alter(index, |slot| slot.state = State::Backoff { bundle });
        }
    }

    pub(crate) fn backoff_over(&mut self, index: usize, now: Instant) {
        if let State::Backoff { bundle } = self.slots[index].state {
            self.enter(index, bundle, now);
        }
    }

    /// What it would cost to lose an idle worker of this bundle now: its spawn, as often as that was needed of late
    /// and once more, for what nobody has asked for yet.
    fn price(&self, bundle: BundleIx) -> u64 {
        let known = &self.menu[bundle];
        match self.config.eviction {
            Eviction::Lru => 0,
            Eviction::Priced => known.settled_spawn_us.saturating_mul(known.visits + VISIT) / VISIT,
        }
    }

    /// A job of a bundle is accepted.
    pub(crate) fn count_visit(&mut self, bundle: BundleIx) {
        let of = self.places.of(bundle);
        let waits = self.line.has(bundle) || self.parked_of(bundle).next().is_some();
        let has_work = waits || of.coming > 0 || of.idle.len() < of.ready;
        if !has_work && self.menu.count_visit(bundle) {
            self.price_again();
        }
    }

    pub(crate) fn price_again(&mut self) {
        for index in 0..self.slots.len() {
            if let Some(bundle) = self.slots[index].ready().map(|ready| ready.bundle) {
                let price = self.price(bundle);
                self.alter(index, |slot| slot.price = price);
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
