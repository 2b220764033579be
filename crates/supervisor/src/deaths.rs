//! The end of a worker: what it was, who is told, what is kept, and when its place is free again.

use crate::checkpoints;
use crate::devices::Device;
use crate::driver::Supervisor;
use crate::effects::now_ms;
use crate::event::Event;
use crate::incidents::{Death, Incident, IncidentAttempt};
use crate::jobs::Live;
use crate::memory::DeviceMemory;
use crate::workers::Worker;
use reel_domain::{AttemptId, BootFailure, Fault};
use reel_process::Exit;
use reel_process::worker::describe;
use reel_scheduler::{ExitReport, SlotPhase, WorkerEvent, WorkerId};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How long the memory of a worker that is gone may stay taken.
const DEVICE_FREE_DEADLINE: Duration = Duration::from_secs(10);
/// How long the device's driver may think about it.
const DEVICE_ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// Between two looks at it.
const DEVICE_FREE_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks at a device that is stuck.
const STUCK_PAUSE: Duration = Duration::from_secs(5);

impl Supervisor {
    /// A worker's process has ended: what it had is somebody else's from now on.
    pub(crate) fn process_died(&mut self, id: WorkerId, status: ExitStatus, now: Instant) {
        let phase = self.phase_of(id);
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        if !matches!(phase, Some(SlotPhase::Stopping | SlotPhase::Killing)) {
            let fault = unexpected(worker, phase, status);
            worker.blame(fault, "");
            worker.lost = worker.conversation.has_begun();
        }
        self.hear(id, WorkerEvent::Died, now);
    }

    fn phase_of(&self, id: WorkerId) -> Option<SlotPhase> {
        let mut slots = self.scheduler.snapshot();
        slots
            .find(|slot| slot.worker == Some(id))
            .map(|slot| slot.phase)
    }

    /// Nothing of the process is left. Its place is free when its device says so, too.
    pub(crate) fn exited(&self, id: WorkerId, exit: Exit) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let (probe, events) = (self.device_memory.clone(), self.events.clone());
        let place = worker.slot.device;
        let device = self.devices[place.0 as usize].clone();
        let pid = worker.pid().unwrap_or(0);
        tokio::spawn(async move {
            let deadline = Instant::now() + DEVICE_FREE_DEADLINE;
            let mut held = is_held(&*probe, &device, pid).await;
            while held && Instant::now() < deadline {
                tokio::time::sleep(DEVICE_FREE_PAUSE).await;
                held = is_held(&*probe, &device, pid).await;
            }
            let _ = events.send(Event::Buried(id, exit, held)).await;
            if held {
                while is_held(&*probe, &device, pid).await {
                    tokio::time::sleep(STUCK_PAUSE).await;
                }
                let _ = events.send(Event::Freed(id, place)).await;
            }
        });
    }

    /// Nothing of a worker is left, or its memory stays.
    pub(crate) fn buried(&mut self, id: WorkerId, exit: &Exit, memory_held: bool, now: Instant) {
        let Some(mut worker) = self.workers.remove(id) else {
            return;
        };
        let how = describe(exit.status);
        match worker.fault.take() {
            // One that is ended with the server, or for another one's sake, has not failed.
            None => tracing::info!(worker = %id, how, "the worker has ended"),
            Some((fault, reason)) => self.died(id, &worker, fault, reason, exit, now),
        }
        if memory_held {
            self.stuck(id, &worker, "the worker is gone and its memory is not");
        }
        self.forget(id, worker);
        let report = ExitReport {
            description: how,
            memory_held,
        };
        self.hear(id, WorkerEvent::Exited(report), now);
    }

    /// A worker was killed, and its process does not end. Nobody waits for it any more.
    pub(crate) fn abandon(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        worker.abandoned = true;
        if let Some(worker) = self.workers.get(id) {
            self.stuck(id, worker, "the worker was killed and does not end");
        }
    }

    fn stuck(&self, id: WorkerId, worker: &Worker, what: &str) {
        let device = &self.devices[worker.slot.device.0 as usize].name;
        tracing::error!(
            worker = %id, pid = worker.pid(), %device, class = %Fault::StuckDevice,
            "{what}: the device gets no other until that is over"
        );
        self.metrics.count_fault(Fault::StuckDevice);
    }

    fn died(
        &mut self,
        id: WorkerId,
        worker: &Worker,
        fault: Fault,
        reason: String,
        exit: &Exit,
        now: Instant,
    ) {
        self.metrics.count_fault(fault);
        let lost = worker.lost.iter();
        let attempts = lost
            .map(|&attempt| self.incident_attempt(worker, attempt))
            .collect();
        let incident = Incident::of(Death {
            at_ms: now_ms(),
            fault,
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            exit,
            worker: id.to_string(),
            pid: worker.pid().unwrap_or(0),
            slot: worker.slot.to_string(),
            device: self.devices[worker.slot.device.0 as usize].name.to_string(),
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
        let checkpoint = self.checkpoints.latest_step(attempt.job, &worker.bundle_id);
        IncidentAttempt {
            job,
            attempt: number,
            stage: worker
                .conversation
                .stage(attempt)
                .map(|stage| stage.to_string()),
            step: worker.conversation.step(attempt),
            steps: progress.map_or(0, |progress| progress.steps),
            checkpoint,
            prompt_chars: prompt.map_or(0, |prompt| prompt.chars().count()),
            prompt: prompt
                .filter(|_| self.tuning.incidents.prompts)
                .map(str::to_owned),
        }
    }

    /// A worker went wrong like this: what it wrote of these attempts may be wrong, too.
    pub(crate) fn distrust(&mut self, lost: &[AttemptId], fault: Fault) {
        if !checkpoints::outlives(fault.class()) {
            lost.iter()
                .for_each(|attempt| self.checkpoints.forget(attempt.job));
        }
    }
}

/// A driver that does not answer frees nothing.
async fn is_held(probe: &dyn DeviceMemory, device: &Device, pid: u32) -> bool {
    let asking = probe.held(device, pid);
    tokio::time::timeout(DEVICE_ANSWER_DEADLINE, asking)
        .await
        .unwrap_or(true)
}

/// Nobody wanted the worker to end.
fn unexpected(worker: &Worker, phase: Option<SlotPhase>, status: ExitStatus) -> Fault {
    match phase {
        Some(SlotPhase::Starting) => Fault::BootFailed {
            phase: worker.conversation.phase,
            how: BootFailure::Exit,
        },
        _ => Fault::Crash {
            signal: status.signal(),
        },
    }
}
