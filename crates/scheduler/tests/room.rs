//! Who makes room for whom: claims, evictions, memory.

mod bench;

use bench::{Bench, attempt, devices, job, menu, short, unbatched};
use reel_domain::{DeviceId, SlotId};
use reel_domain::{Priority, Rejection};
use reel_scheduler::{Config, DeviceSpec, Eviction, Order, Profile, SlotPhase, Work};
use std::time::Duration;

const SLOT: SlotId = SlotId {
    device: DeviceId(0),
    index: 0,
};

/// One hot worker for the first shape, with a job; a job of the second shape waits, and younger ones of the
/// first have overtaken it so often that one more drains the worker.
fn about_to_drain(overtakes: u8) -> Bench {
    let config = Config {
        overtakes_max: overtakes.into(),
        look_past_max: 200,
        ..unbatched()
    };
    let mut bench = Bench::with(config, &devices(1, 1));
    bench.ready(0);
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[1]);
    for number in 3..=50 {
        bench.submit(number, &menu()[0]);
    }
    let mut running = 1;
    for next in 3..3 + overtakes {
        bench.finished(0, attempt(running, 1));
        running = next;
    }
    bench.commands();
    bench
}

#[test]
fn a_victim_chosen_for_eviction_gets_no_more_work() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[2]);
    assert_eq!(short(&bench.commands()), ["stop w0"]);
    bench.submit(2, &menu()[0]);
    assert_eq!(
        short(&bench.commands()),
        ["stop w1"],
        "its shape claims the next place"
    );
    bench.exit(0);
    bench.ready(2);
    bench.exit(1);
    bench.ready(3);
    let commands = short(&bench.commands());
    assert!(commands.contains(&"generate w2 1/1".into()), "{commands:?}");
    assert!(commands.contains(&"generate w3 2/1".into()), "{commands:?}");
}

#[test]
fn a_busy_worker_is_drained_for_a_job_that_was_overtaken_too_often() {
    let mut bench = about_to_drain(5);
    let view = bench.scheduler.snapshot().next().unwrap();
    assert_eq!(view.phase, SlotPhase::Draining);
    bench.finished(0, attempt(7, 1));
    assert_eq!(
        short(&bench.commands()),
        ["stop w0", "encoding 7", "encode 7/1"],
        "no more work, though some waits"
    );
    bench.exit(0);
    bench.ready(1);
    let commands = short(&bench.commands());
    assert_eq!(
        commands,
        ["spawn w1 0.0 96x64@17f", "starting 2", "generate w1 2/1"]
    );
    assert_eq!(bench.scheduler.counters().drains_for_overtaken, 1);
}

#[test]
fn a_draining_worker_stays_when_nobody_needs_its_place_any_more() {
    let mut bench = about_to_drain(5);
    bench.cancel(2);
    assert_eq!(short(&bench.commands()), ["end 2 cancelled"]);
    let view = bench.scheduler.snapshot().next().unwrap();
    assert_eq!(view.phase, SlotPhase::Busy);
    bench.finished(0, attempt(7, 1));
    let commands = short(&bench.commands());
    assert_eq!(commands.last().unwrap(), "generate w0 8/1");
    assert_eq!(bench.scheduler.counters().resurrections, 1);
}

#[test]
fn a_pinned_bundle_is_never_evicted() {
    let config = Config {
        pinned: vec![menu()[0].clone()],
        ..unbatched()
    };
    let mut bench = Bench::with(config, &devices(1, 2));
    bench.ready(0);
    bench.ready(1);
    bench.commands();
    bench.submit(1, &menu()[2]);
    assert_eq!(short(&bench.commands()), ["stop w1"]);
    bench.submit(2, &menu()[3]);
    assert!(bench.commands().is_empty());
}

#[test]
fn priced_eviction_keeps_what_is_expensive_to_bring_back_but_not_for_ever() {
    let config = Config {
        eviction: Eviction::Priced,
        ..unbatched()
    };
    let mut bench = Bench::unbaked(config, &devices(1, 2));
    bench.offer(&menu()[0]);
    bench.offer(&menu()[1]);
    bench.pass(Duration::from_secs(1));
    bench.ready(1);
    bench.pass(Duration::from_secs(29));
    bench.ready(0);
    bench.offer(&menu()[2]);
    bench.offer(&menu()[3]);
    bench.submit(1, &menu()[1]);
    bench.finished(1, attempt(1, 1));
    bench.commands();
    bench.submit(2, &menu()[2]);
    let commands = short(&bench.commands());
    assert_eq!(
        commands,
        ["stop w1"],
        "30 s to bring back beat 1 s, though used longer ago"
    );
    // Two cheap shapes take turns; each visit is worth a second, so after some thirty of each the expensive one goes.
    for (worker, number) in (2..).zip(3..100) {
        bench.exit(worker - 1);
        bench.pass(Duration::from_secs(1));
        bench.ready(worker);
        bench.finished(worker, attempt(number - 1, 1));
        bench.pass(Duration::from_secs(60));
        bench.commands();
        bench.submit(number, &menu()[2 + usize::from(number % 2)]);
        let commands = short(&bench.commands());
        if commands == ["stop w0"] {
            assert!((45..75).contains(&number), "after {number} turns");
            return;
        }
        assert_eq!(commands, [format!("stop w{worker}")]);
    }
    panic!("it stayed for ever");
}

#[test]
fn evictions_take_no_more_than_their_share_of_a_devices_time() {
    let mut bench = Bench::new(1);
    bench.pass(Duration::from_millis(100));
    bench.ready(0);
    bench.commands();
    let mut stops = 0;
    let mut number = 0;
    for turn in 0..40_u64 {
        number += 1;
        bench.submit(number, &menu()[usize::from(number % 2)]);
        if !short(&bench.commands()).contains(&format!("stop w{turn}")) {
            break;
        }
        stops += 1;
        bench.exit(turn);
        bench.pass(Duration::from_millis(100));
        bench.ready(turn + 1);
        bench.finished(turn + 1, attempt(number, 1));
        bench.commands();
    }
    assert!(
        (14..18).contains(&stops),
        "a burst of eight, and half of the time: {stops}"
    );
    assert_eq!(bench.scheduler.counters().evictions_held, 1);
    bench.pass(Duration::from_secs(1));
    assert_eq!(short(&bench.commands()).len(), 1, "it goes on by itself");
}

/// Weights of 10, workers of 4 beside them, on a device of `memory`.
fn small_device(memory: u64) -> Bench {
    let spec = DeviceSpec {
        slots: 4,
        memory_bytes: memory,
        shares_weights: true,
    };
    let mut bench = Bench::unbaked(unbatched(), &[spec]);
    let profile = Profile {
        weights_bytes: 10,
        private_bytes: 4,
        ..Profile::default()
    };
    for key in menu() {
        bench.offer_with(&key, profile);
    }
    bench
}

#[test]
fn weights_count_once_and_no_worker_is_spawned_that_does_not_fit() {
    let mut bench = small_device(20);
    assert_eq!(
        short(&bench.commands()).len(),
        2,
        "10 + 4 + 4 fit, 10 + 4 + 4 + 4 do not"
    );
    bench.ready(0);
    bench.ready(1);
    assert!(bench.commands().is_empty());
    bench.submit(1, &menu()[2]);
    assert_eq!(
        short(&bench.commands()),
        ["stop w0"],
        "though slots are empty"
    );
}

#[test]
fn what_fits_on_no_device_is_refused_with_the_numbers() {
    let mut bench = small_device(13);
    let refused = bench.refusal(job(1, &menu()[0]));
    let expected = Rejection::DoesNotFit {
        bundle: menu()[0].clone(),
        needs_bytes: 14,
        device_bytes: 13,
    };
    assert_eq!(refused, Some(expected));
}

#[test]
fn a_replaced_worker_finishes_what_it_has_and_is_followed_by_one_of_its_bundle() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    bench.order(Order::Replace(SLOT));
    bench.commands();
    bench.finished(0, attempt(1, 1));
    assert_eq!(
        short(&bench.commands()),
        ["stop w0", "encoding 1", "encode 1/1"]
    );
    bench.exit(0);
    bench.ready(1);
    assert_eq!(
        short(&bench.commands()),
        ["spawn w1 0.0 64x64@17f", "starting 2", "generate w1 2/1"]
    );
}

#[test]
fn spawns_are_limited_per_device_and_in_total() {
    let config = Config {
        spawns_max: 3,
        ..unbatched()
    };
    let mut bench = Bench::with(config, &devices(2, 4));
    assert_eq!(
        bench.commands().len(),
        3,
        "two on one device, and three in all"
    );
    bench.ready(0);
    assert_eq!(bench.commands().len(), 1);
}

#[test]
fn what_waited_behind_an_overtaken_job_goes_on_when_that_has_begun() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[2]);
    assert_eq!(short(&bench.commands()), ["stop w0"]);
    for number in 2..=40 {
        bench.submit(number, &menu()[1]);
    }
    for number in 2..=33 {
        bench.finished(1, attempt(number, 1));
    }
    let begun = short(&bench.commands());
    assert!(
        !begun.contains(&"generate w1 34/1".into()),
        "the first has been overtaken 32 times"
    );
    bench.exit(0);
    bench.ready(2);
    let begun = short(&bench.commands());
    assert!(begun.contains(&"generate w2 1/1".into()), "{begun:?}");
    assert!(begun.contains(&"generate w1 34/1".into()), "{begun:?}");
}

#[test]
fn a_job_that_is_cancelled_holds_up_nobody_any_more() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[2]);
    for number in 2..=40 {
        bench.submit(number, &menu()[1]);
    }
    for number in 2..=33 {
        bench.finished(1, attempt(number, 1));
    }
    bench.commands();
    bench.cancel(1);
    let commands = short(&bench.commands());
    assert!(
        commands.contains(&"generate w1 34/1".into()),
        "{commands:?}"
    );
}

#[test]
fn less_urgent_work_for_a_cold_shape_gets_its_place_under_any_stream_of_urgent_work() {
    let config = Config {
        class_overtakes_max: 10,
        ..unbatched()
    };
    let mut bench = Bench::with(config, &devices(1, 1));
    bench.ready(0);
    bench.submit(1, &menu()[0]);
    bench.submit_work(Work {
        priority: Priority::Batch,
        ..job(2, &menu()[1])
    });
    for number in 3..=40 {
        bench.submit(number, &menu()[0]);
        bench.finished(0, attempt(if number == 3 { 1 } else { number - 1 }, 1));
        if short(&bench.commands()).contains(&"stop w0".into()) {
            assert_eq!(number, 13, "ten were begun before it");
            return;
        }
    }
    panic!("it starves");
}

#[test]
fn a_device_that_waits_for_its_budget_is_not_closed_to_those_who_need_less() {
    let mut bench = Bench::unbaked(unbatched(), &devices(1, 1));
    let takes = |seconds: u64| Profile {
        spawn_us: seconds * 1_000_000,
        ..Profile::default()
    };
    for (key, seconds) in menu().iter().zip([1, 1, 24, 1]) {
        bench.offer_with(key, takes(seconds));
    }
    bench.ready(0);
    bench.commands();
    let mut worker = 0;
    for number in 1..60 {
        bench.submit(number, &menu()[usize::from(number % 2)]);
        if bench.scheduler.counters().evictions_held > 0 {
            break;
        }
        bench.commands();
        bench.exit(worker);
        worker += 1;
        bench.ready(worker);
        bench.finished(worker, attempt(number, 1));
    }
    let held: Vec<_> = bench.scheduler.waiting().collect();
    for id in held {
        bench.put(reel_scheduler::Input::Cancel { id });
    }
    bench.submit(100, &menu()[2]);
    bench.cancel(100);
    bench.submit(101, &menu()[3]);
    bench.commands();
    bench.pass(Duration::from_secs(3));
    assert_eq!(
        short(&bench.commands()),
        [format!("stop w{worker}")],
        "its spawn of a second is affordable after two"
    );
}

#[test]
fn a_worker_that_leaves_for_another_bundle_is_not_replaced_by_its_own() {
    let mut bench = about_to_drain(5);
    bench.order(Order::Replace(SLOT));
    bench.finished(0, attempt(7, 1));
    bench.exit(0);
    let commands = short(&bench.commands());
    assert!(
        commands.contains(&"spawn w1 0.0 96x64@17f".into()),
        "{commands:?}"
    );
}

#[test]
fn a_device_without_slots_gets_no_worker() {
    let mut bench = Bench::with(Config::default(), &devices(1, 0));
    bench.submit(1, &menu()[0]);
    assert!(bench.commands().is_empty());
}

#[test]
fn workers_are_replaced_one_after_the_other_and_no_further_than_one_that_does_not_come_back() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[1]);
    bench.commands();
    bench.order(Order::Roll(None));
    assert_eq!(short(&bench.commands()), ["stop w0"]);
    bench.exit(0);
    bench.ready(2);
    assert_eq!(short(&bench.commands()), ["spawn w2 0.0 64x64@17f"]);
    bench.finished(1, attempt(1, 1));
    assert_eq!(
        short(&bench.commands())[0],
        "stop w1",
        "it finishes what it has"
    );
    bench.exit(1);
    bench.ready(3);
    bench.commands();
    bench.order(Order::Roll(Some(DeviceId(0))));
    assert_eq!(short(&bench.commands()), ["stop w2"]);
    bench.exit(2);
    bench.exit(4);
    bench.ready(5);
    assert!(
        !short(&bench.commands()).contains(&"stop w3".into()),
        "the first one had trouble"
    );
}
