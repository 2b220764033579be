//! `reel simulate`: what would the scheduler do with traffic like this?
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use crate::scheduling::{Batching, Eviction, GAIN_PERCENT};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use reel_domain::BundleKey;
use reel_scheduler::{Config, DeviceSpec};
use reel_simulator::{BundleCost, Optimum, Report, Scenario, Volume, draw, optimum, run};
use std::time::Duration;

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
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 4], value_name = "K,...")]
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
    let scenario = scenario(args)?;
    let mut runs = Vec::new();
    for &eviction in &args.eviction {
        for &k in &args.k {
            let mut scenario = scenario.clone();
            scenario.config.eviction = eviction.into();
            for device in &mut scenario.devices {
                device.slots = k;
            }
            let policy = eviction
                .to_possible_value()
                .map(|value| value.get_name().to_owned());
            let name = format!("{} K={k}", policy.unwrap_or_default());
            runs.push(Row::new(name, &scenario, run(&scenario)));
        }
    }
    print(&runs);
    Ok(())
}

fn scenario(args: &SimulateArgs) -> anyhow::Result<Scenario> {
    let seconds = |value: f64| {
        Duration::try_from_secs_f64(value).map_err(|error| anyhow::anyhow!("{value} s: {error}"))
    };
    anyhow::ensure!(
        args.shapes > 0 && args.devices > 0,
        "there must be a shape and a device"
    );
    anyhow::ensure!(
        (0.0..=1.0).contains(&args.batch_share),
        "--batch-share is between 0 and 1"
    );
    let service = seconds(args.service)?;
    anyhow::ensure!(!service.is_zero(), "--service must be above 0");
    let mut menu = Vec::new();
    for (index, &spawn) in args.spawn.iter().cycle().take(args.shapes).enumerate() {
        menu.push(BundleCost {
            key: BundleKey {
                model: "model".parse()?,
                shape: format!("64x64@{}f", 8 * index + 9).parse()?,
            },
            spawn: seconds(spawn)?,
            service,
            steps: 20,
            batch_share: args.batch_share,
            weights_bytes: 0,
            private_bytes: 0,
        });
    }
    let capacity = args.devices as f64 / args.service;
    let volume = Volume {
        jobs: args.jobs,
        rate: args.rate.unwrap_or(capacity * 0.75),
        bundles: args.shapes,
        tenants: args.tenants,
        service,
        seed: args.seed,
    };
    anyhow::ensure!(volume.rate > 0.0, "--rate must be above 0");
    let device = DeviceSpec {
        slots: 1,
        memory_bytes: 0,
    };
    Ok(Scenario {
        config: Config {
            queue_jobs_max: usize::MAX,
            tenant_jobs_max: usize::MAX,
            batching: args.batching.with_gain(GAIN_PERCENT),
            ..Config::default()
        },
        devices: vec![device; args.devices],
        menu,
        batch_max: 8,
        arrivals: draw(args.pattern.into(), volume),
    })
}

/// One run of the table.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    report: Report,
    optimum: Optimum,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, scenario: &Scenario, report: Report) -> Self {
        Self {
            name: name.into(),
            report,
            optimum: optimum(scenario),
        }
    }

    fn cells(&self) -> [String; 16] {
        let report = &self.report;
        let share = |jobs: usize| {
            let percent = jobs as f64 / report.jobs.max(1) as f64 * 100.0;
            format!("{percent:.1} %")
        };
        let [p50, p95, p99, longest] =
            [50, 95, 99, 100].map(|percent| seconds(report.wait(percent)));
        [
            self.name.clone(),
            report.jobs.to_string(),
            report.rejections.to_string(),
            share(report.hot),
            share(report.at_once),
            p50,
            p95,
            p99,
            longest,
            report.spawns.to_string(),
            seconds(report.spawning),
            seconds(report.spawning_more),
            times(report.spawning, self.optimum.spawning),
            report.counters.evictions.to_string(),
            report.counters.merges.to_string(),
            seconds(report.busy),
        ]
    }
}

/// Runs side by side.
pub(crate) fn print(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header([
        "",
        "jobs",
        "refused",
        "hot",
        "at once",
        "wait p50",
        "p95",
        "p99",
        "longest",
        "spawns",
        "spawning",
        "2nd workers",
        "x optimum",
        "evicted",
        "joined",
        "busy",
    ]);
    for row in rows {
        table.add_row(row.cells());
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

fn times(spawning: Duration, optimum: Duration) -> String {
    if optimum.is_zero() {
        return "-".into();
    }
    format!("{:.2}", spawning.div_duration_f64(optimum))
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        0.0 => "0 s".into(),
        _ if seconds < 10.0 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.0} s"),
    }
}
