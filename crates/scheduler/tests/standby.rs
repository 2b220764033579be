//! Workers that are started before others go, and memory that is waited for.

mod bench;

use bench::{Bench, attempt, devices, job, menu, short, unbatched};
use reel_domain::{FailureCode, Outcome};
use reel_scheduler::{Command, Config, DeviceSpec, Profile, SlotPhase, Work};
use std::time::Duration;

fn ahead() -> Config {
    Config {
        standby: true,
        ..unbatched()
    }
}

/// Two hot workers with the first two shapes, on one device with room for a third while it starts.
fn two_hot_and_a_spare() -> Bench {
    let mut bench = Bench::with(ahead(), &devices(1, 2));
    bench.ready(0);
    bench.ready(1);
    bench.commands();
    bench
}

/// Weights of 10, workers of 4 beside them, on one device of `memory`; two hot workers.
fn small_device(config: Config, memory_bytes: u64) -> Bench {
    let spec = DeviceSpec {
        slots: 2,
        memory_bytes,
    };
    let mut bench = Bench::unbaked(config, &[spec]);
    for key in menu() {
        let profile = Profile {
            weights_bytes: 10,
            private_bytes: 4,
            ..Profile::default()
        };
        bench.offer_with(&key, profile);
    }
    bench.ready(0);
    bench.ready(1);
    bench.commands();
    bench
}

#[test]
fn a_cold_shape_is_started_before_the_one_that_makes_room_is_stopped() {
    let mut bench = two_hot_and_a_spare();
    bench.submit(1, &menu()[2]);
    assert_eq!(short(&bench.commands()), ["spawn w2 0.2 64x96@17f"]);
    bench.submit(2, &menu()[0]);
    assert_eq!(
        short(&bench.commands()),
        ["starting 2", "generate w0 2/1"],
        "meanwhile both serve"
    );
    bench.ready(2);
    assert_eq!(
        short(&bench.commands()),
        ["stop w1", "starting 1", "generate w2 1/1"],
        "the one without work goes"
    );
    let counters = bench.scheduler.counters();
    assert_eq!((counters.standbys, counters.evictions), (1, 1));
}

#[test]
fn a_worker_that_got_work_meanwhile_finishes_it_before_it_makes_room() {
    let mut bench = two_hot_and_a_spare();
    bench.submit(1, &menu()[2]);
    bench.submit(2, &menu()[0]);
    bench.submit(3, &menu()[1]);
    bench.ready(2);
    bench.commands();
    let draining = bench
        .scheduler
        .snapshot()
        .filter(|view| view.phase == SlotPhase::Draining);
    assert_eq!(draining.count(), 1);
    bench.finished(0, attempt(2, 1));
    assert_eq!(
        short(&bench.commands()),
        ["stop w0", "encoding 2", "encode 2/1"]
    );
}

#[test]
fn the_next_standby_begins_when_the_last_victim_is_gone() {
    let mut bench = two_hot_and_a_spare();
    bench.submit(1, &menu()[2]);
    bench.ready(2);
    bench.finished(2, attempt(1, 1));
    bench.commands();
    bench.submit(2, &menu()[3]);
    // The spare place is taken by the victim of the first one, so another worker has to make room at once.
    assert_eq!(short(&bench.commands()), ["stop w1"]);
    bench.exit(0);
    bench.exit(1);
    let commands = short(&bench.commands());
    assert!(commands[0].starts_with("spawn w3"), "{commands:?}");
}

#[test]
fn nothing_is_started_ahead_where_memory_is_short() {
    let mut bench = small_device(ahead(), 20);
    bench.submit(1, &menu()[2]);
    assert_eq!(short(&bench.commands()), ["stop w0"]);
    bench.exit(0);
    assert_eq!(short(&bench.commands()), ["spawn w2 0.0 64x96@17f"]);
}

#[test]
fn a_spawn_waits_until_the_memory_of_every_victim_is_free() {
    let mut bench = small_device(unbatched(), 18);
    let large = Profile {
        weights_bytes: 10,
        private_bytes: 8,
        ..Profile::default()
    };
    bench.offer_with(&menu()[2], large);
    bench.submit(1, &menu()[2]);
    assert_eq!(short(&bench.commands()), ["stop w1", "stop w0"]);
    bench.exit(0);
    assert!(
        bench.commands().is_empty(),
        "the other one still has its memory"
    );
    let view = bench.scheduler.snapshot().next().unwrap();
    assert_eq!(view.phase, SlotPhase::Reserved);
    bench.exit(1);
    assert_eq!(short(&bench.commands()), ["spawn w2 0.0 64x96@17f"]);
}

#[test]
fn a_bundle_that_nobody_measured_is_taken_to_be_as_large_as_its_relatives() {
    let spec = DeviceSpec {
        slots: 2,
        memory_bytes: 20,
    };
    let mut bench = Bench::unbaked(unbatched(), &[spec]);
    let measured = |private_bytes| Profile {
        weights_bytes: 10,
        private_bytes,
        ..Profile::default()
    };
    bench.offer_with(&menu()[0], measured(8));
    bench.offer_with(&menu()[1], measured(0));
    assert_eq!(
        short(&bench.commands()),
        ["spawn w0 0.0 64x64@17f"],
        "10 + 8 + 8 do not fit"
    );
}

fn within(number: u8, millis: u64) -> Work {
    Work {
        begin_within: Some(Duration::from_millis(millis)),
        ..job(number, &menu()[0])
    }
}

#[test]
fn a_job_that_has_not_begun_in_time_fails_and_one_that_has_goes_on() {
    let mut bench = Bench::two_hot(1);
    bench.submit_work(within(1, 100));
    bench.submit_work(within(2, 100));
    bench.commands();
    bench.pass(Duration::from_secs(1));
    let commands = bench.commands();
    let [Command::End { outcome, .. }] = &commands[..] else {
        panic!("{commands:?}");
    };
    assert!(
        matches!(outcome, Outcome::Failed(failure) if failure.code == FailureCode::DeadlineExceeded)
    );
    assert_eq!(bench.scheduler.counters().deadlines_missed, 1);
    bench.finished(0, attempt(1, 1));
    assert_eq!(short(&bench.commands()), ["encoding 1", "encode 1/1"]);
}

#[test]
fn a_job_whose_time_is_up_before_it_is_durable_ends_when_the_journal_answers() {
    let mut bench = Bench::two_hot(1);
    let work = within(1, 100);
    let id = work.id;
    bench.put(reel_scheduler::Input::Submit(work));
    bench.pass(Duration::from_secs(1));
    assert!(bench.commands().is_empty());
    bench.stored(id, true);
    assert_eq!(short(&bench.commands()), ["end 1 failed"]);
}
