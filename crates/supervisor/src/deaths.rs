//! The end of a worker: what it was, who is told, what is kept, and when its place is free again.

use crate::checkpoints;
use crate::driver::Supervisor;
use crate::effects::now_ms;
use crate::event::Event;
use crate::incidents::{Death, Incident, IncidentAttempt};
use crate::jobs::Live;
use crate::workers::Worker;
use reel_domain::{AttemptId, BootFailure, Fault};
use reel_process::Exit;
use reel_process::worker::describe;
use reel_scheduler::{ExitReport, Input, Order, SlotPhase, WorkerEvent, WorkerId};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// How long the memory of a worker that is gone may stay taken.
const DEVICE_FREE_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at it.
const DEVICE_FREE_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks at a device that is stuck.
const STUCK_PAUSE: Duration = Duration::from_secs(5);

impl Supervisor {
    /// The process is gone. Its place is free when its device says so, too.
    pub(crate) fn exited(&self, id: WorkerId, exit: Exit) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let (probe, events) = (self.device_memory.clone(), self.events.clone());
        let device = self.devices[worker.slot.device.0 as usize].clone();
        let pid = worker.pid().unwrap_or(0);
        tokio::spawn(async move {
            let deadline = Instant::now() + DEVICE_FREE_DEADLINE;
            let mut held = probe.held(&device, pid).await;
            while held && Instant::now() < deadline {
                tokio::time::sleep(DEVICE_FREE_PAUSE).await;
                held = probe.held(&device, pid).await;
            }
            let _ = events.send(Event::Buried(id, exit, held)).await;
            if held {
                while probe.held(&device, pid).await {
                    tokio::time::sleep(STUCK_PAUSE).await;
                }
                let _ = events.send(Event::Unstuck(device.name)).await;
            }
        });
    }

    /// Nothing of a worker is left, or its memory stays.
    pub(crate) fn buried(&mut self, id: WorkerId, exit: &Exit, memory_held: bool, now: Instant) {
        let Some(mut worker) = self.workers.remove(id) else {
            return;
        };
        let how = describe(exit.status);
        let view = self
            .scheduler
            .snapshot()
            .find(|slot| slot.worker == Some(id));
        let (phase, attempts) =
            view.map_or((None, vec![]), |slot| (Some(slot.phase), slot.attempts));
        let unasked = !matches!(phase, Some(SlotPhase::Stopping | SlotPhase::Killing));
        if unasked {
            worker.blame(unexpected(&worker, phase, exit), "");
        }
        match worker.fault.take() {
            // One that is ended with the server, or for another one's sake, has not failed.
            None => tracing::info!(worker = %id, how, "the worker has ended"),
            Some((fault, reason)) => {
                self.died(id, &worker, fault, reason, exit, attempts, now);
            }
        }
        if memory_held {
            let device = &self.devices[worker.slot.device.0 as usize].name;
            tracing::error!(
                worker = %id, device, class = %Fault::StuckDevice,
                "the worker is gone and its memory is not: the device gets no other until that is free"
            );
            self.metrics.count_fault(Fault::StuckDevice);
        }
        self.forget(id, worker);
        let report = ExitReport {
            description: how,
            memory_held,
        };
        self.hear(id, WorkerEvent::Exited(report), now);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "everything that is known of a death"
    )]
    fn died(
        &mut self,
        id: WorkerId,
        worker: &Worker,
        fault: Fault,
        reason: String,
        exit: &Exit,
        mut attempts: Vec<AttemptId>,
        now: Instant,
    ) {
        self.metrics.count_fault(fault);
        // A worker that was killed has lost its attempts to the line already.
        attempts.extend(worker.lost.iter().copied());
        let attempts = attempts
            .into_iter()
            .map(|attempt| self.incident_attempt(worker, attempt))
            .collect();
        let incident = Incident::of(Death {
            at_ms: now_ms(),
            fault,
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            exit,
            worker: id.to_string(),
            pid: worker.pid().unwrap_or(0),
            slot: worker.slot.to_string(),
            device: self.devices[worker.slot.device.0 as usize].name.clone(),
            bundle: worker.bundle.to_string(),
            bundle_id: worker.bundle_id.clone(),
            lived_ms: u64::try_from(now.saturating_duration_since(worker.spawned).as_millis())
                .unwrap_or(u64::MAX),
            attempts,
        });
        tracing::error!(
            worker = %id, class = %fault.class(), %fault, reason = incident.reason, how = incident.exit,
            hint = incident.hint, incident = incident.id, output = incident.output.join("\n"),
            "the worker has died"
        );
        let incidents = self.tuning.incidents.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = incidents.write(&incident) {
                tracing::warn!(incident = incident.id, %error, "an incident could not be written");
            }
        });
    }

    fn incident_attempt(&self, worker: &Worker, attempt: AttemptId) -> IncidentAttempt {
        let (job, number) = IncidentAttempt::id(attempt);
        let live = self.jobs.get(attempt.job);
        let prompt = live.map(|live| live.job.sampling.prompt.as_str());
        let progress = live.map(Live::progress);
        let checkpoint = self.checkpoints.latest(attempt.job, &worker.bundle_id);
        IncidentAttempt {
            job,
            attempt: number,
            stage: worker
                .conversation
                .stage(attempt)
                .map(|stage| stage.to_string()),
            step: worker.conversation.step(attempt),
            steps: progress.map_or(0, |progress| progress.steps),
            checkpoint: checkpoint.map(|(_, step)| step),
            prompt_chars: prompt.map_or(0, |prompt| prompt.chars().count()),
            prompt: prompt
                .filter(|_| self.tuning.incidents.prompts)
                .map(str::to_owned),
        }
    }

    /// Something is wrong with a worker: what it wrote may be, too.
    pub(crate) fn distrust(&mut self, id: WorkerId, fault: Fault) {
        if checkpoints::outlives(fault.class()) {
            return;
        }
        let Some(slot) = self
            .scheduler
            .snapshot()
            .find(|slot| slot.worker == Some(id))
        else {
            return;
        };
        for attempt in slot.attempts {
            self.checkpoints.forget(attempt.job);
        }
    }

    /// A device that was stuck has its memory back.
    pub(crate) fn unstuck(&mut self, name: &str, now: Instant) {
        let place = self.devices.iter().position(|device| device.name == name);
        let Some(device) = place.and_then(|place| u32::try_from(place).ok()) else {
            return;
        };
        tracing::info!(device = name, "the device's memory is free again");
        let order = Order::Uncordon(reel_domain::DeviceId(device));
        self.decide(Input::Order(order), now);
    }
}

/// Nobody wanted the worker to end.
fn unexpected(worker: &Worker, phase: Option<SlotPhase>, exit: &Exit) -> Fault {
    if matches!(phase, Some(SlotPhase::Starting)) {
        return Fault::BootFailed {
            phase: worker.conversation.phase,
            how: BootFailure::Exit,
        };
    }
    Fault::Crash {
        signal: exit.status.signal(),
    }
}
