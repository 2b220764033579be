//! How fast the scheduler decides: alone, by the length of the queue; and with a simulated world around it.
//!
//! `cargo run --release -p reel-simulator --example throughput [alone|simulated]`
#![expect(clippy::print_stdout, reason = "the tables are the purpose")]

use reel_domain::{AttemptId, Stage};
use reel_scheduler::{
    Batching, Config, DecisionHash, DeviceSpec, Input, Mark, Scheduler, WorkerEvent, WorkerId,
};
use reel_simulator::{BundleCost, Pattern, Scenario, Volume, draw, inputs, run};
use std::time::{Duration, Instant};

const SHAPES: usize = 8;
const DEVICES: usize = 1_000;
/// Steps of an attempt, each of which is an input.
const STEPS: u32 = 20;
/// Jobs that come and go while the queue has its length.
const STEADY_JOBS: usize = 100_000;
/// Times that each measurement is made.
const RUNS: usize = 3;

type Told = Vec<(Duration, Input)>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wanted = std::env::args().nth(1);
    if wanted.as_deref() != Some("simulated") {
        alone()?;
    }
    if wanted.as_deref() != Some("alone") {
        simulated()?;
    }
    Ok(())
}

/// The scheduler without a world around it, while the queue keeps its length.
fn alone() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "| queued jobs | inputs without steps | millions per second | inputs with steps | millions per second | decisions |"
    );
    println!("|---:|---:|---:|---:|---:|---|");
    for queued in [100, 1_000, 10_000, 100_000, 1_000_000] {
        let scenario = scenario(DEVICES, queued + STEADY_JOBS, queued)?;
        let told = inputs(&scenario);
        let stepped = with_steps(&told);
        let (plain, decisions) = median_rate(&scenario, &told, queued);
        let (all, _) = median_rate(&scenario, &stepped, queued);
        println!(
            "| {queued} | {} | {:.2} | {} | {:.2} | {decisions} |",
            told.len(),
            plain / 1e6,
            stepped.len(),
            all / 1e6
        );
    }
    println!();
    Ok(())
}

/// Inputs per second after the queue has been filled: the middle one of several runs.
fn median_rate(scenario: &Scenario, told: &Told, queued: usize) -> (f64, DecisionHash) {
    let mut runs: Vec<_> = (0..RUNS).map(|_| rate(scenario, told, queued)).collect();
    runs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    runs[RUNS / 2]
}

fn rate(scenario: &Scenario, told: &Told, queued: usize) -> (f64, DecisionHash) {
    let keys = scenario.menu.iter().map(|cost| cost.key.clone()).collect();
    let mut scheduler = Scheduler::new(scenario.config.clone(), &scenario.devices, keys);
    let mut decisions = DecisionHash::default();
    let start = Instant::now();
    let mut inputs = told.clone().into_iter();
    let mut feed = |(at, input): (Duration, Input)| {
        scheduler.handle(input, start + at);
        while let Some(command) = scheduler.poll_command() {
            decisions.add(&command);
        }
    };
    let is_submission = |input: &Input| matches!(input, Input::Submit(_));
    let mut submitted = 0;
    for (at, input) in inputs.by_ref() {
        submitted += usize::from(is_submission(&input));
        feed((at, input));
        if submitted == queued {
            break;
        }
    }
    let count = inputs.len();
    let begun = Instant::now();
    inputs.for_each(feed);
    (count as f64 / begun.elapsed().as_secs_f64(), decisions)
}

/// The same with a message for each step of each attempt.
fn with_steps(told: &Told) -> Told {
    let mut all = Vec::with_capacity(told.len() * 5);
    for (at, input) in told {
        all.push((*at, input.clone()));
        if let Input::Worker {
            worker,
            event: WorkerEvent::Started { attempt },
        } = input
        {
            all.extend(steps(*worker, *attempt).map(|step| (*at, step)));
        }
    }
    all
}

fn steps(worker: WorkerId, attempt: AttemptId) -> impl Iterator<Item = Input> {
    (1..=STEPS).map(move |step| Input::Worker {
        worker,
        event: WorkerEvent::Progress {
            attempt,
            mark: Mark {
                stage: Stage::Denoise,
                step,
                of: STEPS,
            },
        },
    })
}

/// With a virtual clock and workers on paper.
fn simulated() -> Result<(), Box<dyn std::error::Error>> {
    println!("| devices | jobs | events | events per second | real time (s) | decisions |");
    println!("|---:|---:|---:|---:|---:|---|");
    for (devices, jobs, backlog) in [
        (10, 10_000, 10_000),
        (DEVICES, 100_000, 10_000),
        (DEVICES, 1_000_000, 10_000),
        (DEVICES, 1_000_000, 1_000_000),
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
                shares_weights: true,
            };
            devices
        ],
        menu: menu?,
        batch_max: 1,
        arrivals,
    })
}
