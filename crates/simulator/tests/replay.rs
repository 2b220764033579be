//! A long recording replays to the same decisions, every time.
//!
//! `REEL_REPLAY_INPUTS` says how long (100,000 inputs where nobody does).
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use reel_recording::Recording;
use reel_scheduler::{Config, DeviceSpec, Eviction};
use reel_simulator::{BundleCost, Pattern, Scenario, Volume, draw, observe, record, run};
use std::time::Duration;

fn scenario(jobs: usize) -> Scenario {
    let menu: Vec<_> = (0..8_u64)
        .map(|index| BundleCost {
            key: format!("model/64x64@{}f", 8 * index + 9).parse().unwrap(),
            spawn: Duration::from_secs(4 + 4 * index),
            service: Duration::from_secs(7),
            steps: 20,
            batch_share: 0.3,
            weights_bytes: 0,
            private_bytes: 0,
        })
        .collect();
    let volume = Volume {
        jobs,
        rate: 0.8,
        bundles: menu.len(),
        tenants: 3,
        service: Duration::from_secs(7),
        seed: 5,
    };
    let device = DeviceSpec {
        slots: 2,
        memory_bytes: 0,
        shares_weights: true,
    };
    Scenario {
        config: Config {
            eviction: Eviction::Priced,
            queue_jobs_max: 200,
            ..Config::default()
        },
        devices: vec![device; 4],
        menu,
        batch_max: 4,
        arrivals: draw(Pattern::Bursty, volume),
    }
}

#[test]
fn what_is_made_of_a_recording_is_near_to_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.reelrec");
    record(&scenario(2_000), &path).unwrap();
    let observed = observe(Recording::open(&path).unwrap()).unwrap();
    let alike = run(&observed.scenario);
    let near = |one: Duration, other: Duration| {
        let ratio = one.as_secs_f64() / other.as_secs_f64();
        assert!((0.5..2.0).contains(&ratio), "{one:?} and {other:?}");
    };
    near(alike.busy, observed.report.busy);
    near(alike.wait(50), observed.report.wait(50));
    near(alike.wait(95), observed.report.wait(95));
    near(alike.spawning, observed.report.spawning);
}

#[test]
fn a_long_recording_replays_to_the_same_decisions_three_times() {
    let wanted: usize =
        std::env::var("REEL_REPLAY_INPUTS").map_or(100_000, |text| text.parse().unwrap());
    // A job is some six inputs.
    let scenario = scenario(wanted / 5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.reelrec");
    let report = record(&scenario, &path).unwrap();
    let replays: Vec<_> = (0..3)
        .map(|_| Recording::open(&path).unwrap().replay().unwrap())
        .collect();
    for replay in &replays {
        assert_eq!(replay.inputs, report.events);
        assert!(replay.checks >= report.events / 1_000);
        assert_eq!(replay.decisions, report.decisions);
    }
    eprintln!(
        "{} inputs, {} decisions, hash {}",
        report.events, replays[0].commands, report.decisions
    );
}
