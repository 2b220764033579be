//! From `kill -9` of a busy worker to its notice, to the job's place in the queue, to the next worker that is ready.

use crate::Setting;
use crate::pool::{self, Running};
use crate::table::Table;
use reel_domain::{JobId, JobStatus, Prompt, Steps};
use reel_scheduler::Config;
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

/// Steps of the job: it runs long enough to be killed.
const STEPS: u32 = 60;
/// Its step at which its worker is killed.
const KILLED_AT: u32 = 8;

/// The bars of the promise, in milliseconds: noticed, queued again, ready again.
const BARS_MS: [f64; 3] = [50.0, 100.0, 1_000.0];

/// Kills a worker so many times; each job goes on and completes.
pub(crate) async fn busy_workers(
    setting: &Setting,
    trials: usize,
    table: &mut Table,
) -> anyhow::Result<()> {
    let running = Running::start(setting, Config::default()).await?;
    let (mut noticed, mut queued, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    for trial in 0..trials {
        let mut job = pool::job(setting, &running.key, 10_000 + trial)?;
        // A request is known by its prompt: one that kills worker after worker would be quarantined.
        job.sampling.prompt = Prompt::new(format!("a red circle, trial {trial}"))?;
        job.sampling.steps = Steps::new(STEPS)?;
        let id = job.id;
        running.submit(job).await?;
        running.until_step(id, KILLED_AT).await?;
        let times = running.kill_worker_of(id).await?;
        running.completed(id).await?;
        noticed.push(times[0]);
        queued.push(times[1]);
        ready.push(times[2]);
    }
    let names = ["noticed", "its job queued again", "a worker READY again"];
    for ((name, samples), bar) in names.into_iter().zip([noticed, queued, ready]).zip(BARS_MS) {
        table.add_p95(
            &format!("kill -9 of a busy worker: {name}"),
            "ms",
            samples,
            bar,
        );
    }
    running.end().await
}

impl Running {
    /// Milliseconds from the kill to each of the three.
    async fn kill_worker_of(&self, id: JobId) -> anyhow::Result<[f64; 3]> {
        let pid = self.pid_of(id);
        let pid = pid.ok_or_else(|| anyhow::anyhow!("no worker has {id}"))?;
        let raw = i32::try_from(pid)?;
        let killed = Instant::now();
        kill_process(
            Pid::from_raw(raw).ok_or_else(|| anyhow::anyhow!("process 0"))?,
            Signal::KILL,
        )?;
        let (mut noticed, mut queued) = (None, None);
        loop {
            tokio::task::yield_now().await;
            let state = self.pool.state();
            let slots = state.devices.iter().flat_map(|device| &device.slots);
            let slots: Vec<_> = slots.collect();
            let since = || millis(killed.elapsed());
            if noticed.is_none() && slots.iter().all(|slot| slot.pid != Some(pid)) {
                noticed = Some(since());
            }
            let progress = self.pool.board().get(id).map(|(_, progress)| progress);
            let again = |progress: &reel_pool::JobProgress| {
                progress.status == JobStatus::Queued || progress.attempt > 1
            };
            if queued.is_none() && progress.as_ref().is_some_and(again) {
                queued = Some(since());
            }
            let is_ready = |slot: &&&reel_pool::SlotState| {
                matches!(slot.state, "idle" | "busy") && slot.pid.is_some_and(|other| other != pid)
            };
            if let (Some(noticed), Some(queued)) = (noticed, queued)
                && slots.iter().any(|slot| is_ready(&slot))
            {
                return Ok([noticed, queued, since()]);
            }
        }
    }

    fn pid_of(&self, id: JobId) -> Option<u32> {
        let state = self.pool.state();
        let slots = state.devices.iter().flat_map(|device| &device.slots);
        slots
            .into_iter()
            .find(|slot| slot.jobs.contains(&id))
            .and_then(|slot| slot.pid)
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
