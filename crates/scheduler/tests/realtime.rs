//! Realtime work: sessions that go on where they were, and batch work that waits for them.

mod bench;

use bench::{Bench, attempt, denoised, devices, job, menu, short};
use reel_domain::{Priority, SessionId};
use reel_scheduler::{BatchRule, Batching, BundleStanding, Config, Input, ModelMatch, Work};
use std::time::Duration;

const SESSION: SessionId = SessionId::from_bytes([7; 16]);

fn of_class(number: u8, priority: Priority) -> Work {
    Work {
        priority,
        ..job(number, &menu()[0])
    }
}

fn segment(number: u8) -> Work {
    Work {
        session: Some(SESSION),
        ..of_class(number, Priority::Realtime)
    }
}

/// One attempt at a time, so that a segment cannot just join.
fn config() -> Config {
    Config {
        batch_max: 1,
        standby: false,
        preemptions_max: 2,
        ..Config::default()
    }
}

/// One hot worker.
fn one_hot(config: Config) -> Bench {
    let mut bench = Bench::with(config, &devices(1, 1));
    bench.ready(0);
    bench.commands();
    bench
}

/// Two devices, each with a hot worker for the first shape: w0 and w1.
fn two_alike() -> Bench {
    let mut bench = Bench::unbaked(config(), &devices(2, 1));
    for key in &menu()[1..] {
        bench.put(Input::Bundle {
            key: key.clone(),
            standing: BundleStanding::Failed,
        });
    }
    bench.offer(&menu()[0]);
    bench.ready(0);
    bench.ready(1);
    bench.commands();
    bench
}

#[test]
fn a_segment_goes_to_the_worker_that_served_its_session_last() {
    let mut bench = two_alike();
    bench.submit(1, &menu()[0]);
    bench.submit_work(segment(2));
    bench.finished(0, attempt(1, 1));
    bench.finished(1, attempt(2, 1));
    bench.commands();
    bench.submit_work(segment(3));
    assert_eq!(short(&bench.commands())[1], "generate w1 3/1");
    assert_eq!(bench.scheduler.counters().sessions_moved, 0);
}

#[test]
fn a_segment_does_not_wait_for_the_worker_of_its_session() {
    let mut bench = two_alike();
    bench.submit_work(segment(1));
    bench.finished(0, attempt(1, 1));
    bench.submit(2, &menu()[0]);
    bench.commands();
    bench.submit_work(segment(3));
    assert_eq!(short(&bench.commands())[1], "generate w1 3/1");
    assert_eq!(bench.scheduler.counters().sessions_moved, 1);
    bench.finished(1, attempt(3, 1));
    bench.commands();
    bench.submit(4, &menu()[0]);
    assert_eq!(
        short(&bench.commands())[1],
        "generate w1 4/1",
        "an idle session holds no worker"
    );
}

#[test]
fn batch_work_is_paused_for_a_segment_and_goes_on_after_it() {
    let mut bench = one_hot(Config {
        batch_max: 2,
        ..config()
    });
    bench.submit_work(of_class(1, Priority::Batch));
    bench.submit_work(of_class(2, Priority::Batch));
    bench.commands();
    bench.submit_work(segment(3));
    assert_eq!(
        short(&bench.commands()),
        [
            "pause w0 1/1",
            "pause w0 2/1",
            "starting 3",
            "generate w0 3/1"
        ]
    );
    bench.submit(4, &menu()[0]);
    assert!(
        bench.commands().is_empty(),
        "nobody but realtime work goes past what is paused"
    );
    bench.finished(0, attempt(3, 1));
    assert_eq!(
        short(&bench.commands())[..2],
        ["resume w0 1/1", "resume w0 2/1"]
    );
    assert_eq!(bench.scheduler.counters().pauses, 2);
}

#[test]
fn an_attempt_is_not_paused_for_ever() {
    let mut bench = one_hot(config());
    bench.submit_work(of_class(1, Priority::Batch));
    for number in 2..6 {
        bench.submit_work(segment(number));
    }
    bench.commands();
    bench.finished(0, attempt(2, 1));
    let commands = short(&bench.commands());
    assert!(
        commands.contains(&"generate w0 3/1".into()),
        "a second segment goes before it: {commands:?}"
    );
    bench.finished(0, attempt(3, 1));
    let commands = short(&bench.commands());
    assert!(
        commands.contains(&"resume w0 1/1".into()) && !commands.contains(&"pause w0 1/1".into()),
        "and that is enough: {commands:?}"
    );
    bench.finished(0, attempt(1, 1));
    let commands = short(&bench.commands());
    assert!(commands.contains(&"generate w0 4/1".into()), "{commands:?}");
}

#[test]
fn work_of_other_classes_is_not_paused() {
    let mut bench = one_hot(config());
    bench.submit_work(of_class(1, Priority::Interactive));
    bench.commands();
    bench.submit_work(segment(2));
    assert!(bench.commands().is_empty());
}

#[test]
fn a_segment_that_has_the_time_waits() {
    let mut bench = one_hot(config());
    bench.submit_work(of_class(1, Priority::Batch));
    bench.started(0, attempt(1, 1));
    bench.pass(Duration::from_secs(10));
    bench.finished(0, attempt(1, 1));
    bench.submit_work(of_class(2, Priority::Batch));
    bench.started(0, attempt(2, 1));
    bench.commands();
    let patient = Work {
        begin_within: Some(Duration::from_secs(30)),
        ..segment(3)
    };
    bench.submit_work(patient);
    assert!(bench.commands().is_empty(), "ten seconds is soon enough");
    let hurried = Work {
        begin_within: Some(Duration::from_secs(3)),
        ..segment(4)
    };
    bench.cancel(3);
    bench.submit_work(hurried);
    assert!(short(&bench.commands()).contains(&"pause w0 2/1".into()));
}

#[test]
fn a_paused_attempt_can_be_cancelled_and_shows_no_progress_meanwhile() {
    let mut bench = one_hot(config());
    bench.submit_work(of_class(1, Priority::Batch));
    bench.submit_work(segment(2));
    bench.commands();
    for step in 1..9 {
        bench.pass(Duration::from_secs(60));
        let attempt = attempt(2, 1);
        bench.tell(0, denoised(attempt, step));
    }
    assert!(bench.commands().is_empty(), "nobody expects any");
    bench.cancel(1);
    assert_eq!(short(&bench.commands()), ["cancel w0 1/1"]);
}

#[test]
fn a_member_of_a_batch_that_falls_silent_ends_the_worker_though_others_step() {
    let mut bench = one_hot(Config {
        batch_max: 2,
        ..config()
    });
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    bench.commands();
    for step in 1..3 {
        bench.pass(Duration::from_secs(55));
        let attempt = attempt(1, 1);
        bench.tell(0, denoised(attempt, step));
    }
    bench.pass(Duration::from_secs(20));
    assert_eq!(short(&bench.commands())[0], "kill w0 hang");
}

#[test]
fn a_job_whose_worker_died_goes_to_another_device_if_one_is_free() {
    let mut bench = two_alike();
    bench.submit(1, &menu()[0]);
    bench.commands();
    bench.exit(0);
    let commands = short(&bench.commands());
    assert!(commands.contains(&"generate w1 1/2".into()), "{commands:?}");
}

#[test]
fn a_segment_that_trusted_an_estimate_is_looked_at_again_when_that_is_past() {
    let mut bench = one_hot(config());
    bench.submit_work(of_class(1, Priority::Batch));
    bench.started(0, attempt(1, 1));
    bench.pass(Duration::from_secs(10));
    bench.finished(0, attempt(1, 1));
    bench.submit_work(of_class(2, Priority::Batch));
    bench.started(0, attempt(2, 1));
    bench.submit_work(Work {
        begin_within: Some(Duration::from_secs(30)),
        ..segment(3)
    });
    bench.commands();
    bench.pass(Duration::from_secs(9));
    assert!(bench.commands().is_empty());
    bench.pass(Duration::from_secs(1));
    assert!(short(&bench.commands()).contains(&"pause w0 2/1".into()));
}

#[test]
fn a_segment_joins_work_that_stays_only_where_any_job_may() {
    let alone = Config {
        batching: Batching::Off,
        batch_max: 2,
        ..config()
    };
    let mut bench = one_hot(alone);
    bench.submit(1, &menu()[0]);
    bench.commands();
    bench.submit_work(segment(2));
    assert!(bench.commands().is_empty(), "off means never");
    let rule = BatchRule {
        model: ModelMatch::Any,
        shape: None,
        memory_min_bytes: None,
        memory_max_bytes: None,
        batch_max: 8,
        cost_max: Some(60),
    };
    let mut bench = one_hot(Config {
        batch_rules: vec![rule],
        batch_max: 2,
        ..config()
    });
    bench.submit(1, &menu()[0]);
    bench.commands();
    bench.submit_work(segment(2));
    assert!(bench.commands().is_empty(), "40 and 40 are more than 60");
}

#[test]
fn what_a_pause_took_is_not_counted_as_work() {
    let mut bench = one_hot(config());
    bench.submit_work(of_class(1, Priority::Batch));
    bench.started(0, attempt(1, 1));
    bench.submit_work(segment(2));
    bench.started(0, attempt(2, 1));
    bench.pass(Duration::from_secs(90));
    bench.finished(0, attempt(2, 1));
    bench.finished(0, attempt(1, 1));
    let profile = bench.scheduler.profile(&menu()[0]).unwrap();
    assert_eq!(profile.service_us, 90_000_000, "of the segment alone");
    bench.submit_work(of_class(3, Priority::Batch));
    bench.started(0, attempt(3, 1));
    bench.submit_work(segment(4));
    bench.pass(Duration::from_secs(1));
    bench.finished(0, attempt(4, 1));
    bench.finished(0, attempt(3, 1));
    let profile = bench.scheduler.profile(&menu()[0]).unwrap();
    assert_eq!(profile.service_us, 90_000_000, "nor the other way round");
}

#[test]
fn an_estimate_does_not_move_with_time_before_the_attempt_has_started() {
    let mut bench = one_hot(config());
    bench.submit_work(of_class(1, Priority::Batch));
    bench.started(0, attempt(1, 1));
    bench.pass(Duration::from_secs(10));
    bench.finished(0, attempt(1, 1));
    bench.submit_work(of_class(2, Priority::Batch));
    bench.submit_work(Work {
        begin_within: Some(Duration::from_secs(60)),
        ..segment(3)
    });
    bench.commands();
    bench.pass(Duration::from_secs(10));
    assert!(short(&bench.commands()).contains(&"pause w0 2/1".into()));
}
