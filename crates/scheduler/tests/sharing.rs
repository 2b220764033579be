//! How jobs share workers: turns, classes, batches.

mod bench;

use bench::{Bench, attempt, denoised, devices, job, menu, of_tenant, short};
use reel_domain::Priority;
use reel_scheduler::{BatchRule, Batching, Config, Merge, ModelMatch, Profile, Work, WorkerEvent};
use std::time::Duration;

/// One hot worker; attempts may join it.
fn batched(batching: Batching) -> Bench {
    let config = Config {
        batching,
        ..Config::default()
    };
    let mut bench = Bench::with(config, &devices(1, 1));
    bench.ready(0);
    bench.commands();
    bench
}

fn unguided(number: u8) -> Work {
    let work = of_tenant(number, &menu()[0], "another");
    let merge = Merge {
        guided: false,
        ..work.merge
    };
    Work { merge, ..work }
}

/// The jobs that were begun, in order.
fn begun(bench: &mut Bench) -> Vec<String> {
    let commands = short(&bench.commands());
    let begun = commands
        .iter()
        .filter_map(|command| command.strip_prefix("generate "));
    begun
        .map(|begun| begun.trim_end_matches(" and").to_owned())
        .collect()
}

/// A worker takes `steps` steps with what it has, each of the given length.
fn run_steps(bench: &mut Bench, of: &[u8], steps: std::ops::Range<u32>, millis: u64) {
    for step in steps {
        bench.pass(Duration::from_millis(millis));
        for &number in of {
            let attempt = attempt(number, 1);
            bench.tell(0, denoised(attempt, step));
        }
    }
}

#[test]
fn tenants_take_turns_however_much_one_of_them_asks() {
    let mut bench = Bench::two_hot(1);
    for number in 1..=4 {
        bench.submit_work(of_tenant(number, &menu()[0], "hog"));
    }
    bench.submit_work(of_tenant(5, &menu()[0], "guest"));
    let mut order = Vec::new();
    for turn in [1, 5, 2, 3, 4] {
        order.extend(begun(&mut bench));
        bench.finished(0, attempt(turn, 1));
    }
    assert_eq!(order, ["w0 1/1", "w0 5/1", "w0 2/1", "w0 3/1", "w0 4/1"]);
}

#[test]
fn urgent_work_goes_first() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    for (number, priority) in [
        (2, Priority::Batch),
        (3, Priority::Interactive),
        (4, Priority::Realtime),
    ] {
        bench.submit_work(Work {
            priority,
            ..job(number, &menu()[0])
        });
    }
    let mut order = begun(&mut bench);
    for turn in [1, 4, 3] {
        bench.finished(0, attempt(turn, 1));
        order.extend(begun(&mut bench));
    }
    assert_eq!(order, ["w0 1/1", "w0 4/1", "w0 3/1", "w0 2/1"]);
}

#[test]
fn attempts_join_a_busy_worker_up_to_the_limit() {
    let mut bench = batched(Batching::Fixed);
    for number in 1..=9 {
        bench.submit(number, &menu()[0]);
    }
    assert_eq!(begun(&mut bench).len(), 8);
    assert_eq!(bench.scheduler.counters().merges, 7);
    bench.finished(0, attempt(3, 1));
    assert_eq!(begun(&mut bench), ["w0 9/1"], "one leaves, one joins");
}

#[test]
fn guided_and_unguided_work_do_not_share_and_neither_starves() {
    let mut bench = batched(Batching::Fixed);
    bench.submit(1, &menu()[0]);
    bench.submit_work(unguided(2));
    for number in 3..=200 {
        bench.submit(number, &menu()[0]);
    }
    let mut running = begun(&mut bench);
    assert!(!running.contains(&"w0 2/1".into()), "it is not compatible");
    let mut joined_before_it = 0;
    while !running.contains(&"w0 2/1".into()) {
        let first = running.remove(0);
        let number = first.trim_start_matches("w0 ").trim_end_matches("/1");
        bench.finished(0, attempt(number.parse().unwrap(), 1));
        let more = begun(&mut bench);
        joined_before_it += more.len();
        running.extend(more);
    }
    assert!(joined_before_it <= 33, "{joined_before_it} went past it");
    let not_merged = bench.scheduler.counters().not_merged;
    assert!(not_merged.fenced > 0, "{not_merged:?}");
}

#[test]
fn who_asks_to_be_alone_is_alone() {
    let mut bench = batched(Batching::Fixed);
    let merge = Merge {
        never: true,
        ..Merge::default()
    };
    bench.submit_work(Work {
        merge,
        ..job(1, &menu()[0])
    });
    bench.submit(2, &menu()[0]);
    assert_eq!(begun(&mut bench), ["w0 1/1"]);
}

#[test]
fn a_batch_grows_only_while_that_makes_more_videos_per_second() {
    let mut bench = batched(Batching::Profit { gain_permille: 30 });
    bench.submit(1, &menu()[0]);
    bench.started(0, attempt(1, 1));
    run_steps(&mut bench, &[1], 1..6, 10);
    // Nobody knows what two cost, so it is tried: 19 ms for both instead of 2 x 10 pays.
    bench.submit(2, &menu()[0]);
    run_steps(&mut bench, &[1, 2], 6..12, 19);
    // Three: 30 ms instead of 28.5 does not.
    bench.submit(3, &menu()[0]);
    run_steps(&mut bench, &[1, 2, 3], 12..18, 30);
    assert_eq!(begun(&mut bench).len(), 3);
    bench.finished(0, attempt(3, 1));
    bench.submit(4, &menu()[0]);
    assert!(begun(&mut bench).is_empty(), "a third is not taken again");
    bench.finished(0, attempt(2, 1));
    assert_eq!(begun(&mut bench), ["w0 4/1"], "a second is");
    assert_eq!(bench.scheduler.counters().not_merged.no_gain, 1);
}

/// One hot worker that cannot take in attempts later.
fn forming(delay: Duration) -> Bench {
    let config = Config {
        batching: Batching::Fixed,
        batch_max: 3,
        batch_delay: delay,
        ..Config::default()
    };
    let mut bench = Bench::with(config, &devices(1, 1));
    bench.ready_as(0, false);
    bench.commands();
    bench
}

#[test]
fn a_formed_batch_takes_nobody_in_once_it_has_begun() {
    let mut bench = forming(Duration::ZERO);
    bench.submit(1, &menu()[0]);
    assert_eq!(begun(&mut bench).len(), 1, "it waits for nobody");
    for number in 2..=6 {
        bench.submit(number, &menu()[0]);
    }
    assert!(begun(&mut bench).is_empty());
    bench.finished(0, attempt(1, 1));
    let commands = short(&bench.commands());
    assert_eq!(
        commands[commands.len() - 3..],
        [
            "generate w0 2/1 and",
            "generate w0 3/1 and",
            "generate w0 4/1"
        ]
    );
    bench.finished(0, attempt(2, 1));
    assert!(begun(&mut bench).is_empty(), "two of it still run");
}

#[test]
fn a_batch_waits_for_more_until_it_is_full_or_its_time_is_up() {
    let mut bench = forming(Duration::from_millis(50));
    bench.submit(1, &menu()[0]);
    bench.pass(Duration::from_millis(40));
    bench.submit(2, &menu()[0]);
    assert!(begun(&mut bench).is_empty());
    bench.pass(Duration::from_millis(10));
    assert_eq!(begun(&mut bench), ["w0 1/1", "w0 2/1"]);
    bench.finished(0, attempt(1, 1));
    bench.finished(0, attempt(2, 1));
    for number in 3..=5 {
        bench.submit(number, &menu()[0]);
    }
    assert_eq!(begun(&mut bench), ["w0 3/1", "w0 4/1", "w0 5/1"]);
}

#[test]
fn a_member_that_leaves_before_its_batch_begins_was_never_there() {
    let mut bench = forming(Duration::from_millis(50));
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    bench.commands();
    bench.cancel(1);
    assert_eq!(short(&bench.commands()), ["end 1 cancelled"]);
    bench.pass(Duration::from_millis(50));
    assert_eq!(begun(&mut bench), ["w0 2/1"]);
}

#[test]
fn a_worker_that_dies_before_a_batch_begins_is_held_against_nobody() {
    let mut bench = forming(Duration::from_millis(50));
    for worker in 0..4 {
        bench.ready_as(worker, false);
        if worker == 0 {
            bench.submit(1, &menu()[0]);
        }
        bench.exit(worker);
        bench.pass(Duration::from_secs(1));
    }
    assert!(
        !short(&bench.commands()).contains(&"end 1 failed".into()),
        "no worker had heard of it"
    );
}

#[test]
fn a_batch_does_not_grow_past_what_the_rules_allow() {
    let rule = |shape: &str, batch_max, cost_max| BatchRule {
        model: ModelMatch::Contains("tin".into()),
        shape: Some(shape.parse().unwrap()),
        memory_min_bytes: None,
        memory_max_bytes: None,
        batch_max,
        cost_max,
    };
    let config = Config {
        batch_rules: vec![rule("64x64@17f", 2, None), rule("96x64@17f", 8, Some(100))],
        batching: Batching::Fixed,
        ..Config::default()
    };
    let mut bench = Bench::with(config, &devices(1, 2));
    bench.ready(0);
    bench.ready(1);
    for number in 1..=3 {
        bench.submit(number, &menu()[0]);
        bench.submit(10 + number, &menu()[1]);
    }
    let begun = begun(&mut bench);
    let on = |worker: &str| {
        begun
            .iter()
            .filter(|begun| begun.starts_with(worker))
            .count()
    };
    assert_eq!((on("w0"), on("w1")), (2, 2), "two rows of 40 fit into 100");
    assert!(bench.scheduler.counters().not_merged.too_costly > 0);
}

#[test]
fn members_of_a_failed_batch_are_tried_again_one_by_one() {
    let config = Config {
        batching: Batching::Fixed,
        ..Config::default()
    };
    let mut bench = Bench::with(config, &devices(1, 1));
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    bench.ready_as(0, false);
    bench.commands();
    for number in [1, 2] {
        bench.tell(
            0,
            WorkerEvent::Failed {
                attempt: attempt(number, 1),
                message: "the batch failed".into(),
            },
        );
    }
    assert_eq!(begun(&mut bench), ["w0 1/2"]);
    bench.finished(0, attempt(1, 2));
    assert_eq!(begun(&mut bench), ["w0 2/2"]);
    let message = "so did it alone".into();
    bench.tell(
        0,
        WorkerEvent::Failed {
            attempt: attempt(2, 2),
            message,
        },
    );
    assert_eq!(short(&bench.commands()), ["end 2 failed"]);
}

#[test]
fn a_job_that_fails_in_a_batch_of_its_own_is_not_tried_again() {
    let mut bench = forming(Duration::ZERO);
    bench.submit(1, &menu()[0]);
    bench.commands();
    let message = "no".into();
    let attempt = attempt(1, 1);
    bench.tell(0, WorkerEvent::Failed { attempt, message });
    assert_eq!(short(&bench.commands()), ["end 1 failed"]);
}

#[test]
fn a_job_whose_batch_never_began_has_no_more_time_than_before() {
    let mut bench = forming(Duration::from_secs(1));
    bench.submit_work(Work {
        begin_within: Some(Duration::from_secs(3)),
        ..job(1, &menu()[0])
    });
    bench.exit(0);
    bench.commands();
    bench.pass(Duration::from_secs(4));
    assert!(short(&bench.commands()).contains(&"end 1 failed".into()));
}

#[test]
fn joins_that_do_not_pay_are_tried_only_now_and_then() {
    let config = Config {
        batching: Batching::Profit { gain_permille: 30 },
        batch_max: 2,
        standby: false,
        ..Config::default()
    };
    let mut bench = Bench::unbaked(config, &devices(1, 1));
    let mut profile = Profile::default();
    (profile.step_us[0], profile.step_us[1]) = (100, 200);
    bench.offer_with(&menu()[0], profile);
    bench.ready(0);
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    for _ in 0..600 {
        bench.submit(3, &menu()[0]);
        bench.cancel(3);
    }
    assert!(bench.scheduler.counters().merges <= 3);
}

#[test]
fn a_job_that_has_begun_once_has_all_the_time() {
    let mut bench = forming(Duration::from_secs(1));
    bench.submit_work(Work {
        begin_within: Some(Duration::from_secs(3)),
        ..job(1, &menu()[0])
    });
    bench.pass(Duration::from_secs(1));
    assert_eq!(begun(&mut bench), ["w0 1/1"]);
    bench.exit(0);
    bench.ready_as(1, false);
    bench.exit(1);
    bench.pass(Duration::from_secs(10));
    let commands = short(&bench.commands());
    assert!(!commands.contains(&"end 1 failed".into()), "{commands:?}");
}
