//! The native worker, spoken to as the supervisor does.

use crate::Setting;
use crate::device;
use crate::table::Table;
use anyhow::{Context, bail};
use reel_bundle::Bundle;
use reel_process::{LaunchSpec, ProcessEvent, Share, Spawner, WorkerProcess};
use reel_protocol::{Attempt, FromWorker, Item, Mode, Timings, ToWorker};
use reel_supervisor::SHORT_SPIN;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Longest wait for one message.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bar: fork to READY, warm page cache.
const READY_BAR_S: f64 = 0.5;
/// Bar: first video over tenth video on a fresh worker.
const FIRST_TO_TENTH_BAR: f64 = 1.10;

/// A worker and what it says.
struct Worker {
    process: WorkerProcess,
    events: mpsc::Receiver<ProcessEvent>,
    ready_after: Duration,
    attempts: u32,
}

impl Worker {
    async fn start(spawner: &Spawner, setting: &Setting, bundle: &Bundle) -> anyhow::Result<Self> {
        let threads = setting.threads.to_string();
        let spec = LaunchSpec {
            program: setting.worker.clone(),
            args: vec![
                "--bundle".into(),
                bundle.dir.clone().into(),
                "--cache-dir".into(),
                setting.cache.root().into(),
                "--device".into(),
                setting.device.engine_name.into(),
                "--threads".into(),
                threads.clone().into(),
            ],
            env: vec![
                ("OMP_NUM_THREADS".into(), threads.into()),
                (SHORT_SPIN.0.into(), SHORT_SPIN.1.into()),
                ("TMPDIR".into(), std::env::temp_dir().into()),
            ],
            marker: "bench".into(),
            share: Share::default(),
            sandbox: None,
        };
        let (sender, events) = mpsc::channel(1_024);
        let begun = Instant::now();
        let process = spawner
            .spawn(spec, "bench".into(), sender, |event| event)
            .await?;
        let mut worker = Self {
            process,
            events,
            ready_after: Duration::ZERO,
            attempts: 0,
        };
        worker
            .hear(|message| matches!(message, FromWorker::Ready { .. }).then_some(()))
            .await?;
        worker.ready_after = begun.elapsed();
        Ok(worker)
    }

    /// Waits for the message that is wanted.
    async fn hear<T>(&mut self, wanted: impl Fn(&FromWorker) -> Option<T>) -> anyhow::Result<T> {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv())
                .await
                .context("no message in time")?;
            match event.context("the worker is gone")? {
                ProcessEvent::Message(message, _) => {
                    if let Some(found) = wanted(&message) {
                        return Ok(found);
                    }
                    if let FromWorker::Fatal { message, .. } | FromWorker::Failed { message, .. } =
                        message
                    {
                        bail!("the worker failed: {message}");
                    }
                }
                ProcessEvent::Broken(error) => bail!(error),
                ProcessEvent::Died(_) => {}
                ProcessEvent::Exited(exit) => {
                    bail!(
                        "the worker ended: {}\n{}",
                        exit.status,
                        exit.tail.join("\n")
                    )
                }
            }
        }
    }

    /// One video with the model's defaults: its wall time and the worker's own timings.
    async fn generate(&mut self, setting: &Setting) -> anyhow::Result<(Duration, Timings)> {
        self.attempts += 1;
        let defaults = &setting.model.menu.defaults;
        let item = Item {
            mode: Mode::T2v,
            prompt: "a red circle moving right on a black background".into(),
            negative_prompt: String::new(),
            seed: self.attempts.into(),
            steps: defaults.num_inference_steps,
            guidance: defaults.guidance_scale,
            fps: defaults.fps,
            conditioning_frames: 0,
            trace: None,
        };
        let begun = Instant::now();
        self.process.send(
            &ToWorker::Generate {
                attempt: Attempt {
                    job: [0; 16],
                    number: self.attempts,
                },
                item,
                resumes: false,
                more: false,
            },
            None,
        )?;
        let timings = self
            .hear(|message| match message {
                FromWorker::Finished { timings, .. } => Some(*timings),
                _ => None,
            })
            .await?;
        Ok((begun.elapsed(), timings))
    }

    /// Proportional set size: shared pages are counted by their share (proc_pid_smaps(5)).
    fn pss_bytes(&self) -> anyhow::Result<f64> {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.pid()))?;
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .context("no Pss line")?;
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1_024.0)
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.process.kill();
        while !matches!(
            self.events.recv().await,
            Some(ProcessEvent::Exited(_)) | None
        ) {}
        Ok(())
    }
}

/// Fork to READY, with a warm page cache: the first start is not counted.
pub(crate) async fn ready(setting: &Setting, table: &mut Table) -> anyhow::Result<()> {
    let spawner = Spawner::start(None)?;
    let mut samples = Vec::new();
    for run in 0..=setting.runs {
        let worker = Worker::start(&spawner, setting, &setting.bundles[0]).await?;
        if run > 0 {
            samples.push(worker.ready_after.as_secs_f64());
        }
        worker.end().await?;
    }
    table.add("native: fork to READY", "s", samples, Some(READY_BAR_S));
    Ok(())
}

/// First and tenth video of fresh workers, and the time of a denoising step.
pub(crate) async fn videos(setting: &Setting, table: &mut Table) -> anyhow::Result<()> {
    let spawner = Spawner::start(None)?;
    let steps = f64::from(setting.model.menu.defaults.num_inference_steps);
    let (mut firsts, mut tenths, mut ratios, mut step) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.runs {
        let mut worker = Worker::start(&spawner, setting, &setting.bundles[0]).await?;
        let mut walls = Vec::new();
        for _ in 0..10 {
            let (wall, timings) = worker.generate(setting).await?;
            walls.push(wall.as_secs_f64());
            step.push(timings.denoise_us as f64 / 1e3 / steps);
        }
        firsts.push(walls[0]);
        tenths.push(walls[9]);
        ratios.push(walls[0] / walls[9]);
        worker.end().await?;
    }
    table.add("native: first video", "s", firsts, None);
    table.add("native: tenth video", "s", tenths, None);
    table.add(
        "native: first / tenth video",
        "ratio",
        ratios,
        Some(FIRST_TO_TENTH_BAR),
    );
    table.add("native: denoising step, guidance on", "ms", step, None);
    Ok(())
}

/// What a second worker of another shape costs in memory, beside one copy of the weights.
pub(crate) async fn memory(setting: &Setting, table: &mut Table) -> anyhow::Result<()> {
    let spawner = Spawner::start(None)?;
    let (mut alone, mut together, mut on_device) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.runs {
        let mut first = Worker::start(&spawner, setting, &setting.bundles[0]).await?;
        first.generate(setting).await?;
        let single = first.pss_bytes()?;
        let mut second = Worker::start(&spawner, setting, &setting.bundles[1]).await?;
        second.generate(setting).await?;
        alone.push(single / 1e6);
        together.push((first.pss_bytes()? + second.pss_bytes()? - single) / 1e6);
        on_device.extend(
            device::memory_bytes(&setting.device, first.process.pid())?.map(|bytes| bytes / 1e6),
        );
        first.end().await?;
        second.end().await?;
    }
    let weights = setting.bundles[0].manifest.weights_bytes() as f64 / 1e6;
    table.add("native: PSS of one worker", "MB", alone, None);
    table.add("native: PSS of two shapes minus one", "MB", together, None);
    table.add("native: device memory of one worker", "MB", on_device, None);
    table.add("one copy of the weights", "MB", vec![weights], None);
    Ok(())
}
