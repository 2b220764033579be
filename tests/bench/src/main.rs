//! The numbers of `docs/performance.md`: the native worker beside a Python one, in the same run.
//!
//! Prints a table on stdout and, with `--json`, the same figures for machines. Every figure is the median of
//! several runs with the smallest and the largest beside it.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

mod completion;
mod creates;
mod deaths;
mod device;
mod native;
mod peer;
mod pool;
mod preemption;
mod table;

use anyhow::Context;
use clap::Parser;
use reel_bundle::{Bundle, Cache, Model, Requirements, State};
use reel_supervisor::Device;
use std::fs::OpenOptions;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use table::Table;

/// Measures the native worker, and a Python worker beside it.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The worker program
    #[arg(long, default_value = "target/release/reel-worker")]
    worker: PathBuf,
    /// The cache with the bundles
    #[arg(long, env = "REEL_CACHE_DIR")]
    cache_dir: PathBuf,
    /// The model's directory
    #[arg(long, default_value = "models/tiny-shapes")]
    model: PathBuf,
    /// The Python of the other worker
    #[arg(long, default_value = ".venv/bin/python")]
    python: PathBuf,
    /// Runs of each measurement, at least 5
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Threads that both workers compute with
    #[arg(long, default_value = "2")]
    threads: NonZeroUsize,
    /// Where to compute [default: the first GPU, or the CPU where there is none]
    #[arg(long, value_enum, default_value = "auto")]
    device: device::Choice,
    /// Leave the Python worker out
    #[arg(long)]
    native_only: bool,
    /// Measure what happens when workers die, so many times, and how soon creates are durable, and nothing else
    #[arg(long, value_name = "TRIALS")]
    deaths: Option<usize>,
    /// The server program, for the creates
    #[arg(long, default_value = "target/release/reel")]
    reel: PathBuf,
    /// Where the figures go as lines of a table
    #[arg(long, env = "REEL_CHAOS_REPORT", value_name = "FILE")]
    report: Option<PathBuf>,
    /// Where the figures go for machines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is measured, and how often.
#[derive(Debug, Clone)]
struct Setting {
    worker: PathBuf,
    cache: Cache,
    bundles: Vec<Bundle>,
    model: Model,
    python: PathBuf,
    device: Device,
    runs: usize,
    threads: NonZeroUsize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let setting = setting(&args)?;
    let mut table = Table::default();
    if let Some(trials) = args.deaths {
        deaths::busy_workers(&setting, trials, &mut table).await?;
        creates::durable(&args.reel, setting.cache.root(), &mut table).await?;
        println!("{table}");
        return append(args.report.as_deref(), &table.for_report());
    }
    native::ready(&setting, &mut table).await?;
    native::videos(&setting, &mut table).await?;
    native::memory(&setting, &mut table).await?;
    completion::last_step_to_completed(&setting, &mut table).await?;
    preemption::segment_beside_batch_work(&setting, &mut table).await?;
    if !args.native_only {
        peer::measure(&setting, &mut table)?;
    }
    println!("{table}");
    if let Some(path) = args.json {
        std::fs::write(&path, table.json()?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Adds lines to a file, if there is one.
fn append(path: Option<&Path>, lines: &str) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(file.write_all(lines.as_bytes())?)
}

fn setting(args: &Args) -> anyhow::Result<Setting> {
    let cache = Cache::new(std::path::absolute(&args.cache_dir)?);
    let model = Model::load(&args.model, None)?;
    let device = device::choose(args.device)?;
    let needs = if device.is_cpu() {
        Requirements::cpu()
    } else {
        Requirements::cuda()
    };
    let ready =
        model
            .menu
            .shapes
            .iter()
            .filter_map(|&shape| match cache.state(&model, shape, &needs) {
                State::Ready(bundle) => Some(*bundle),
                State::Missing | State::Stale(_) => None,
            });
    let bundles: Vec<Bundle> = ready.collect();
    anyhow::ensure!(
        bundles.len() >= 2,
        "two baked shapes are needed: run `reel bake` first"
    );
    Ok(Setting {
        worker: std::path::absolute(&args.worker)?,
        cache,
        bundles,
        model,
        python: args.python.clone(),
        device,
        runs: args.runs.max(5),
        threads: args.threads,
    })
}
