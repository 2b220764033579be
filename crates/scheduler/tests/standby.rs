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
        shares_weights: true,
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
fn nobody_makes_room_before_the_standby_is_ready() {
    let mut bench = two_hot_and_a_spare();
    bench.submit(1, &menu()[2]);
    bench.commands();
    bench.measured(0, 1);
    bench.pass(Duration::from_secs(1));
    bench.submit(2, &menu()[0]);
    bench.finished(0, attempt(2, 1));
    let commands = short(&bench.commands());
    assert!(
        !commands.iter().any(|command| command.starts_with("stop")),
        "{commands:?}"
    );
    bench.ready(2);
    assert_eq!(short(&bench.commands())[0], "stop w1");
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
        shares_weights: true,
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

/// Weights of 10 and so much beside them.
fn sized(private_bytes: u64) -> Profile {
    Profile {
        weights_bytes: 10,
        private_bytes,
        ..Profile::default()
    }
}

#[test]
fn a_restored_job_that_fits_on_no_device_fails_by_name() {
    let spec = DeviceSpec {
        slots: 2,
        memory_bytes: 18,
        shares_weights: true,
    };
    let mut bench = Bench::unbaked(unbatched(), &[spec]);
    bench.restore(job(1, &menu()[0]), 0);
    bench.offer_with(&menu()[0], sized(9));
    assert_eq!(bench.scheduler.waiting_len(), 0);
    assert!(short(&bench.commands()).contains(&"end 1 failed".into()));
}

#[test]
fn jobs_that_wait_for_what_turns_out_to_fit_nowhere_fail() {
    let mut bench = small_device(unbatched(), 18);
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    bench.commands();
    bench.measured(0, 9);
    assert_eq!(
        short(&bench.commands()),
        ["stop w1"],
        "a worker that is there serves"
    );
    bench.exit(0);
    let commands = short(&bench.commands());
    for end in ["end 1 failed", "end 2 failed"] {
        assert!(commands.contains(&end.into()), "{commands:?}");
    }
    assert_eq!(bench.scheduler.waiting_len(), 0);
}

#[test]
fn a_worker_that_holds_more_than_was_thought_makes_others_leave() {
    let mut bench = small_device(unbatched(), 20);
    bench.measured(0, 6);
    assert!(bench.commands().is_empty(), "10 + 6 + 4 fit");
    bench.measured(0, 7);
    assert_eq!(short(&bench.commands()), ["stop w1"]);
}

#[test]
fn workers_that_share_nothing_hold_their_weights_each() {
    let spec = DeviceSpec {
        slots: 4,
        memory_bytes: 30,
        shares_weights: false,
    };
    let mut bench = Bench::unbaked(unbatched(), &[spec]);
    for key in menu() {
        bench.offer_with(&key, sized(0));
    }
    assert_eq!(
        bench.commands().len(),
        2,
        "a copy of 10 and a quarter of it, twice"
    );
}

#[test]
fn an_overtaken_job_gets_the_memory_of_as_many_busy_workers_as_it_needs() {
    let config = Config {
        overtakes_max: 4,
        look_past_max: 250,
        ..unbatched()
    };
    let mut bench = small_device(config, 18);
    bench.offer_with(&menu()[2], sized(8));
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[1]);
    bench.submit(3, &menu()[2]);
    let mut running = [1, 2];
    for next in 4..40 {
        let worker = usize::from(next % 2);
        bench.submit(next, &menu()[worker]);
        bench.finished(worker as u64, attempt(running[worker], 1));
        running[worker] = next;
        let commands = short(&bench.commands());
        if commands.iter().any(|command| command.starts_with("stop")) {
            let other = 1 - worker;
            bench.exit(worker as u64);
            assert!(bench.commands().is_empty(), "the other one works on");
            bench.finished(other as u64, attempt(running[other], 1));
            bench.exit(other as u64);
            let commands = short(&bench.commands());
            assert!(
                commands.contains(&"spawn w2 0.0 64x96@17f".into())
                    || commands.contains(&"spawn w2 0.1 64x96@17f".into()),
                "{commands:?}"
            );
            return;
        }
    }
    panic!("it was overtaken for ever");
}

#[test]
fn workers_start_on_a_device_two_at_a_time_also_after_they_died() {
    let mut bench = Bench::new(4);
    assert_eq!(bench.commands().len(), 2);
    bench.ready(0);
    bench.ready(1);
    assert_eq!(bench.commands().len(), 2);
    bench.ready(2);
    bench.ready(3);
    bench.commands();
    for worker in 0..4 {
        bench.exit(worker);
    }
    assert_eq!(bench.commands().len(), 2, "two come back at once");
    bench.ready(4);
    bench.ready(5);
    assert_eq!(bench.commands().len(), 2, "and then the others");
}

#[test]
fn a_worker_that_was_just_used_stays_for_its_time() {
    let config = Config {
        residency_min: Duration::from_secs(30),
        ..unbatched()
    };
    let mut bench = Bench::with(config, &devices(1, 1));
    bench.ready(0);
    bench.commands();
    bench.submit(1, &menu()[1]);
    bench.pass(Duration::from_secs(29));
    assert!(bench.commands().is_empty());
    bench.pass(Duration::from_secs(1));
    assert_eq!(short(&bench.commands()), ["stop w0"]);
}

#[test]
fn a_slot_that_rests_for_nobody_any_more_is_taken() {
    let mut bench = Bench::new(1);
    bench.ready(0);
    bench.submit(1, &menu()[0]);
    bench.exit(0);
    bench.exit(1);
    bench.submit(2, &menu()[1]);
    bench.commands();
    bench.cancel(1);
    let commands = short(&bench.commands());
    assert!(
        commands.contains(&"spawn w2 0.0 96x64@17f".into()),
        "{commands:?}"
    );
}

#[test]
fn claims_and_workers_that_come_back_keep_to_the_limit_of_spawns_too() {
    let config = Config {
        prewarm: false,
        spawns_max: 1,
        ..unbatched()
    };
    let mut bench = Bench::with(config, &devices(2, 1));
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[1]);
    assert_eq!(short(&bench.commands()), ["spawn w0 0.0 64x64@17f"]);
    bench.ready(0);
    assert_eq!(
        short(&bench.commands()).last().unwrap(),
        "spawn w1 1.0 96x64@17f"
    );
    bench.ready(1);
    bench.commands();
    bench.exit(0);
    bench.exit(1);
    let spawns = |commands: &[Command]| {
        let spawns = commands.iter();
        spawns
            .filter(|command| matches!(command, Command::Spawn { .. }))
            .count()
    };
    assert_eq!(spawns(&bench.commands()), 1);
    bench.ready(2);
    assert_eq!(spawns(&bench.commands()), 1);
}
