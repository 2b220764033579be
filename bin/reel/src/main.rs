//! `reel`: the daemon, and the operator's command line.
#![forbid(unsafe_code)]

mod bake;
mod baker;
mod batch_rules;
mod catalog;
mod check;
mod client;
mod comparison;
mod config;
mod image_decoder;
mod incident;
mod key;
mod listening;
mod manual;
mod operator;
mod outbound;
mod output;
mod plan;
mod replay;
mod scheduling;
mod serve;
mod service;
mod simulate;
mod slots;
mod startup;
mod tuning;

use clap::{Args, CommandFactory, Parser, Subcommand};
use config::{Config, LogFormat};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// What went wrong was the operator's to mend: a flag, a file, a port (EX_USAGE of sysexits(3head)).
const EXIT_USAGE: u8 = 64;

/// Turns the GPUs of a machine into one video-generation endpoint.
#[derive(Debug, Parser)]
#[command(name = "reel", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the OpenAI Videos API; bakes what is missing in the background
    Serve(ServeArgs),
    /// Compile what the menus need and the cache lacks; does nothing when nothing is missing
    Bake(BakeArgs),
    /// Check a configuration and say what it would serve, without starting anything
    Check(SettingsArgs),
    /// Ask a running server for videos, and download them
    Generate(client::generate::GenerateArgs),
    /// List, show, cancel, delete or download jobs of a running server
    Jobs(client::jobs::JobsArgs),
    /// Say how many workers, how much memory and which shapes suit a sample of traffic, before anything starts
    Plan(PlanArgs),
    /// Try traffic and policies on a virtual clock, side by side
    Simulate(simulate::SimulateArgs),
    /// Look at deaths of workers
    Incident(incident::IncidentArgs),
    /// Make, list and revoke API keys
    Key(key::KeyArgs),
    /// Decide a recorded run again, or otherwise
    Replay(replay::ReplayArgs),
    /// Decode one image from standard input; the server starts it
    #[command(name = reel_media::IMAGE_DECODER, hide = true)]
    ImageDecoder(image_decoder::ImageDecoderArgs),
    /// Print what a shell needs to complete commands
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write one for each command
    Man(manual::ManArgs),
}

/// What overrides the configuration file.
#[derive(Debug, Clone, Args)]
struct SettingsArgs {
    /// The configuration file [default: reel.toml, if it exists]
    #[arg(long, env = "REEL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where jobs and videos live [default: reel-data]
    #[arg(long, env = "REEL_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where weights and bundles live [default: ~/.cache/reel]
    #[arg(long, env = "REEL_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// A model's directory; may be given several times [default: the built-in tiny-shapes]
    #[arg(long = "model", env = "REEL_MODEL", value_name = "DIR")]
    models: Vec<PathBuf>,
}

#[derive(Debug, Clone, Args)]
struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Where to listen; port 0 takes any free one [default: 127.0.0.1:8000]
    #[arg(long, env = "REEL_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Which devices serve [default: auto]
    #[arg(long, env = "REEL_DEVICES", value_enum)]
    devices: Option<config::Devices>,
    /// K: workers on each device, or auto: one for each shape, as memory allows [default: 2]
    #[arg(long, env = "REEL_SLOTS_PER_DEVICE", value_name = "K")]
    slots_per_device: Option<slots::Slots>,
    /// The worker program [default: reel-worker beside this one]
    #[arg(long, env = "REEL_WORKER", value_name = "FILE")]
    worker: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct BakeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Which devices the bundles are for [default: auto]
    #[arg(long, env = "REEL_DEVICES", value_enum)]
    devices: Option<config::Devices>,
    /// The Python that has reel_bake and torch [default: the one of `make setup`]
    #[arg(long, env = "REEL_PYTHON", value_name = "FILE")]
    python: Option<PathBuf>,
    /// Components that are compiled at a time [default: two, or one on a single core]
    #[arg(long, value_name = "N")]
    jobs: Option<u32>,
}

#[derive(Debug, Args)]
struct PlanArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Which devices serve [default: auto]
    #[arg(long, env = "REEL_DEVICES", value_enum)]
    devices: Option<config::Devices>,
    #[command(flatten)]
    sample: plan::SampleArgs,
}

impl PlanArgs {
    fn load(&self) -> Result<Config, config::ConfigError> {
        let mut config = self.settings.clone().load()?;
        config.pool.devices = self.devices.unwrap_or(config.pool.devices);
        Ok(config)
    }
}

impl BakeArgs {
    fn load(self) -> Result<(Config, Option<u32>), config::ConfigError> {
        let mut config = self.settings.load()?;
        config.pool.devices = self.devices.unwrap_or(config.pool.devices);
        config.bake.python = self.python.or(config.bake.python);
        Ok((config, self.jobs))
    }
}

impl SettingsArgs {
    fn load(self) -> Result<Config, config::ConfigError> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(dir) = self.data_dir {
            config.paths.data_dir = dir;
        }
        config.paths.cache_dir = self.cache_dir.or(config.paths.cache_dir);
        if !self.models.is_empty() {
            config.models = self
                .models
                .into_iter()
                .map(|path| config::Model { path })
                .collect();
        }
        Ok(config)
    }
}

impl ServeArgs {
    fn load(self) -> Result<Config, config::ConfigError> {
        let mut config = self.settings.load()?;
        config.server.listen = self.listen.unwrap_or(config.server.listen);
        config.pool.devices = self.devices.unwrap_or(config.pool.devices);
        config.pool.slots_per_device = self
            .slots_per_device
            .unwrap_or(config.pool.slots_per_device);
        config.paths.worker = self.worker.or(config.paths.worker);
        config.check()?;
        Ok(config)
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", explain(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error.is::<config::ConfigError>() || error.is::<startup::UsageError>();
    match error.downcast_ref::<client::Failure>() {
        Some(failure) => failure.exit(),
        None if usage => EXIT_USAGE,
        None => 1,
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Serve(args) => {
            let config = args.clone().load()?;
            let log = start_log(&config)?;
            serve::run(&config, operator::Source { args, log })
        }
        Command::Bake(args) => {
            let (config, jobs) = args.load()?;
            baker::run(&config, jobs)
        }
        Command::Check(args) => check::run(&args.load()?),
        Command::Generate(args) => client::generate::run(&args),
        Command::Jobs(args) => client::jobs::run_command(&args),
        Command::Plan(args) => plan::run(&args.load()?, &args.sample),
        Command::Simulate(args) => simulate::run_command(&args),
        Command::Incident(args) => incident::run_command(args),
        Command::Key(args) => key::run_command(args),
        Command::Replay(args) => replay::run_command(&args),
        Command::ImageDecoder(args) => return Ok(image_decoder::run(&args)),
        Command::Completions(args) => manual::completions(&args, Cli::command()),
        Command::Man(args) => manual::man(&args, Cli::command()),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// The error and its causes. Many say their cause themselves: nothing is said twice.
fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Logs go to stderr; `RUST_LOG` outranks the file. What is logged can be changed later.
fn start_log(config: &Config) -> anyhow::Result<LogHandle> {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(log_filter(config)?);
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log.format {
        LogFormat::Text => lines.with_ansi(terminal).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    Ok(handle)
}

fn log_filter(config: &Config) -> Result<EnvFilter, startup::UsageError> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| config.log.filter.clone());
    EnvFilter::try_new(&filter)
        .map_err(|error| startup::UsageError::Value(format!("log filter {filter:?}: {error}")))
}

/// Changes what is logged.
type LogHandle = tracing_subscriber::reload::Handle<EnvFilter, tracing_subscriber::Registry>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_in_order() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = std::io::Error::other("no such file");
        let says_it = config::ConfigError::Read {
            path: "reel.toml".into(),
            source: cause,
        };
        let error = anyhow::Error::new(says_it).context("the configuration");
        assert_eq!(
            explain(&error),
            "the configuration: cannot read reel.toml: no such file"
        );
    }
}
