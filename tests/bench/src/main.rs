//! The numbers of `docs/performance.md`: the native worker beside a Python one, in the same run; and what Reel itself
//! costs, beside a bare HTTP handler.
//!
//! Prints a table on stdout and, with `--json`, the same figures for machines. Every figure is the median of
//! several runs with the smallest and the largest beside it.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

mod completion;
mod creates;
mod deaths;
mod device;
mod http;
mod load;
mod native;
mod peer;
mod pool;
mod preemption;
mod server;
mod table;

use anyhow::Context;
use clap::{Parser, Subcommand};
use reel_bundle::{Bundle, Cache, Model, Requirements, State};
use reel_supervisor::Device;
use std::fs::OpenOptions;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use table::Table;

/// Measures the native worker, and a Python worker beside it.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The worker program
    #[arg(long, default_value = "target/release/reel-worker")]
    worker: PathBuf,
    /// The cache with the bundles
    #[arg(long, env = "REEL_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
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

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what Reel itself costs, with workers that do nothing, beside a bare HTTP handler
    Http(http::HttpArgs),
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
    let mut table = Table::default();
    if let Some(Command::Http(http)) = &args.command {
        http::measure(http, &mut table).await?;
        println!("{table}");
        return write_json(http.json.as_deref(), &table);
    }
    let setting = setting(&args)?;
    if let Some(trials) = args.deaths {
        deaths::busy_workers(&setting, trials, &mut table).await?;
        let site = server::Site {
            reel: &args.reel,
            cache_dir: setting.cache.root(),
            scratch: Path::new("."),
            model: None,
        };
        creates::durable(site, 1, &mut table).await?;
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
    write_json(args.json.as_deref(), &table)
}

/// Writes the figures for machines, if anybody wants them.
fn write_json(path: Option<&Path>, table: &Table) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, table.json()?).with_context(|| format!("cannot write {}", path.display()))
}

/// Adds lines to a file, if there is one.
fn append(path: Option<&Path>, lines: &str) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(file.write_all(lines.as_bytes())?)
}

fn setting(args: &Args) -> anyhow::Result<Setting> {
    let cache_dir = args.cache_dir.as_deref();
    let cache_dir = cache_dir.context("--cache-dir or REEL_CACHE_DIR must name the cache")?;
    let cache = Cache::new(std::path::absolute(cache_dir)?);
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
