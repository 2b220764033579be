//! Attempts on their way to a worker, there, and away from it: given frames, checkpoints, pauses, encoders.

use crate::batches::{Given, Memory};
use crate::driver::Supervisor;
use crate::encode::{self, Form};
use crate::event::Event;
use crate::workers::{Asked, Output, spoken};
use reel_domain::{AttemptId, Job, JobId, Mode};
use reel_protocol::{Checkpoint, Item, Pixels, ToWorker};
use reel_scheduler::{WorkerEvent, WorkerId};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The stage of an attempt that waits for more urgent work; its next step ends that.
const PAUSED: &str = "paused";

impl Supervisor {
    pub(crate) fn generate(
        &mut self,
        worker: WorkerId,
        attempt: AttemptId,
        more: bool,
        now: Instant,
    ) {
        self.queue_moved = true;
        let Some(frames) = self
            .jobs
            .get(attempt.job)
            .map(|live| live.job.conditioning_frames)
        else {
            return;
        };
        self.show_place(worker, attempt.job, now);
        let given = match self.resumable(worker, attempt) {
            Some(checkpoint) => Given::Checkpoint(checkpoint),
            None if frames == 0 => Given::None,
            None => {
                self.read_given(worker, attempt);
                Given::Reading
            }
        };
        self.batches.add(worker, attempt, given, more);
        self.send_batches(now);
    }

    /// Shows on which device a job is, and how long it waited for that.
    fn show_place(&mut self, worker: WorkerId, id: JobId, now: Instant) {
        let (Some(worker), Some(live)) = (self.workers.get(worker), self.jobs.get(id)) else {
            return;
        };
        let device = self.devices.get(worker.slot.device.0 as usize);
        let device = device.map(|device| Arc::clone(&device.name));
        let waited_ms = millis(now.saturating_duration_since(live.accepted));
        let spawn_ms = millis(worker.start_after(live.accepted));
        self.jobs.change(id, |progress| {
            progress.device = device;
            progress.durations.spawn_ms = spawn_ms;
            progress.durations.queue_ms = waited_ms.saturating_sub(spawn_ms);
        });
    }

    /// Where an earlier attempt of the job stood when its worker died.
    pub(crate) fn resumable(
        &self,
        worker: WorkerId,
        attempt: AttemptId,
    ) -> Option<Arc<Checkpoint>> {
        let bundle_id = &self.workers.get(worker)?.bundle_id;
        let (checkpoint, step) = self.checkpoints.latest(attempt.job, bundle_id)?;
        tracing::info!(%worker, %attempt, step, "the attempt goes on where the one before stood");
        self.metrics.resumed.inc();
        Some(checkpoint)
    }

    pub(crate) fn read_given(&self, worker: WorkerId, attempt: AttemptId) {
        let (store, events) = (self.store.clone(), self.events.clone());
        tokio::task::spawn_blocking(move || {
            let frames = store.given(attempt.job).map_err(|error| error.to_string());
            let pixels =
                frames.and_then(|frames| Pixels::new(&frames).map_err(|error| error.to_string()));
            let _ = events.blocking_send(Event::Given(worker, attempt, pixels));
        });
    }

    /// Tells workers of the batches of which nothing is missing.
    pub(crate) fn send_batches(&mut self, now: Instant) {
        while let Some((worker, members)) = self.batches.take_ready() {
            let items = members.into_iter().filter_map(|told| {
                let live = self.jobs.get(told.attempt.job)?;
                Some((item(&live.job), told))
            });
            let items: Vec<_> = items.collect();
            let last = items.len().saturating_sub(1);
            for (place, (item, told)) in items.into_iter().enumerate() {
                let resumes = matches!(told.memory, Some(Memory::Checkpoint(_)));
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.conversation.gives(told.attempt, resumes);
                }
                let attempt = spoken(told.attempt);
                let generate = ToWorker::Generate {
                    attempt,
                    item,
                    resumes,
                    more: place < last,
                };
                self.tell(worker, &generate, told.memory.as_ref(), now);
                if told.paused {
                    self.ask(worker, told.attempt, Asked::Paused);
                    self.tell(worker, &ToWorker::Pause { attempt }, None, now);
                }
            }
        }
    }

    pub(crate) fn cancel_attempt(&mut self, worker: WorkerId, attempt: AttemptId, now: Instant) {
        if self.batches.withdraw(attempt) {
            self.hear(worker, WorkerEvent::Cancelled { attempt }, now);
            return self.send_batches(now);
        }
        self.ask(worker, attempt, Asked::Cancelled);
        let attempt = spoken(attempt);
        self.tell(worker, &ToWorker::Cancel { attempt }, None, now);
    }

    pub(crate) fn ask(&mut self, worker: WorkerId, attempt: AttemptId, asked: Asked) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.conversation.asks(attempt, asked);
        }
    }

    pub(crate) fn pause(&mut self, worker: WorkerId, attempt: AttemptId, now: Instant) {
        self.jobs
            .change(attempt.job, |progress| progress.stage = Some(PAUSED));
        if !self.batches.set_paused(attempt, true) {
            self.ask(worker, attempt, Asked::Paused);
            let attempt = spoken(attempt);
            self.tell(worker, &ToWorker::Pause { attempt }, None, now);
        }
    }

    pub(crate) fn resume(&mut self, worker: WorkerId, attempt: AttemptId, now: Instant) {
        self.jobs
            .change(attempt.job, |progress| progress.stage = None);
        if !self.batches.set_paused(attempt, false) {
            self.ask(worker, attempt, Asked::Nothing);
            let attempt = spoken(attempt);
            self.tell(worker, &ToWorker::Resume { attempt }, None, now);
        }
    }

    /// Starts the encoder of an attempt whose frames will exist soon.
    pub(crate) fn prepare_encoder(&mut self, attempt: AttemptId) {
        let Some(live) = self.jobs.get(attempt.job) else {
            return;
        };
        let form = Form::of(&live.job);
        if self.prepared.contains_key(&attempt) || !form.is_worth_preparing() {
            return;
        }
        self.prepared.insert(attempt, None);
        let (ffmpeg, store, events) =
            (self.ffmpeg.clone(), self.store.clone(), self.events.clone());
        tokio::spawn(async move {
            let prepared = encode::prepare(ffmpeg, store, attempt, form).await.ok();
            let _ = events.send(Event::Prepared(attempt, prepared)).await;
        });
    }

    pub(crate) fn encode(&mut self, attempt: AttemptId, now: Instant) {
        let (Some(output), Some(live)) =
            (self.outputs.remove(&attempt), self.jobs.get(attempt.job))
        else {
            tracing::error!(%attempt, "nothing to publish");
            return;
        };
        let form = Form::of(&live.job);
        self.jobs.encodes(attempt.job, now);
        let prepared = self.prepared.remove(&attempt).flatten();
        let (ffmpeg, store, events) =
            (self.ffmpeg.clone(), self.store.clone(), self.events.clone());
        let histogram = self.metrics.encode.clone();
        match output {
            Output::Frames(pixels) => drop(tokio::spawn(async move {
                let result =
                    encode::publish_video(ffmpeg, store, attempt, pixels, form, prepared).await;
                histogram.observe(now.elapsed().as_secs_f64());
                let _ = events.send(Event::Encoded(attempt, result)).await;
            })),
            Output::Video(video) => drop(tokio::task::spawn_blocking(move || {
                let result = encode::publish_ready_made(&store, attempt, &video);
                histogram.observe(now.elapsed().as_secs_f64());
                let _ = events.blocking_send(Event::Encoded(attempt, result));
            })),
        }
    }

    pub(crate) fn discard(&mut self, attempt: AttemptId) {
        self.outputs.remove(&attempt);
        // A living job may have published a later attempt's video under the same name.
        if self.jobs.get(attempt.job).is_none() {
            self.remove_files(attempt.job);
        }
    }

    /// Removes the video that a completed job went on with.
    pub(crate) fn drop_prior(&self, id: JobId) {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.drop_prior(id) {
                tracing::warn!(job = %id, %error, "a file that is not needed any more stays until its job goes");
            }
        });
    }

    /// Removes the video and the given frames of a job.
    pub(crate) fn remove_files(&self, id: JobId) {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.remove(id) {
                tracing::warn!(job = %id, %error, "files of a job that is gone could not be removed");
            }
        });
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn item(job: &Job) -> Item {
    let sampling = &job.sampling;
    Item {
        mode: match job.mode {
            Mode::T2v => reel_protocol::Mode::T2v,
            Mode::I2v => reel_protocol::Mode::I2v,
            Mode::Extend => reel_protocol::Mode::Extend,
        },
        prompt: sampling.prompt.as_str().to_owned(),
        negative_prompt: sampling.negative_prompt.as_str().to_owned(),
        seed: sampling.seed.value(),
        steps: sampling.steps.value(),
        guidance: sampling.guidance.value(),
        fps: sampling.fps.value(),
        conditioning_frames: job.conditioning_frames,
        trace: job.trace.as_ref().map(|trace| trace.as_str().to_owned()),
    }
}
