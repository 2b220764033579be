//! `reel-worker`: the native engine behind the worker protocol. Started by `reel serve`, once per slot.
#![forbid(unsafe_code)]

use clap::Parser;
use reel_engine::{DeviceChoice, NativeEngine, Options};
use reel_process::inherit;
use reel_worker::{Ending, EngineError, serve};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Generates the videos of one bundle for the supervisor that started it.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The bundle that this worker is pinned to for its whole life
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// The cache that holds the weights
    #[arg(long, value_name = "DIR")]
    cache_dir: PathBuf,
    /// Where to compute: cpu, or cuda:N among the visible GPUs
    #[arg(long, default_value = "cpu", value_parser = parse_device)]
    device: DeviceChoice,
    /// Threads to compute with on the CPU
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
}

fn main() -> ExitCode {
    let born = Instant::now();
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let inherited = inherit::channel().and_then(|channel| Ok((channel, inherit::flight()?)));
    let (channel, flight) = match inherited {
        Ok(inherited) => inherited,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match serve(&channel, flight, born, || load(&args)) {
        Ending::Asked => ExitCode::SUCCESS,
        Ending::Fatal(error) => {
            tracing::error!(class = ?error.class, "{error}");
            ExitCode::FAILURE
        }
        Ending::Broken(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn load(args: &Args) -> Result<NativeEngine, EngineError> {
    let options = Options {
        device: args.device,
        threads: args.threads.get(),
    };
    NativeEngine::load(&args.bundle, &args.cache_dir, &options)
        .map_err(|error| EngineError::boot(format!("{:#}", anyhow::Error::new(error))))
}

fn parse_device(text: &str) -> Result<DeviceChoice, String> {
    match text.split_once(':') {
        None if text == "cpu" => Ok(DeviceChoice::Cpu),
        Some(("cuda", index)) => index
            .parse()
            .map(DeviceChoice::Cuda)
            .map_err(|error| error.to_string()),
        _ => Err("expected cpu or cuda:N".into()),
    }
}
