//! What it costs to keep a checkpoint after each step, beside the step.
//!
//! `cargo run --release -p reel-engine --example checkpoint -- --cache DIR --bundle DIR`

#![expect(clippy::print_stdout, reason = "the figure is the purpose")]

use anyhow::Context;
use clap::Parser;
use reel_engine::{DeviceChoice, NativeEngine, Options};
use reel_protocol::{Checkpoint, Item, Mode};
use reel_worker::Engine;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Args {
    /// The bundle's directory.
    #[arg(long)]
    bundle: PathBuf,
    /// The cache's directory.
    #[arg(long)]
    cache: PathBuf,
    /// Steps that are measured.
    #[arg(long, default_value_t = 200)]
    steps: u32,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where the figures go as a line of a table.
    #[arg(long, env = "REEL_CHAOS_REPORT")]
    report: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = Options {
        device: DeviceChoice::Cpu,
        threads: args.threads,
    };
    let mut engine = NativeEngine::load(&args.bundle, &args.cache, &options)?;
    let item = Item {
        mode: Mode::T2v,
        prompt: "a red circle".into(),
        negative_prompt: String::new(),
        seed: 1,
        steps: args.steps,
        guidance: 3.0,
        fps: 8,
        conditioning_frames: 0,
        trace: None,
    };
    let mut run = engine.begin(&item, &[])?;
    let mut checkpoint = Checkpoint::create(engine.state_bytes())?;
    let (mut state, mut steps, mut saves) = (Vec::new(), Vec::new(), Vec::new());
    for step in 1..=args.steps {
        let begun = Instant::now();
        engine.step(&mut [&mut run])?;
        let stepped = Instant::now();
        state.clear();
        engine.save(&run, &mut state)?;
        checkpoint.save(step, &state)?;
        steps.push(stepped - begun);
        saves.push(stepped.elapsed());
    }
    let (step, save) = (median(steps)?, median(saves)?);
    let share = 100.0 * save.as_secs_f64() / step.as_secs_f64();
    let line = format!(
        "| a checkpoint after each step ({} bytes) | <= 0.5 % of a step | {share:.2} % ({:.1} µs of {:.2} ms, medians \
         of {}) |",
        state.len(),
        save.as_secs_f64() * 1e6,
        step.as_secs_f64() * 1e3,
        args.steps
    );
    println!("{line}");
    if let Some(path) = args.report {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{line}")?;
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> anyhow::Result<Duration> {
    times.sort();
    times.get(times.len() / 2).copied().context("no steps")
}
