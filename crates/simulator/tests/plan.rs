//! Plans: the smallest K that suffices, what does not fit, and what everybody waits for.
#![allow(missing_docs, reason = "tests")]

use reel_domain::Priority;
use reel_scheduler::{Batching, Config, DeviceSpec, Merge};
use reel_simulator::{Advice, Arrival, BundleCost, Scenario, plan};
use std::time::Duration;

const GIB: u64 = 1 << 30;

/// One device; each shape takes `spawn` seconds to start and holds one GiB beside two of weights.
fn scenario(spawns: &[u64], asked: impl Fn(u64) -> Option<usize>) -> Scenario {
    let menu = spawns.iter().zip(0..).map(|(&seconds, index)| BundleCost {
        key: format!("model/64x64@{}f", 8 * index + 9)
            .parse()
            .expect("a bundle"),
        spawn: Duration::from_secs(seconds),
        service: Duration::from_secs(1),
        steps: 20,
        batch_share: 0.0,
        weights_bytes: 2 * GIB,
        private_bytes: GIB,
    });
    let arrivals = (0..400).filter_map(|second| {
        Some(Arrival {
            at: Duration::from_secs(4 * second),
            bundle: asked(second)?,
            tenant: "somebody".parse().expect("a name"),
            priority: Priority::Interactive,
            merge: Merge::default(),
            session: None,
        })
    });
    Scenario {
        config: Config {
            batching: Batching::Off,
            ..Config::default()
        },
        devices: vec![DeviceSpec {
            slots: 1,
            memory_bytes: 0,
            shares_weights: true,
        }],
        menu: menu.collect(),
        batch_max: 1,
        arrivals: arrivals.collect(),
    }
}

#[test]
fn the_smallest_k_that_suffices_is_chosen() {
    let turns = scenario(&[10, 10, 10], |second| Some((second % 2) as usize));
    let plan = plan(&turns, 3);
    assert_eq!(
        plan.chosen.map(|place| plan.choices[place].k),
        Some(2),
        "two shapes take turns"
    );
    assert_eq!(plan.shapes[2].advice, Advice::Unused);
}

#[test]
fn what_does_not_fit_is_not_chosen() {
    let mut turns = scenario(&[10, 10, 10], |second| Some((second % 3) as usize));
    turns.devices[0].memory_bytes = 4 * GIB + GIB / 2;
    let plan = plan(&turns, 3);
    let memory: Vec<_> = plan
        .choices
        .iter()
        .map(|choice| choice.memory_bytes / GIB)
        .collect();
    assert_eq!(memory, [3, 4, 5], "weights count once");
    assert!(plan.choices[2].report.is_none());
    assert_ne!(plan.chosen, Some(2));
}

#[test]
fn a_rare_shape_that_everybody_waits_for_is_to_be_dropped() {
    let rare = scenario(&[60, 60], |second| Some(usize::from(second % 40 == 20)));
    let plan = plan(&rare, 1);
    assert_eq!(plan.shapes[0].advice, Advice::Keep);
    assert_eq!(plan.shapes[1].advice, Advice::Drop);
    assert!(plan.shapes[1].wait_of_others[1] < plan.shapes[1].wait_of_others[0]);
}
