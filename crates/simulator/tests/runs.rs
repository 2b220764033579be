//! Whole runs: everything ends, the same every time, and policies differ as they should.

use reel_domain::BundleKey;
use reel_scheduler::{Batching, Config, DeviceSpec, Eviction};
use reel_simulator::{
    BundleCost, Pattern, Report, Scenario, Volume, draw, optimum, plot, run, watch,
};
use std::time::Duration;

const JOBS: usize = 2_000;

/// Two devices of two slots each; spawns take as many seconds as `spawns` says, shape by shape.
fn scenario(pattern: Pattern, spawns: &[u64], config: Config) -> Scenario {
    let menu = spawns
        .iter()
        .enumerate()
        .map(|(index, &seconds)| BundleCost {
            key: BundleKey {
                model: "model".parse().expect("a name"),
                shape: format!("64x64@{}f", 8 * index + 9)
                    .parse()
                    .expect("a shape"),
            },
            spawn: Duration::from_secs(seconds),
            service: Duration::from_secs(2),
            steps: 20,
            batch_share: 0.6,
            weights_bytes: 0,
            private_bytes: 0,
        });
    let volume = Volume {
        jobs: JOBS,
        rate: 0.5,
        bundles: spawns.len(),
        tenants: 3,
        service: Duration::from_secs(2),
        seed: 7,
    };
    let device = DeviceSpec {
        slots: 2,
        memory_bytes: 0,
        shares_weights: true,
    };
    Scenario {
        config,
        devices: vec![device; 2],
        menu: menu.collect(),
        batch_max: 8,
        arrivals: draw(pattern, volume),
    }
}

fn ran(pattern: Pattern, config: Config) -> Report {
    run(&scenario(pattern, &[1, 1, 10, 10, 30, 30], config))
}

#[test]
fn every_job_ends_under_every_pattern() {
    for pattern in Pattern::ALL {
        let report = ran(pattern, Config::default());
        let name = pattern.as_str();
        assert_eq!((report.ended, report.rejections), (JOBS, 0), "{name}");
        assert!(report.spawns >= 4 && report.busy > Duration::ZERO, "{name}");
    }
}

#[test]
fn every_job_ends_where_evictions_have_to_wait_for_their_budget() {
    let report = run(&scenario(Pattern::Zipf, &[24; 8], Config::default()));
    assert!(report.counters.evictions_held > 0);
    assert_eq!(report.ended, JOBS);
}

#[test]
fn the_same_run_decides_the_same() {
    let [one, other] = [(); 2].map(|()| ran(Pattern::Bursty, Config::default()));
    assert_eq!(one.decisions, other.decisions);
    assert_eq!((one.events, &one.waits), (other.events, &other.waits));
    let unlike = ran(Pattern::Zipf, Config::default());
    assert_ne!(one.decisions, unlike.decisions);
}

#[test]
fn batches_get_a_backlog_done_sooner() {
    let busy = |batching| {
        let config = Config {
            batching,
            ..Config::default()
        };
        let mut scenario = scenario(Pattern::Zipf, &[1, 1], config);
        for arrival in &mut scenario.arrivals {
            arrival.at /= 10;
        }
        run(&scenario)
    };
    let alone = busy(Batching::Off);
    let together = busy(Batching::Profit { gain_permille: 30 });
    assert!(together.counters.merges > 0);
    assert!(
        together.span < alone.span * 3 / 4,
        "{:?} of {:?}",
        together.span,
        alone.span
    );
}

#[test]
fn priced_eviction_spawns_for_less_where_shapes_cost_differently() {
    let spawning = |eviction| {
        let config = Config {
            eviction,
            prewarm: false,
            ..Config::default()
        };
        ran(Pattern::Zipf, config).spawning
    };
    let (lru, priced) = (spawning(Eviction::Lru), spawning(Eviction::Priced));
    assert!(priced < lru, "{priced:?} of {lru:?}");
}

#[test]
fn one_tenants_flood_does_not_drown_the_others() {
    let mut scenario = scenario(Pattern::Zipf, &[1], Config::default());
    // Everything of tenant 0 comes at once, at the beginning.
    let hog = scenario.arrivals[0].tenant.clone();
    for arrival in &mut scenario.arrivals {
        if arrival.tenant == hog {
            arrival.at = Duration::ZERO;
        }
    }
    scenario.arrivals.sort_by_key(|arrival| arrival.at);
    scenario.config.batching = Batching::Off;
    let report = run(&scenario);
    assert_eq!(report.ended, JOBS);
    // Two thirds of the jobs are of others; at half of the capacity theirs hardly wait.
    let middle = report.wait(50);
    assert!(middle < Duration::from_secs(20), "{middle:?}");
}

#[test]
fn pictures_name_what_they_show() {
    let mut scenario = scenario(Pattern::Zipf, &[1, 10, 30], Config::default());
    let (report, timeline) = watch(&scenario, Duration::from_secs(600));
    let run = plot::Run {
        policy: "lru".into(),
        k: 2,
        report,
        optimum: optimum(&scenario),
    };
    let pictures = [
        plot::hit_rate(std::slice::from_ref(&run)).expect("a picture"),
        plot::waits(std::slice::from_ref(&run)).expect("a picture"),
        plot::slots("lru K=2", &scenario, &timeline).expect("a picture"),
    ];
    let said = [
        &["workers on each device (K)", "optimum", "lru", "100 %"],
        &["wait (log scale)", "lru K=2", "100 ms", "1 s"],
        &["time (min)", "device 1, slot 1", "64x64@25f", "is spawned"],
    ];
    for (picture, said) in pictures.iter().zip(said) {
        for text in said {
            assert!(picture.contains(text), "{text}");
        }
    }
    // Nothing to see is no reason to fail.
    scenario.arrivals.clear();
    scenario.devices.clear();
    let (report, timeline) = watch(&scenario, Duration::ZERO);
    let none = plot::Run {
        report,
        optimum: optimum(&scenario),
        ..run
    };
    assert!(plot::hit_rate(std::slice::from_ref(&none)).is_ok());
    assert!(plot::waits(std::slice::from_ref(&none)).is_ok());
    assert!(plot::slots("nothing", &scenario, &timeline).is_ok());
    assert!(plot::hit_rate(&[]).is_ok());
}

#[test]
fn the_timeline_is_what_the_report_counts() {
    let scenario = scenario(Pattern::Zipf, &[1, 1, 10, 10, 30, 30], Config::default());
    let (report, timeline) = watch(&scenario, Duration::MAX);
    assert_eq!(report.decisions, run(&scenario).decisions);
    assert_eq!(timeline.stays.len(), report.spawns);
    let spawning = timeline.stays.iter().filter_map(|stay| {
        let ready = stay.ready?;
        Some(ready - stay.spawned)
    });
    assert_eq!(spawning.sum::<Duration>(), report.spawning);
    let busy = timeline.stays.iter().flat_map(|stay| &stay.busy);
    let busy = busy.map(|(from, to)| to.expect("all jobs have ended") - *from);
    assert_eq!(busy.sum::<Duration>(), report.busy);
    let (_, beginning) = watch(&scenario, Duration::from_secs(60));
    assert!(beginning.stays.len() < timeline.stays.len());
}
