//! `reel simulate`: what would the scheduler do with traffic like this?

use crate::comparison::{self, Row};
use crate::output::say;
use crate::scheduling::{Batching, Eviction, GAIN_PERCENT};
use anyhow::Context;
use clap::{Args, ValueEnum};
use reel_domain::{BundleKey, Shape};
use reel_scheduler::{Config, DeviceSpec};
use reel_simulator::trace::{self, Trace};
use reel_simulator::{BundleCost, Scenario, Volume, draw, plot, run, watch};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest run, in seconds: thirty years.
const SPAN_S_MAX: f64 = 1e9;

/// Runs traffic through the scheduler on a virtual clock, once for each policy and each K.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The pattern of the traffic
    #[arg(long, value_enum, default_value = "zipf")]
    pattern: Pattern,
    /// Jobs in all
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    jobs: usize,
    /// Jobs per second on average [default: three quarters of what the devices can do]
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Devices
    #[arg(long, default_value_t = 2, value_name = "N")]
    devices: usize,
    /// Workers on each device; several are compared
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 4], value_name = "K,...", value_parser = clap::value_parser!(u32).range(1..))]
    k: Vec<u32>,
    /// Shapes on the menu
    #[arg(long, default_value_t = 8, value_name = "N")]
    shapes: usize,
    /// Seconds from spawn to READY; several are given to the shapes in turn
    #[arg(long, value_delimiter = ',', default_values_t = [24.0], value_name = "S,...")]
    spawn: Vec<f64>,
    /// Seconds of one job alone on its worker
    #[arg(long, default_value_t = 7.0, value_name = "S")]
    service: f64,
    /// Tenants
    #[arg(long, default_value_t = 3, value_name = "N")]
    tenants: usize,
    /// Policies of eviction; several are compared
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["lru", "priced"])]
    eviction: Vec<Eviction>,
    /// Whether jobs share a worker
    #[arg(long, value_enum, default_value = "off")]
    batching: Batching,
    /// Share of a step that a batch has in common, 0 to 1
    #[arg(long, default_value_t = 0.3, value_name = "X")]
    batch_share: f64,
    /// Seed of the traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take the arrivals of this file (CSV: at_s, shape, tenant, priority, session) instead of a pattern
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pattern", "jobs", "rate", "shapes", "tenants", "seed"])]
    trace: Option<PathBuf>,
    /// Only write the arrivals of the pattern to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["trace", "plot"])]
    write_trace: Option<PathBuf>,
    /// Record the run for `reel replay`, in a new file; of one K and one policy
    #[arg(long, value_name = "FILE", conflicts_with = "write_trace")]
    record: Option<PathBuf>,
    /// Draw hit-rate.svg, waits.svg and, of the last run, timeline.svg into this folder
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Minutes of the run that timeline.svg shows
    #[arg(long, default_value_t = 10.0, value_name = "M", requires = "plot")]
    plot_minutes: f64,
}

/// `--pattern`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Pattern {
    /// Few shapes get most of the jobs.
    Zipf,
    /// Bursts of one shape at a time, with silence between.
    Bursty,
    /// A day: a wave between a tenth and the full rate.
    Day,
    /// One shape after the other, round and round.
    Cyclic,
    /// One tenant asks for half of everything.
    Hog,
    /// Half of the jobs are segments of sessions, one after the other.
    Sessions,
}

impl From<Pattern> for reel_simulator::Pattern {
    fn from(pattern: Pattern) -> Self {
        match pattern {
            Pattern::Zipf => Self::Zipf,
            Pattern::Bursty => Self::Bursty,
            Pattern::Day => Self::Day,
            Pattern::Cyclic => Self::Cyclic,
            Pattern::Hog => Self::Hog,
            Pattern::Sessions => Self::Sessions,
        }
    }
}

pub(crate) fn run_command(args: &SimulateArgs) -> anyhow::Result<()> {
    let scenario = args.scenario()?;
    if let Some(path) = &args.write_trace {
        return write_trace(path, &scenario);
    }
    if let Some(path) = &args.record {
        return args.record(path, &scenario);
    }
    let mut rows = Vec::new();
    let mut runs = Vec::new();
    for &eviction in &args.eviction {
        for &k in &args.k {
            let scenario = with(&scenario, eviction, k);
            let policy = eviction.name();
            let row = Row::new(format!("{policy} K={k}"), &scenario, run(&scenario));
            runs.push(plot::Run {
                policy,
                k,
                report: row.report.clone(),
                optimum: row.optimum,
            });
            rows.push(row);
        }
    }
    comparison::print(&rows)?;
    if let Some(folder) = &args.plot {
        args.draw(folder, &runs, &scenario)?;
    }
    Ok(())
}

fn with(scenario: &Scenario, eviction: Eviction, k: u32) -> Scenario {
    let mut scenario = scenario.clone();
    scenario.config.eviction = eviction.into();
    for device in &mut scenario.devices {
        device.slots = k;
    }
    scenario
}

fn write_trace(path: &Path, scenario: &Scenario) -> anyhow::Result<()> {
    let shapes: Vec<_> = scenario.menu.iter().map(|cost| cost.key.shape).collect();
    let file = File::create(path).with_context(|| path.display().to_string())?;
    trace::write(BufWriter::new(file), &scenario.arrivals, &shapes)?;
    say(path.display())?;
    Ok(())
}

fn seconds(value: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(value).map_err(|error| anyhow::anyhow!("{value} s: {error}"))
}

impl SimulateArgs {
    fn scenario(&self) -> anyhow::Result<Scenario> {
        anyhow::ensure!(
            self.shapes > 0 && self.devices > 0,
            "there must be a shape and a device"
        );
        anyhow::ensure!(
            (0.0..=1.0).contains(&self.batch_share),
            "--batch-share is between 0 and 1"
        );
        let Trace { shapes, arrivals } = self.traffic()?;
        let device = DeviceSpec {
            slots: 1,
            memory_bytes: 0,
            shares_weights: true,
        };
        Ok(Scenario {
            config: Config {
                queue_jobs_max: usize::MAX,
                tenant_jobs_max: usize::MAX,
                batching: self.batching.with_gain(GAIN_PERCENT),
                ..Config::default()
            },
            devices: vec![device; self.devices],
            menu: self.menu(&shapes)?,
            batch_max: 8,
            arrivals,
        })
    }

    fn record(&self, path: &Path, scenario: &Scenario) -> anyhow::Result<()> {
        let (&[eviction], &[k]) = (&*self.eviction, &*self.k) else {
            anyhow::bail!("a recording is of one run: give one --k and one --eviction");
        };
        let report = reel_simulator::record(&with(scenario, eviction, k), path)
            .with_context(|| path.display().to_string())?;
        say(format!(
            "{}: {} inputs, decisions {}",
            path.display(),
            report.events,
            report.decisions
        ))?;
        Ok(())
    }

    fn traffic(&self) -> anyhow::Result<Trace> {
        match &self.trace {
            Some(path) => {
                let file = File::open(path).with_context(|| path.display().to_string())?;
                trace::read(file).with_context(|| path.display().to_string())
            }
            None => self.drawn(),
        }
    }

    fn drawn(&self) -> anyhow::Result<Trace> {
        let capacity = self.devices as f64 / self.service;
        let volume = Volume {
            jobs: self.jobs,
            rate: self.rate.unwrap_or(capacity * 0.75),
            bundles: self.shapes,
            tenants: self.tenants,
            service: seconds(self.service)?,
            seed: self.seed,
        };
        anyhow::ensure!(volume.rate > 0.0, "--rate must be above 0");
        anyhow::ensure!(
            volume.jobs as f64 / volume.rate < SPAN_S_MAX,
            "so many jobs at --rate {:e} take more than {SPAN_S_MAX} s",
            volume.rate
        );
        let shapes = (0..self.shapes).map(|index| format!("64x64@{}f", 8 * index + 9).parse());
        Ok(Trace {
            shapes: shapes.collect::<Result<_, _>>()?,
            arrivals: draw(self.pattern.into(), volume),
        })
    }

    fn menu(&self, shapes: &[Shape]) -> anyhow::Result<Vec<BundleCost>> {
        let service = seconds(self.service)?;
        anyhow::ensure!(!service.is_zero(), "--service must be above 0");
        let costs = shapes.iter().zip(self.spawn.iter().cycle());
        let menu = costs.map(|(&shape, &spawn)| {
            Ok(BundleCost {
                key: BundleKey {
                    model: "model".parse()?,
                    shape,
                },
                spawn: seconds(spawn)?,
                service,
                steps: 20,
                batch_share: self.batch_share,
                weights_bytes: 0,
                private_bytes: 0,
            })
        });
        menu.collect()
    }

    /// Writes the pictures, that of the slots for the last run.
    fn draw(&self, folder: &Path, runs: &[plot::Run], scenario: &Scenario) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let mut pictures = vec![
            ("hit-rate.svg", plot::hit_rate(runs)?),
            ("waits.svg", plot::waits(runs)?),
        ];
        if let (Some(&eviction), Some(&k)) = (self.eviction.last(), self.k.last()) {
            let scenario = with(scenario, eviction, k);
            let (_, timeline) = watch(&scenario, seconds(self.plot_minutes * 60.0)?);
            let name = format!("{} K={k}", eviction.name());
            pictures.push(("timeline.svg", plot::slots(&name, &scenario, &timeline)?));
        }
        for (name, picture) in pictures {
            let path = folder.join(name);
            fs::write(&path, picture).with_context(|| path.display().to_string())?;
            say(path.display())?;
        }
        Ok(())
    }
}
