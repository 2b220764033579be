//! How far each policy of eviction is from the optimum: `cargo run --release --example optimum`.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use reel_domain::BundleKey;
use reel_scheduler::{Batching, Config, DeviceSpec, Eviction};
use reel_simulator::{BundleCost, Pattern, Report, Scenario, Volume, draw, optimum, run};
use std::time::Duration;

const SHAPES: usize = 16;
const JOBS: usize = 4_000;
const SERVICE_S: f64 = 7.0;
/// Jobs per second over what the devices can do.
const LOADS: [f64; 3] = [0.2, 0.75, 0.9];
const SEEDS: [u64; 2] = [1, 2];
/// Seconds of a spawn, given to the shapes in turn.
const SPAWNS: [&[u64]; 3] = [&[24], &[4, 24, 60], &[60, 24, 4]];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("| pattern | spawn (s) | load | G | K | optimum (s) | LRU | priced | priced / LRU |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for pattern in Pattern::ALL {
        for spawns in SPAWNS {
            for load in LOADS {
                for (devices, k) in pools() {
                    row(pattern, spawns, load, devices, k)?;
                }
            }
        }
    }
    Ok(())
}

/// Devices and workers on each, as long as there are more shapes than places.
fn pools() -> impl Iterator<Item = (usize, u32)> {
    let pools = (1..=4).flat_map(|devices| (1..=4).map(move |k| (devices, k)));
    pools.filter(|&(devices, k)| devices * (k as usize) < SHAPES)
}

fn row(
    pattern: Pattern,
    spawns: &[u64],
    load: f64,
    devices: usize,
    k: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut least, mut lru, mut priced) = (0.0, 0.0, 0.0);
    for seed in SEEDS {
        let mut scenario = scenario(pattern, spawns, load, devices, k, seed)?;
        least += optimum(&scenario).spawning.as_secs_f64();
        lru += spawning(&run(&scenario));
        scenario.config.eviction = Eviction::Priced;
        priced += spawning(&run(&scenario));
    }
    println!(
        "| {} | {spawns:?} | {load} | {devices} | {k} | {:.0} | {:.2} | {:.2} | {:.2} |",
        pattern.as_str(),
        least / SEEDS.len() as f64,
        lru / least,
        priced / least,
        priced / lru
    );
    Ok(())
}

fn spawning(report: &Report) -> f64 {
    assert_eq!(report.ended, JOBS);
    report.spawning.as_secs_f64()
}

fn scenario(
    pattern: Pattern,
    spawns: &[u64],
    load: f64,
    devices: usize,
    slots: u32,
    seed: u64,
) -> Result<Scenario, Box<dyn std::error::Error>> {
    let mut menu = Vec::new();
    for (index, &spawn) in spawns.iter().cycle().take(SHAPES).enumerate() {
        menu.push(BundleCost {
            key: BundleKey {
                model: "model".parse()?,
                shape: format!("64x64@{}f", 8 * index + 9).parse()?,
            },
            spawn: Duration::from_secs(spawn),
            service: Duration::from_secs_f64(SERVICE_S),
            steps: 20,
            batch_share: 0.0,
            weights_bytes: 0,
            private_bytes: 0,
        });
    }
    let volume = Volume {
        jobs: JOBS,
        rate: load * devices as f64 / SERVICE_S,
        bundles: SHAPES,
        tenants: 3,
        seed,
    };
    let memory_bytes = 0;
    Ok(Scenario {
        config: Config {
            queue_jobs_max: usize::MAX,
            tenant_jobs_max: usize::MAX,
            batching: Batching::Off,
            ..Config::default()
        },
        devices: vec![
            DeviceSpec {
                slots,
                memory_bytes
            };
            devices
        ],
        menu,
        batch_max: 1,
        arrivals: draw(pattern, volume),
    })
}
