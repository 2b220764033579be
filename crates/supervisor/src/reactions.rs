//! What each event means to the scheduler, and to whoever waits.

use crate::attempts::millis;
use crate::driver::Supervisor;
use crate::effects::now_ms;
use crate::encode;
use crate::event::{BundleNews, Event};
use crate::jobs::{Live, POSITIONS_PUBLISHED_MAX};
use crate::memory;
use crate::work::work;
use crate::workers::{Asked, Meaning, Output, Process, Wanted, Worker, desync};
use reel_domain::{
    AttemptId, BootFailure, BootPhase, Breach, BundleKey, Failure, Fault, JobId, JobStatus, Origin,
    Rejection, Stage, Steps,
};
use reel_journal::{VideoMeta, WriteError};
use reel_pool::{DeleteError, PoolOrder, PoolRequest, Submission};
use reel_process::{ProcessEvent, SpawnerError, WorkerProcess};
use reel_protocol::{ChannelError, Checkpoint, MemoryUse, Pixels, Timings};
use reel_scheduler::{
    BundleOffer, BundleStanding, EngineFacts, Input, Mark, Order, Profile, RequestDigest,
    SlotPhase, WorkerEvent, WorkerId,
};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

impl Supervisor {
    pub(crate) fn apply(&mut self, event: Event, now: Instant) {
        match event {
            Event::Request(PoolRequest::Submit { submission, answer }) => {
                self.submit(*submission, answer, now);
            }
            Event::Request(PoolRequest::Cancel { id, answer }) => {
                self.decide(Input::Cancel { id }, now);
                // A job that has ended here may still be on its way to a terminal row.
                self.jobs.await_cancel(id, answer);
            }
            Event::Request(PoolRequest::Delete { id, answer }) => self.delete(id, answer),
            Event::Request(PoolRequest::Order { order, answer }) => {
                self.order(order, now);
                let _ = answer.send(());
            }
            Event::Stored(id, result) => self.stored(id, result, now),
            Event::Bundle(key, news) => self.bundle_changed(key, news, now),
            Event::Spawned(worker, result) => self.spawned(worker, result, now),
            Event::Process(worker, event) => self.process_event(worker, event, now),
            Event::Buried(worker, exit, held) => self.buried(worker, &exit, held, now),
            Event::Freed(worker, device) => {
                tracing::info!(%worker, "its device's memory is free again");
                self.decide(Input::Freed { worker, device }, now);
            }
            Event::Measured(worker, private_bytes) => {
                self.hear(worker, WorkerEvent::Measured { private_bytes }, now);
            }
            Event::Given(worker, attempt, pixels) => self.given(worker, attempt, pixels, now),
            Event::Prepared(attempt, prepared) => {
                // Nobody waits for it any more if the attempt has ended.
                match self.prepared.get_mut(&attempt) {
                    Some(place) => *place = prepared,
                    None => encode::abandon(prepared),
                }
            }
            Event::Encoded(attempt, result) => self.encoded(attempt, result, now),
            Event::Ended(id, result) => self.ended(id, result),
            Event::StoreEnding(id) => self.store_ending(id),
            Event::Tune(bounds) => {
                let (config, tuning) = *bounds;
                self.tune(config, tuning, now);
            }
            Event::AreYouThere(answer) => {
                let _ = answer.send(());
            }
            Event::Shutdown => self.shut_down(now),
            Event::Timeout => self.timeout(now),
        }
    }

    // --- requests ---

    fn submit(
        &mut self,
        submission: Submission,
        answer: oneshot::Sender<Result<(), Rejection>>,
        now: Instant,
    ) {
        let Submission {
            job,
            given,
            idempotency,
        } = submission;
        let (id, work) = (job.id, work(&job, now_ms()));
        self.jobs.insert(job, Some(answer), now);
        self.submitted.insert(id, (given, idempotency));
        self.decide(Input::Submit(work), now);
    }

    fn stored(&mut self, id: JobId, result: Result<(), Rejection>, now: Instant) {
        let durable = result.is_ok();
        // First the scheduler: whether a job waits, and where, is part of what is shown.
        self.queue_moved = true;
        self.decide(Input::Stored { id, durable }, now);
        match result {
            Ok(()) => self.show(id),
            Err(rejection) => {
                self.remove_files(id);
                self.space.notify_one();
                self.jobs.refused(id, rejection);
            }
        }
    }

    /// The job is durable: everybody may see it.
    fn show(&mut self, id: JobId) {
        let (estimates, state) = (&self.estimates, &self.state);
        let mut ahead = self.scheduler.waiting().take(POSITIONS_PUBLISHED_MAX);
        let position = ahead.position(|waiting| waiting == id).or_else(|| {
            // Somewhere behind those; where exactly, a walk through all of them would tell.
            let waiting = self.scheduler.waiting_len();
            (waiting > POSITIONS_PUBLISHED_MAX).then(|| waiting - 1)
        });
        self.jobs.stored(id, position, |job, progress| {
            let hot = state.borrow().is_hot(&job.bundle);
            let raw_ms = estimates.raw_ms(job, progress, hot)?;
            Some((raw_ms, estimates.corrected(raw_ms)))
        });
    }

    fn delete(&self, id: JobId, answer: oneshot::Sender<Result<(), DeleteError>>) {
        if self.jobs.get(id).is_some() {
            let _ = answer.send(Err(DeleteError::Running));
            return;
        }
        let (store, runtime) = (self.store.clone(), Handle::current());
        self.journal.delete(id, move |result| match result {
            // Not here: everybody's writes wait for this thread.
            Ok(()) => drop(runtime.spawn_blocking(move || {
                let removed = store.remove(id);
                let _ =
                    answer.send(removed.map_err(|error| DeleteError::Storage(error.to_string())));
            })),
            Err(WriteError::Unknown(_)) => drop(answer.send(Err(DeleteError::Unknown))),
            Err(error) => drop(answer.send(Err(DeleteError::Storage(error.to_string())))),
        });
    }

    fn order(&mut self, order: PoolOrder, now: Instant) {
        tracing::info!(?order, "an operator orders");
        let order = match order {
            // Only a second signal hurries: whoever sends an order again may just not have heard that it was taken.
            PoolOrder::Drain if self.scheduler.is_draining() => return,
            PoolOrder::Drain => return self.shut_down(now),
            PoolOrder::Cordon(device) => Order::Cordon(device),
            PoolOrder::Uncordon(device) => Order::Uncordon(device),
            PoolOrder::Replace(slot) => Order::Replace(slot),
            PoolOrder::Roll(device) => Order::Roll(device),
            PoolOrder::Release(case) => Order::Release(RequestDigest(case)),
        };
        self.decide(Input::Order(order), now);
    }

    // --- bundles ---

    fn bundle_changed(&mut self, key: BundleKey, news: BundleNews, now: Instant) {
        self.learn_all();
        let standing = match &news {
            BundleNews::Baked(baked) => BundleStanding::Offered(BundleOffer {
                modes: baked.modes.clone(),
                profile: Profile {
                    weights_bytes: baked.weights_bytes,
                    ..self.profiles.get(&baked.id)
                },
            }),
            BundleNews::Failed { .. } => BundleStanding::Failed,
            BundleNews::Unbaked | BundleNews::Baking { .. } => BundleStanding::Unbaked,
        };
        self.bundles.insert(key.clone(), news);
        self.decide(Input::Bundle { key, standing }, now);
    }

    // --- workers ---

    fn spawned(&mut self, id: WorkerId, result: Result<WorkerProcess, SpawnerError>, now: Instant) {
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        match result {
            Ok(process) => {
                let before = std::mem::replace(&mut worker.process, Process::Running(process));
                if let Process::Spawning { wanted } = before {
                    self.catch_up(id, wanted);
                }
            }
            Err(error) => {
                tracing::error!(worker = %id, slot = %worker.slot, %error, "the worker could not be started");
                self.metrics.count_fault(Fault::BootFailed {
                    phase: BootPhase::Exec,
                    how: BootFailure::Exit,
                });
                if let Some(worker) = self.workers.remove(id) {
                    self.forget(id, worker);
                }
                self.hear(id, WorkerEvent::SpawnFailed, now);
            }
        }
    }

    /// What was decided while the process was being made. Without work yet, stopping is ending.
    fn catch_up(&self, id: WorkerId, wanted: Wanted) {
        if wanted == Wanted::Alive {
            return;
        }
        if let Some(Process::Running(process)) = self.workers.get(id).map(|worker| &worker.process)
        {
            process.kill();
        }
    }

    fn process_event(&mut self, id: WorkerId, event: ProcessEvent, now: Instant) {
        match event {
            ProcessEvent::Message(message, fd) => {
                let Some(worker) = self.workers.get_mut(id) else {
                    return;
                };
                let meaning = worker.interpret(message, fd);
                match self.follows(id, &meaning) {
                    Ok(()) => self.heard(id, meaning, now),
                    Err(reason) => self.heard(id, desync(&reason), now),
                }
            }
            ProcessEvent::Broken(error) => {
                let breach = match error {
                    ChannelError::Closed => Breach::Closed,
                    _ => Breach::Garbage,
                };
                let (fault, reason) = (Fault::Desync(breach), error.to_string());
                self.heard(id, Meaning::Broken { fault, reason }, now);
            }
            ProcessEvent::Died(status) => self.process_died(id, status, now),
            ProcessEvent::Exited(exit) => self.exited(id, exit),
        }
    }

    /// Whether what a worker says of an attempt that it has can follow what it said before. Of attempts that it does
    /// not have, whatever it says is stale, which the scheduler counts.
    fn follows(&mut self, id: WorkerId, meaning: &Meaning) -> Result<(), String> {
        let attempt = match meaning {
            Meaning::Step { attempt, .. }
            | Meaning::Output { attempt, .. }
            | Meaning::Checkpoint { attempt, .. }
            | Meaning::NotResumed { attempt, .. } => *attempt,
            Meaning::Event(
                WorkerEvent::Started { attempt }
                | WorkerEvent::Cancelled { attempt }
                | WorkerEvent::Failed { attempt, .. },
            ) => *attempt,
            _ => return Ok(()),
        };
        if !self.scheduler.carries(id, attempt) {
            return Ok(());
        }
        let steps = self
            .jobs
            .get(attempt.job)
            .map(|live| live.job.sampling.steps);
        let Some(worker) = self.workers.get_mut(id) else {
            return Ok(());
        };
        let conversation = &mut worker.conversation;
        match meaning {
            Meaning::Event(WorkerEvent::Started { .. }) => conversation.begins(attempt),
            Meaning::Event(WorkerEvent::Cancelled { .. }) => {
                conversation.lets_go(attempt);
                Ok(())
            }
            Meaning::Checkpoint { .. } => conversation.keeps(attempt),
            Meaning::NotResumed { .. } => conversation.does_not_resume(attempt),
            Meaning::Step { mark, .. } => {
                let steps = steps.map_or(mark.of, Steps::value);
                conversation.marks(attempt, *mark, steps)
            }
            _ => conversation.ends(attempt),
        }
    }

    /// Tells the scheduler.
    pub(crate) fn hear(&mut self, worker: WorkerId, event: WorkerEvent, now: Instant) {
        self.decide(Input::Worker { worker, event }, now);
    }

    fn heard(&mut self, id: WorkerId, meaning: Meaning, now: Instant) {
        match meaning {
            Meaning::Event(event) => {
                if let WorkerEvent::Failed { attempt, .. } = event
                    && self.scheduler.carries(id, attempt)
                {
                    self.metrics.count_fault(Fault::Soft);
                }
                self.hear(id, event, now);
            }
            Meaning::Ready {
                engine,
                memory,
                boot_us,
            } => self.ready(id, engine, memory, boot_us, now),
            Meaning::Step { attempt, mark } => self.stepped(id, attempt, mark, now),
            Meaning::Checkpoint {
                attempt,
                checkpoint,
            } => self.keep_checkpoint(id, attempt, checkpoint),
            Meaning::NotResumed { attempt, reason } => self.begin_anew(id, attempt, &reason, now),
            Meaning::Output {
                attempt,
                output,
                timings,
                memory,
            } => {
                // Its row says the same, in milliseconds.
                tracing::debug!(
                    worker = %id, %attempt, encode_us = timings.encode_us, denoise_us = timings.denoise_us,
                    decode_us = timings.decode_us, "its output is here"
                );
                self.remember_memory(id, memory);
                self.measure(id, memory, now);
                self.finished(id, attempt, output, timings, now);
            }
            Meaning::Broken { fault, reason } => self.broken(id, fault, &reason, now),
        }
    }

    fn finished(
        &mut self,
        id: WorkerId,
        attempt: AttemptId,
        output: Output,
        timings: Timings,
        now: Instant,
    ) {
        // What an attempt made that is somebody else's must not replace that one's.
        if self.scheduler.carries(id, attempt) {
            if matches!(output, Output::Video(_)) && self.needs_frames(attempt.job) {
                self.metrics.count_fault(Fault::Soft);
                let message = "frames were needed, and the worker made a video".to_owned();
                return self.hear(id, WorkerEvent::Failed { attempt, message }, now);
            }
            self.outputs.insert(attempt, output);
            self.jobs.note(attempt.job, |durations| {
                durations.text_ms = timings.encode_us / 1_000;
                durations.denoise_ms = timings.denoise_us / 1_000;
                durations.decode_ms = timings.decode_us / 1_000;
            });
        }
        self.hear(id, WorkerEvent::Finished { attempt }, now);
    }

    /// An extension is joined to the video that it continues frame by frame, so a ready-made video is of no use to it:
    /// its attempt fails, and not the worker, which cannot know what becomes of what it makes.
    fn needs_frames(&self, id: JobId) -> bool {
        let origin = self.jobs.get(id).and_then(|live| live.job.origin);
        matches!(origin, Some(Origin::Extension { .. }))
    }

    /// A worker broke, or broke the rules. A start that comes to nothing is that, whatever was wrong with it.
    pub(crate) fn broken(&mut self, id: WorkerId, fault: Fault, reason: &str, now: Instant) {
        let phase = self
            .scheduler
            .snapshot()
            .find(|slot| slot.worker == Some(id))
            .map(|slot| slot.phase);
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        let fault = match (fault, phase) {
            (Fault::Desync(_), Some(SlotPhase::Starting)) => Fault::BootFailed {
                phase: worker.conversation.phase,
                how: BootFailure::Refusal,
            },
            _ => fault,
        };
        tracing::error!(worker = %id, %fault, reason, "the worker is broken");
        worker.blame(fault, reason);
        self.hear(id, WorkerEvent::Broken { fault }, now);
    }

    fn ready(
        &mut self,
        id: WorkerId,
        engine: EngineFacts,
        memory: MemoryUse,
        boot_us: u64,
        now: Instant,
    ) {
        self.remember_memory(id, memory);
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        if !worker.conversation.says_ready() {
            let fault = Fault::Desync(Breach::Impossible);
            return self.broken(id, fault, "ready a second time", now);
        }
        worker.ready_at = Some(now);
        let spawn = now.saturating_duration_since(worker.spawned);
        self.estimates
            .started(&worker.bundle, spawn.as_secs_f64() * 1_000.0);
        let shape = worker.bundle.shape.to_string();
        self.metrics
            .cold_spawn
            .with_label_values(&[&shape])
            .observe(spawn.as_secs_f64());
        tracing::info!(
            worker = %id, slot = %worker.slot, bundle = %worker.bundle, spawn_ms = spawn.as_millis(),
            boot_us, resident_bytes = memory.resident_bytes, "ready"
        );
        self.hear(id, WorkerEvent::Ready { engine }, now);
        self.measure(id, memory, now);
        self.learn_all();
        tokio::task::spawn_blocking(self.profiles.save());
    }

    /// Looks how much memory a worker holds: it says so itself, but on a GPU only the driver knows.
    fn measure(&mut self, id: WorkerId, memory: MemoryUse, now: Instant) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let device = &self.devices[worker.slot.device.0 as usize];
        if device.is_cpu() {
            let private_bytes = memory::beside_weights(memory, worker.weights_bytes);
            return self.hear(id, WorkerEvent::Measured { private_bytes }, now);
        }
        let (Some(pid), uuid, events) = (worker.pid(), device.name.clone(), self.events.clone())
        else {
            return;
        };
        tokio::task::spawn_blocking(move || {
            if let Some(bytes) = memory::on_gpu(&uuid, pid) {
                let _ = events.blocking_send(Event::Measured(id, bytes));
            }
        });
    }

    /// Takes over what the scheduler has learned of the bundles that are served.
    pub(crate) fn learn_all(&mut self) {
        for (key, news) in &self.bundles {
            if let (BundleNews::Baked(baked), Some(profile)) = (news, self.scheduler.profile(key)) {
                self.profiles.set(&baked.id, profile);
            }
        }
    }

    fn stepped(&mut self, id: WorkerId, attempt: AttemptId, mark: Mark, now: Instant) {
        self.hear(id, WorkerEvent::Progress { attempt, mark }, now);
        if !self.scheduler.carries(id, attempt) {
            return;
        }
        self.jobs.change(attempt.job, |progress| {
            progress.stage = Some(mark.stage.as_str());
            if mark.stage == Stage::Denoise {
                (progress.step, progress.steps) = (mark.step, mark.of);
            }
        });
        let makes_frames = self
            .workers
            .get(id)
            .is_some_and(|worker| !worker.conversation.makes_videos());
        if makes_frames && mark.stage == Stage::Denoise && mark.step >= mark.of / 2 {
            self.prepare_encoder(attempt);
        }
    }

    fn keep_checkpoint(&mut self, id: WorkerId, attempt: AttemptId, checkpoint: Checkpoint) {
        let carried = self.scheduler.carries(id, attempt);
        if let Some(worker) = self.workers.get(id).filter(|_| carried) {
            self.checkpoints
                .keep(attempt.job, &worker.bundle_id, checkpoint);
        }
    }

    /// A worker cannot go on from what an earlier one left: the attempt begins from its beginning, there.
    fn begin_anew(&mut self, id: WorkerId, attempt: AttemptId, reason: &str, now: Instant) {
        if !self.scheduler.carries(id, attempt) {
            return;
        }
        tracing::warn!(worker = %id, %attempt, reason, "the attempt begins anew");
        self.checkpoints.forget(attempt.job);
        let asked = self
            .workers
            .get_mut(id)
            .map(|worker| worker.conversation.asked(attempt));
        match asked {
            // The worker has forgotten it, and will not say so again.
            Some(Asked::Cancelled) => self.hear(id, WorkerEvent::Cancelled { attempt }, now),
            Some(asked) => {
                self.generate(id, attempt, false, now);
                if asked == Asked::Paused {
                    self.pause(id, attempt, now);
                }
            }
            None => {}
        }
    }

    fn remember_memory(&self, id: WorkerId, memory: MemoryUse) {
        if let Some(worker) = self.workers.get(id) {
            let gauge = self
                .metrics
                .worker_memory
                .with_label_values(&[worker.slot.to_string()]);
            gauge.set(memory.resident_bytes as f64);
        }
    }

    /// The process is gone, and its temporary directory goes too.
    pub(crate) fn forget(&mut self, id: WorkerId, worker: Worker) {
        self.batches.forget(id);
        let _ = self
            .metrics
            .worker_memory
            .remove_label_values(&[worker.slot.to_string()]);
        tokio::task::spawn_blocking(move || {
            let _ = std::fs::remove_dir_all(worker.scratch);
        });
    }

    // --- attempts ---

    fn given(
        &mut self,
        worker: WorkerId,
        attempt: AttemptId,
        pixels: Result<Pixels, String>,
        now: Instant,
    ) {
        // The worker may have lost the attempt, or the client its interest, while its frames were read.
        if !self.scheduler.carries(worker, attempt) {
            return;
        }
        match pixels {
            Ok(pixels) => self.batches.read(attempt, pixels),
            Err(error) => {
                tracing::error!(%attempt, error, "the given frames could not be read");
                if self.batches.withdraw(attempt) {
                    let message = "the given frames could not be read".to_owned();
                    self.hear(worker, WorkerEvent::Failed { attempt, message }, now);
                }
            }
        }
        self.send_batches(now);
    }

    fn encoded(&mut self, attempt: AttemptId, result: Result<VideoMeta, Failure>, now: Instant) {
        // A job that was cancelled meanwhile has no use for its video; the scheduler discards it.
        let wanted =
            self.jobs.get(attempt.job).is_some() && !self.endings.contains_key(&attempt.job);
        let result = result.map(|video| {
            if wanted {
                self.published.insert(attempt.job, video);
            }
        });
        if let Some(began) = self.jobs.get(attempt.job).and_then(|live| live.encoding) {
            let encode_ms = millis(now.saturating_duration_since(began));
            self.jobs
                .note(attempt.job, |durations| durations.encode_ms = encode_ms);
        }
        self.decide(Input::Encoded { attempt, result }, now);
    }

    fn ended(&mut self, id: JobId, result: Result<(), WriteError>) {
        let lasts = matches!(result, Err(WriteError::Storage(_)));
        if lasts && !self.scheduler.is_draining() {
            tracing::error!(job = %id, ?result, "the end of a job could not be stored; trying again");
            return self.store_ending_later(id);
        }
        self.ending -= 1;
        match result {
            Ok(()) => self.announce(id),
            // The row stays as it is, and the next start finds the job unfinished: nothing is lost.
            Err(error) => {
                tracing::error!(job = %id, %error, "the end of a job could not be stored");
                self.endings.remove(&id);
                self.jobs.forget(id);
            }
        }
    }

    /// The row is terminal: now everybody may know.
    fn announce(&mut self, id: JobId) {
        self.checkpoints.forget(id);
        let Some((_, ending)) = self.endings.remove(&id) else {
            return;
        };
        let status = ending.outcome.status();
        let Some(live) = self.jobs.ended(id, status) else {
            return;
        };
        let shape = live.job.bundle.shape.to_string();
        let took = live.accepted.elapsed();
        self.metrics
            .jobs
            .with_label_values(&[shape.as_str(), status.as_str()])
            .inc();
        if status == JobStatus::Completed {
            self.metrics
                .request_latency
                .with_label_values(&[&shape])
                .observe(took.as_secs_f64());
            self.learn_duration(&live, took);
        }
        match (status, live.job.origin) {
            (JobStatus::Completed, Some(Origin::Extension { .. })) => self.drop_prior(id),
            (JobStatus::Completed, _) => {}
            _ => self.remove_files(id),
        }
        self.space.notify_one();
        if live.job.callback.is_some() {
            self.owed.notify_one();
        }
        tracing::info!(job = %id, %status, took_ms = took.as_millis(), "the job has ended");
    }

    /// How long it took is what later estimates are made of; how good the one for it was, is told.
    fn learn_duration(&self, live: &Live, took: Duration) {
        let actual_ms = took.as_secs_f64() * 1_000.0;
        if let Some((_, told)) = live.estimated {
            self.metrics.estimated(actual_ms <= told.p90_ms as f64);
        }
        let checked = live.estimated.map(|(raw_ms, _)| (raw_ms, actual_ms));
        self.estimates
            .completed(&live.job, live.progress().durations, checked);
    }

    // --- time and the end ---

    fn timeout(&mut self, now: Instant) {
        self.decide(Input::Timeout, now);
        if self.halt_at.is_some_and(|at| at <= now) {
            self.halt(now);
        }
    }

    fn shut_down(&mut self, now: Instant) {
        if self.scheduler.is_draining() {
            return self.halt(now);
        }
        let grace = self.tuning.drain_grace;
        tracing::info!(?grace, running = self.jobs.len(), "draining");
        self.halt_at = Some(now + grace);
        self.decide(Input::Order(Order::Drain), now);
    }

    fn halt(&mut self, now: Instant) {
        tracing::warn!("ending at once; unfinished jobs go on at the next start");
        self.halt_at = None;
        self.decide(Input::Order(Order::Halt), now);
    }
}
