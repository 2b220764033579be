//! Generates one video from the command line, without a supervisor: raw RGB frames into a file.
//!
//! `cargo run --release -p reel-engine --example generate -- --cache DIR --bundle DIR --prompt … --out frames.rgb`

use anyhow::{Context, bail};
use clap::Parser;
use reel_engine::{DeviceChoice, NativeEngine, Options};
use reel_protocol::{Item, Mode};
use reel_worker::Engine;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
struct Args {
    /// The bundle's directory.
    #[arg(long)]
    bundle: PathBuf,
    /// The cache's directory.
    #[arg(long)]
    cache: PathBuf,
    #[arg(long)]
    prompt: String,
    #[arg(long, default_value = "")]
    negative_prompt: String,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long, default_value_t = 20)]
    steps: u32,
    #[arg(long, default_value_t = 3.0)]
    guidance: f32,
    #[arg(long, default_value_t = 8)]
    fps: u32,
    /// Given frames as raw RGB; one of them for i2v, more for extend.
    #[arg(long)]
    given: Option<PathBuf>,
    /// Videos that are generated side by side; the first one is written.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Where the frames go: RGB, 8 bit, `[frames, height, width, 3]`.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = Options {
        device: DeviceChoice::Cpu,
        threads: args.threads,
    };
    let started = Instant::now();
    let mut engine = NativeEngine::load(&args.bundle, &args.cache, &options)?;
    eprintln!("loaded in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let canary = engine.canary()?;
    eprintln!(
        "canary {canary:?} in {:.1} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
    let given = args
        .given
        .as_ref()
        .map(fs::read)
        .transpose()
        .context("given frames")?
        .unwrap_or_default();
    let mut video = vec![0; engine.video_bytes()];
    generate(&mut engine, &args, &given, &mut video)?;
    fs::write(&args.out, video).with_context(|| args.out.display().to_string())
}

fn generate(
    engine: &mut NativeEngine,
    args: &Args,
    given: &[u8],
    video: &mut [u8],
) -> anyhow::Result<()> {
    let item = item(args, (given.len() / engine.frame_bytes()) as u32);
    let started = Instant::now();
    let mut runs = (0..args.batch)
        .map(|index| {
            let seed = item.seed + index as u64;
            engine.begin(
                &Item {
                    seed,
                    ..item.clone()
                },
                given,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    eprintln!("begun in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let mut times = Vec::new();
    for _ in 0..args.steps {
        let started = Instant::now();
        engine.step(&mut runs.iter_mut().collect::<Vec<_>>())?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    report(&mut times);
    let Some(run) = runs.into_iter().next() else {
        bail!("batch is 0")
    };
    let started = Instant::now();
    engine.decode(run, video)?;
    eprintln!("decoded in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn item(args: &Args, given_frames: u32) -> Item {
    let mode = match given_frames {
        0 => Mode::T2v,
        1 => Mode::I2v,
        _ => Mode::Extend,
    };
    Item {
        mode,
        prompt: args.prompt.clone(),
        negative_prompt: args.negative_prompt.clone(),
        seed: args.seed,
        steps: args.steps,
        guidance: args.guidance,
        fps: args.fps,
        conditioning_frames: given_frames,
        trace: None,
    }
}

fn report(times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    if let [min, .., max] = times {
        let (min, max) = (*min, *max);
        eprintln!(
            "step ms: min {min:.2} median {:.2} max {max:.2}",
            times[times.len() / 2]
        );
    }
}
