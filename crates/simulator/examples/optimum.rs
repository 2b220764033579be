//! How far each policy of eviction is from the optimum: `cargo run --release -p reel-simulator --example optimum`; with
//! `all`, every pool by itself.
//!
//! In the columns of policies and of what is fixed, the time of spawns is given as a multiple of the optimum's. What
//! is fixed keeps the same bundles all the time, those that save most over the whole trace, and has one place for
//! all others: where jobs are independent of each other, no policy that does not know the future and lets nobody
//! wait does much better. In brackets, without the spawns of second workers of a bundle, which no optimum needs.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use reel_domain::BundleKey;
use reel_scheduler::{Batching, Config, DeviceSpec, Eviction};
use reel_simulator::{BundleCost, Pattern, Report, Scenario, Volume, draw, optimum, run};
use std::collections::BTreeMap;
use std::time::Duration;

const SHAPES: usize = 16;
const JOBS: usize = 4_000;
const SERVICE_S: f64 = 7.0;
/// Jobs per second over what the devices can do.
const LOADS: [f64; 3] = [0.2, 0.75, 0.9];
const SEEDS: [u64; 2] = [1, 2];
/// Seconds of a spawn, given to the shapes in turn.
const SPAWNS: [&[u64]; 3] = [&[24], &[4, 24, 60], &[60, 24, 4]];

/// Figures of one pool.
#[derive(Debug, Clone, Copy)]
struct Pool {
    fixed: f64,
    lru: Spawning,
    priced: Spawning,
    optimum: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let all = std::env::args().any(|arg| arg == "all");
    if all {
        println!(
            "| pattern | spawn (s) | load | G | K | optimum (s) | fixed | LRU | priced | priced / LRU |"
        );
        println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    }
    let mut means: BTreeMap<(&str, &str, String), Vec<Pool>> = BTreeMap::new();
    for pattern in Pattern::ALL {
        for spawns in SPAWNS {
            for load in LOADS {
                for (devices, k) in pools() {
                    let pool = pool(pattern, spawns, load, devices, k)?;
                    if all {
                        print(pattern, spawns, load, (devices, k), pool);
                    }
                    let kind = if spawns.len() == 1 {
                        "equal"
                    } else {
                        "unequal"
                    };
                    let key = (pattern.as_str(), kind, load.to_string());
                    means.entry(key).or_default().push(pool);
                }
            }
        }
    }
    print_means(&means);
    Ok(())
}

fn print(pattern: Pattern, spawns: &[u64], load: f64, (devices, k): (usize, u32), pool: Pool) {
    println!(
        "| {} | {spawns:?} | {load} | {devices} | {k} | {:.0} | {:.2} | {} | {} | {:.2} |",
        pattern.as_str(),
        pool.optimum,
        pool.fixed,
        pool.lru.over(pool.optimum),
        pool.priced.over(pool.optimum),
        pool.priced.seconds / pool.lru.seconds
    );
}

/// Geometric means over the pools.
fn print_means(means: &BTreeMap<(&str, &str, String), Vec<Pool>>) {
    println!(
        "\n| pattern | spawns | load | fixed | LRU | priced | priced / LRU | pools at most 1.2 | pools over 1.05 x LRU |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for ((pattern, spawns, load), pools) in means {
        let of = |value: fn(&Pool) -> f64| {
            let logs: f64 = pools.iter().map(|pool| value(pool).ln()).sum();
            (logs / pools.len() as f64).exp()
        };
        let count = |wanted: fn(&Pool) -> bool| pools.iter().filter(|pool| wanted(pool)).count();
        println!(
            "| {pattern} | {spawns} | {load} | {:.2} | {:.2} ({:.2}) | {:.2} ({:.2}) | {:.2} | {} of {} | {} |",
            of(|pool| pool.fixed),
            of(|pool| pool.lru.seconds / pool.optimum),
            of(|pool| pool.lru.first() / pool.optimum),
            of(|pool| pool.priced.seconds / pool.optimum),
            of(|pool| pool.priced.first() / pool.optimum),
            of(|pool| pool.priced.seconds / pool.lru.seconds),
            count(|pool| pool.priced.seconds <= 1.2 * pool.optimum),
            pools.len(),
            count(|pool| pool.priced.seconds > 1.05 * pool.lru.seconds)
        );
    }
}

/// Devices and workers on each, as long as there are more shapes than places.
fn pools() -> impl Iterator<Item = (usize, u32)> {
    let pools = (1..=4).flat_map(|devices| (1..=4).map(move |k| (devices, k)));
    pools.filter(|&(devices, k)| devices * (k as usize) < SHAPES)
}

fn pool(
    pattern: Pattern,
    spawns: &[u64],
    load: f64,
    devices: usize,
    k: u32,
) -> Result<Pool, Box<dyn std::error::Error>> {
    let (mut least, mut kept) = (0.0, 0.0);
    let (mut lru, mut priced) = (Spawning::default(), Spawning::default());
    for seed in SEEDS {
        let mut scenario = scenario(pattern, spawns, load, devices, k, seed)?;
        least += optimum(&scenario).spawning.as_secs_f64();
        kept += fixed(&scenario).as_secs_f64();
        lru.add(&run(&scenario));
        scenario.config.eviction = Eviction::Priced;
        priced.add(&run(&scenario));
    }
    let seeds = SEEDS.len() as f64;
    Ok(Pool {
        fixed: kept / least,
        lru: lru.mean(seeds),
        priced: priced.mean(seeds),
        optimum: least / seeds,
    })
}

/// Time of spawns.
#[derive(Debug, Clone, Copy, Default)]
struct Spawning {
    seconds: f64,
    /// Of that, for bundles that had a worker already.
    more_seconds: f64,
}

impl Spawning {
    fn add(&mut self, report: &Report) {
        assert_eq!(report.ended, JOBS);
        self.seconds += report.spawning.as_secs_f64();
        self.more_seconds += report.spawning_more.as_secs_f64();
    }

    fn mean(self, runs: f64) -> Self {
        Self {
            seconds: self.seconds / runs,
            more_seconds: self.more_seconds / runs,
        }
    }

    /// Without second workers.
    fn first(self) -> f64 {
        self.seconds - self.more_seconds
    }

    fn over(self, optimum: f64) -> String {
        let (all, first) = (self.seconds / optimum, self.first() / optimum);
        format!("{all:.2} ({first:.2})")
    }
}

/// Time of spawns when the same bundles are kept all the time, and one place is left for all others.
fn fixed(scenario: &Scenario) -> Duration {
    let places: usize = scenario
        .devices
        .iter()
        .map(|device| device.slots as usize)
        .sum();
    let mut asked: Vec<usize> = scenario.arrivals.iter().map(|job| job.bundle).collect();
    let mut kept = Vec::new();
    let mut spawning = Duration::ZERO;
    for _ in 1..places {
        let dearest = (0..scenario.menu.len()).max_by_key(|bundle| {
            let runs = asked.chunk_by(|one, next| one == next);
            let spawns = runs.filter(|run| run[0] == *bundle).count();
            scenario.menu[*bundle].spawn * u32::try_from(spawns).unwrap_or(u32::MAX)
        });
        let dearest = dearest.filter(|bundle| asked.contains(bundle));
        asked.retain(|&bundle| Some(bundle) != dearest);
        kept.extend(dearest);
    }
    asked.dedup();
    for bundle in kept.into_iter().chain(asked) {
        spawning += scenario.menu[bundle].spawn;
    }
    spawning
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
        service: Duration::from_secs_f64(SERVICE_S),
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
                memory_bytes,
                shares_weights: true,
            };
            devices
        ],
        menu,
        batch_max: 1,
        arrivals: draw(pattern, volume),
    })
}
