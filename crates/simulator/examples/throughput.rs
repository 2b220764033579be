//! Input events per second of the scheduler, by devices and jobs: `cargo run --release --example throughput`.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use reel_scheduler::{Batching, Config, DecisionHash, DeviceSpec, Scheduler};
use reel_simulator::{BundleCost, Pattern, Scenario, Volume, draw, inputs, run};
use std::time::{Duration, Instant};

const SHAPES: usize = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("| devices | jobs | events | events per second | real time (s) | decisions |");
    println!("|---:|---:|---:|---:|---:|---|");
    for (devices, jobs, backlog) in [
        (10, 1_000, 100),
        (10, 10_000, 10_000),
        (1_000, 100_000, 10_000),
        (1_000, 1_000_000, 10_000),
        (1_000, 1_000_000, 1_000_000),
    ] {
        let report = run(&scenario(devices, jobs, backlog)?);
        let rate = report.events as f64 / report.wall.as_secs_f64();
        println!(
            "| {devices} | {jobs} | {} | {rate:.0} | {:.2} | {} |",
            report.events,
            report.wall.as_secs_f64(),
            report.decisions
        );
    }
    alone()
}

/// The scheduler without a world around it: the same million inputs three times.
fn alone() -> Result<(), Box<dyn std::error::Error>> {
    let scenario = scenario(1_000, 200_000, 10_000)?;
    let told = inputs(&scenario);
    println!(
        "\n{} inputs at 1,000 devices, the scheduler alone:",
        told.len()
    );
    for _ in 0..3 {
        let inputs = told.clone();
        let keys = scenario.menu.iter().map(|cost| cost.key.clone()).collect();
        let mut scheduler = Scheduler::new(scenario.config.clone(), &scenario.devices, keys);
        let mut decisions = DecisionHash::default();
        let begun = Instant::now();
        let count = inputs.len();
        for (at, input) in inputs {
            scheduler.handle(input, begun + at);
            while let Some(command) = scheduler.poll_command() {
                decisions.add(&command);
            }
        }
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        println!("{rate:.0} inputs per second, decisions {decisions}");
    }
    Ok(())
}

/// As many devices as jobs keep busy, after `backlog` jobs have arrived at once.
fn scenario(
    devices: usize,
    jobs: usize,
    backlog: usize,
) -> Result<Scenario, Box<dyn std::error::Error>> {
    let service = Duration::from_secs(7);
    let menu: Result<Vec<_>, Box<dyn std::error::Error>> = (0..SHAPES)
        .map(|index| {
            Ok(BundleCost {
                key: reel_domain::BundleKey {
                    model: "model".parse()?,
                    shape: format!("64x64@{}f", 8 * index + 9).parse()?,
                },
                spawn: Duration::from_secs(1),
                service,
                steps: 20,
                batch_share: 0.0,
                weights_bytes: 0,
                private_bytes: 0,
            })
        })
        .collect();
    let volume = Volume {
        jobs,
        rate: devices as f64 / service.as_secs_f64(),
        bundles: SHAPES,
        tenants: 100,
        service,
        seed: 1,
    };
    let mut arrivals = draw(Pattern::Zipf, volume);
    let first = arrivals.len().min(backlog);
    let late = arrivals[first - 1].at;
    arrivals[..first]
        .iter_mut()
        .for_each(|arrival| arrival.at = Duration::ZERO);
    arrivals[first..]
        .iter_mut()
        .for_each(|arrival| arrival.at -= late);
    Ok(Scenario {
        config: Config {
            queue_jobs_max: usize::MAX,
            tenant_jobs_max: usize::MAX,
            batching: Batching::Off,
            ..Config::default()
        },
        devices: vec![
            DeviceSpec {
                slots: 4,
                memory_bytes: 0,
            };
            devices
        ],
        menu: menu?,
        batch_max: 1,
        arrivals,
    })
}
