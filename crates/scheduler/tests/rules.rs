//! One test per rule, read as: these inputs, exactly these commands.

mod bench;

use bench::{Bench, attempt, id, job, key, menu, short, slots};
use reel_domain::{FaultClass, Mode, Rejection};
use reel_scheduler::{CancelDecision, Command, Config, Scheduler, WorkerEvent};
use std::time::{Duration, Instant};

#[test]
fn empty_slots_are_filled_with_the_menu_in_its_order() {
    let mut bench = Bench::new(2);
    assert_eq!(
        short(&bench.commands()),
        ["spawn w0 0.0 64x64@17f", "spawn w1 0.1 96x64@17f"]
    );
}

#[test]
fn a_job_runs_through_its_whole_life() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    assert_eq!(short(&bench.commands()), ["starting 1", "generate w0 1/1"]);
    bench.tell(
        0,
        WorkerEvent::Started {
            attempt: attempt(1, 1),
        },
    );
    bench.tell(
        0,
        WorkerEvent::Finished {
            attempt: attempt(1, 1),
        },
    );
    assert_eq!(
        short(&bench.commands()),
        ["in_progress 1", "encoding 1", "encode 1/1"]
    );
    bench.scheduler.handle_encoded(attempt(1, 1), Ok(()));
    assert_eq!(short(&bench.commands()), ["end 1 completed"]);
    assert_eq!(bench.scheduler.poll_timeout(), None, "nothing is pending");
}

#[test]
fn the_device_takes_the_next_job_while_the_last_one_is_encoded() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    bench.commands();
    bench.tell(
        0,
        WorkerEvent::Finished {
            attempt: attempt(1, 1),
        },
    );
    assert_eq!(
        short(&bench.commands()),
        ["encoding 1", "encode 1/1", "starting 2", "generate w0 2/1"]
    );
}

#[test]
fn a_job_that_is_not_durable_never_runs() {
    let mut bench = Bench::two_hot(2);
    bench
        .scheduler
        .submit(job(1, &menu()[0]), bench.now)
        .unwrap();
    assert!(bench.commands().is_empty());
    bench.scheduler.handle_stored(id(1), false, bench.now);
    assert!(bench.commands().is_empty());
    assert_eq!(
        bench.scheduler.cancel(id(1), bench.now),
        CancelDecision::NotRunning
    );
}

#[test]
fn a_cold_shape_evicts_the_worker_used_longest_ago() {
    let mut bench = Bench::two_hot(2);
    bench.now += Duration::from_secs(1);
    bench.submit(1, &menu()[0]);
    bench.tell(
        0,
        WorkerEvent::Finished {
            attempt: attempt(1, 1),
        },
    );
    bench.commands();
    bench.submit(2, &menu()[2]);
    assert_eq!(short(&bench.commands()), ["stop w1"]);
    bench.exit(1);
    assert_eq!(short(&bench.commands()), ["spawn w2 0.1 64x96@17f"]);
    bench.ready(2);
    assert_eq!(short(&bench.commands()), ["starting 2", "generate w2 2/1"]);
}

#[test]
fn one_place_is_made_for_many_jobs_of_one_cold_shape() {
    let mut bench = Bench::two_hot(2);
    for number in 1..=5 {
        bench.submit(number, &menu()[2]);
    }
    assert_eq!(short(&bench.commands()), ["stop w0"]);
}

#[test]
fn a_busy_worker_is_not_evicted() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.commands();
    bench.submit(2, &menu()[1]);
    assert!(bench.commands().is_empty());
    bench.tell(
        0,
        WorkerEvent::Finished {
            attempt: attempt(1, 1),
        },
    );
    assert_eq!(
        short(&bench.commands()),
        ["encoding 1", "encode 1/1", "stop w0"]
    );
}

#[test]
fn hot_work_behind_a_cold_head_runs_while_the_head_waits_for_its_worker() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[2]);
    bench.submit(2, &menu()[1]);
    assert_eq!(
        short(&bench.commands()),
        ["stop w0", "starting 2", "generate w1 2/1"]
    );
}

#[test]
fn work_beyond_the_look_past_waits() {
    let config = Config {
        look_past_max: 0,
        ..Config::default()
    };
    let mut bench = Bench::with(config, slots(1, 2));
    bench.ready(0);
    bench.ready(1);
    bench.commands();
    bench.submit(1, &menu()[2]);
    bench.submit(2, &menu()[1]);
    assert_eq!(short(&bench.commands()), ["stop w0"]);
}

#[test]
fn a_dead_worker_comes_back_at_once_and_its_job_is_tried_again() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    bench.tell(
        0,
        WorkerEvent::Started {
            attempt: attempt(1, 1),
        },
    );
    bench.commands();
    bench.exit(0);
    assert_eq!(
        short(&bench.commands()),
        ["spawn w2 0.0 64x64@17f", "queued 1"]
    );
    bench.ready(2);
    assert_eq!(short(&bench.commands()), ["starting 1", "generate w2 1/2"]);
}

#[test]
fn a_second_death_under_one_job_fails_it() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    bench.exit(0);
    bench.ready(2);
    bench.commands();
    bench.exit(2);
    assert_eq!(short(&bench.commands()), ["end 1 failed"]);
    bench.pass(Duration::from_millis(499));
    assert!(bench.commands().is_empty(), "the second respawn waits");
    bench.pass(Duration::from_millis(1));
    assert_eq!(short(&bench.commands()), ["spawn w3 0.0 64x64@17f"]);
}

#[test]
fn a_retried_job_keeps_its_place_in_the_queue() {
    let mut bench = Bench::two_hot(1);
    for number in 1..=3 {
        bench.submit(number, &menu()[0]);
    }
    bench.exit(0);
    assert_eq!(
        bench.scheduler.waiting().collect::<Vec<_>>(),
        [id(1), id(2), id(3)]
    );
}

#[test]
fn results_of_a_dead_worker_are_ignored_and_counted() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    bench.exit(0);
    bench.commands();
    bench.tell(
        0,
        WorkerEvent::Finished {
            attempt: attempt(1, 1),
        },
    );
    assert!(bench.commands().is_empty());
    assert_eq!(bench.scheduler.stale_events(), 1);
}

#[test]
fn results_of_an_older_attempt_are_discarded() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.exit(0);
    bench.ready(1);
    bench.commands();
    bench.tell(
        1,
        WorkerEvent::Finished {
            attempt: attempt(1, 1),
        },
    );
    assert!(bench.commands().is_empty());
    assert_eq!(bench.scheduler.stale_events(), 1);
    bench.scheduler.handle_encoded(attempt(1, 1), Ok(()));
    assert_eq!(short(&bench.commands()), ["discard 1/1"]);
}

#[test]
fn a_worker_that_is_never_ready_is_killed_and_its_bundle_rests_after_three_tries() {
    let mut bench = Bench::new(1);
    bench.submit(1, &menu()[0]);
    assert_eq!(short(&bench.commands()), ["spawn w0 0.0 64x64@17f"]);
    bench.pass(Duration::from_secs(120));
    assert_eq!(short(&bench.commands()), ["kill w0 hang"]);
    bench.exit(0);
    bench.exit(1);
    bench.pass(Duration::from_millis(500));
    bench.commands();
    bench.exit(2);
    // Jobs do not wait for what will not come; the slot turns to the rest of the menu.
    assert_eq!(
        short(&bench.commands()),
        ["end 1 failed", "spawn w3 0.0 96x64@17f"]
    );
    let again = bench.scheduler.submit(job(2, &menu()[0]), bench.now);
    assert_eq!(again, Err(Rejection::BundleResting(menu()[0].clone())));
    bench.pass(Duration::from_secs(61));
    assert_eq!(
        bench.scheduler.submit(job(2, &menu()[0]), bench.now),
        Ok(())
    );
}

#[test]
fn a_worker_without_progress_is_killed_and_its_job_requeued_without_waiting_for_the_process() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    bench.tell(
        0,
        WorkerEvent::Started {
            attempt: attempt(1, 1),
        },
    );
    bench.commands();
    bench.pass(Duration::from_secs(119));
    bench.tell(
        0,
        WorkerEvent::Progress {
            attempt: attempt(1, 1),
        },
    );
    bench.pass(Duration::from_secs(119));
    assert!(bench.commands().is_empty());
    bench.pass(Duration::from_secs(1));
    assert_eq!(short(&bench.commands()), ["kill w0 hang", "queued 1"]);
    bench.exit(0);
    assert_eq!(short(&bench.commands()), ["spawn w2 0.0 64x64@17f"]);
}

#[test]
fn a_waiting_job_is_cancelled_at_once() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    bench.commands();
    assert_eq!(
        bench.scheduler.cancel(id(2), bench.now),
        CancelDecision::Accepted
    );
    assert_eq!(short(&bench.commands()), ["end 2 cancelled"]);
}

#[test]
fn a_running_job_is_cancelled_at_the_next_step_boundary() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.commands();
    bench.scheduler.cancel(id(1), bench.now);
    bench.scheduler.cancel(id(1), bench.now);
    assert_eq!(short(&bench.commands()), ["cancel w0 1/1"], "asked once");
    bench.tell(
        0,
        WorkerEvent::Cancelled {
            attempt: attempt(1, 1),
        },
    );
    assert_eq!(short(&bench.commands()), ["end 1 cancelled"]);
    assert_eq!(bench.scheduler.poll_timeout(), None);
}

#[test]
fn a_cancellation_that_is_not_honoured_ends_the_worker() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.scheduler.cancel(id(1), bench.now);
    bench.commands();
    bench.pass(Duration::from_secs(20));
    assert_eq!(
        short(&bench.commands()),
        ["kill w0 hang", "end 1 cancelled"]
    );
}

#[test]
fn cancel_after_finish_discards_the_video_and_cancel_after_the_end_is_refused() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.tell(
        0,
        WorkerEvent::Finished {
            attempt: attempt(1, 1),
        },
    );
    bench.commands();
    bench.scheduler.cancel(id(1), bench.now);
    assert_eq!(short(&bench.commands()), ["end 1 cancelled", "discard 1/1"]);
    assert_eq!(
        bench.scheduler.cancel(id(1), bench.now),
        CancelDecision::NotRunning
    );
}

#[test]
fn a_job_cancelled_before_it_is_durable_ends_when_the_journal_answers() {
    let mut bench = Bench::two_hot(1);
    bench
        .scheduler
        .submit(job(1, &menu()[0]), bench.now)
        .unwrap();
    assert_eq!(
        bench.scheduler.cancel(id(1), bench.now),
        CancelDecision::Accepted
    );
    assert!(bench.commands().is_empty());
    bench.scheduler.handle_stored(id(1), true, bench.now);
    assert_eq!(short(&bench.commands()), ["end 1 cancelled"]);
}

#[test]
fn a_failed_attempt_fails_its_job_and_leaves_the_worker_hot() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    bench.commands();
    bench.tell(
        0,
        WorkerEvent::Failed {
            attempt: attempt(1, 1),
            message: "too hot".into(),
        },
    );
    assert_eq!(
        short(&bench.commands()),
        ["end 1 failed", "starting 2", "generate w0 2/1"]
    );
}

#[test]
fn impossible_messages_end_the_worker() {
    let mut bench = Bench::two_hot(2);
    bench.ready(0);
    assert_eq!(short(&bench.commands()), ["kill w0 desync"]);
    bench.tell(
        1,
        WorkerEvent::Broken {
            class: FaultClass::DeviceFatal,
        },
    );
    assert_eq!(short(&bench.commands()), ["kill w1 device_fatal"]);
}

#[test]
fn a_worker_that_ignores_stop_is_killed_and_its_successor_comes() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[1]);
    assert_eq!(short(&bench.commands()), ["stop w0"]);
    bench.pass(Duration::from_secs(5));
    assert_eq!(short(&bench.commands()), ["kill w0 hang"]);
    bench.exit(0);
    assert_eq!(short(&bench.commands()), ["spawn w1 0.0 96x64@17f"]);
}

#[test]
fn rejections_name_the_reason() {
    let config = Config {
        queue_jobs_max: 1,
        ..Config::default()
    };
    let mut bench = Bench::with(config, slots(1, 1));
    let now = bench.now;
    let unknown = key("128x128@17f");
    assert_eq!(
        bench.scheduler.submit(job(1, &unknown), now),
        Err(Rejection::BundleUnknown(unknown))
    );
    let mut extend = job(1, &menu()[0]);
    extend.mode = Mode::Extend;
    let unsupported = Rejection::ModeUnsupported {
        bundle: menu()[0].clone(),
        mode: Mode::Extend,
    };
    assert_eq!(bench.scheduler.submit(extend, now), Err(unsupported));
    bench.submit(1, &menu()[0]);
    assert_eq!(
        bench.scheduler.submit(job(2, &menu()[0]), now),
        Err(Rejection::QueueFull { limit: 1 })
    );
    bench.scheduler.drain(now);
    assert_eq!(
        bench.scheduler.submit(job(2, &menu()[0]), now),
        Err(Rejection::Draining)
    );
}

#[test]
fn an_unbaked_bundle_is_refused_until_it_is_offered() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(Config::default(), slots(1, 1), menu());
    let refused = scheduler.submit(job(1, &menu()[3]), now);
    assert_eq!(refused, Err(Rejection::BundleNotReady(menu()[3].clone())));
    let mut bench = Bench { scheduler, now };
    bench.offer(&menu()[3]);
    bench.submit(1, &menu()[3]);
    assert_eq!(short(&bench.commands()), ["spawn w0 0.0 64x64@33f"]);
}

#[test]
fn draining_finishes_what_runs_and_leaves_what_waits() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    bench.commands();
    bench.scheduler.drain(bench.now);
    assert_eq!(short(&bench.commands()), ["stop w1"]);
    bench.exit(1);
    bench.tell(
        0,
        WorkerEvent::Finished {
            attempt: attempt(1, 1),
        },
    );
    assert_eq!(
        short(&bench.commands()),
        ["stop w0", "encoding 1", "encode 1/1"]
    );
    bench.exit(0);
    assert!(
        !bench.scheduler.is_drained(),
        "the video is still being encoded"
    );
    bench.scheduler.handle_encoded(attempt(1, 1), Ok(()));
    assert_eq!(short(&bench.commands()), ["end 1 completed"]);
    assert!(bench.scheduler.is_drained());
    assert_eq!(bench.scheduler.waiting().collect::<Vec<_>>(), [id(2)]);
}

#[test]
fn a_second_device_takes_the_overflow_of_a_busy_bundle() {
    let mut bench = Bench::with(Config::default(), slots(2, 2));
    for worker in 0..4 {
        bench.ready(worker);
    }
    bench.commands();
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    assert_eq!(
        short(&bench.commands()),
        ["starting 1", "generate w0 1/1", "stop w2"]
    );
}

#[test]
fn restored_jobs_keep_their_order_and_go_on_counting_attempts() {
    let mut bench = Bench::two_hot(1);
    bench.scheduler.restore(job(1, &menu()[0]), 1, bench.now);
    bench.scheduler.restore(job(2, &menu()[0]), 0, bench.now);
    let commands = bench.commands();
    assert_eq!(short(&commands), ["starting 1", "generate w0 1/2"]);
    assert!(matches!(&commands[1], Command::Generate { job, .. } if job.id == id(1)));
}

#[test]
fn a_repeated_finish_leaves_the_published_video_alone() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    let finished = || WorkerEvent::Finished {
        attempt: attempt(1, 1),
    };
    bench.tell(0, finished());
    bench.scheduler.handle_encoded(attempt(1, 1), Ok(()));
    bench.commands();
    bench.tell(0, finished());
    assert!(bench.commands().is_empty());
}

#[test]
fn a_bundle_that_rested_is_tried_again_without_being_asked() {
    let mut bench = Bench::with(Config::default(), slots(1, 4));
    for worker in 1..4 {
        bench.ready(worker);
    }
    bench.exit(0);
    bench.exit(4);
    bench.pass(Duration::from_millis(500));
    bench.exit(5);
    bench.commands();
    assert!(bench.scheduler.is_resting(&menu()[0], bench.now));
    bench.pass(Duration::from_secs(60));
    assert_eq!(short(&bench.commands()), ["spawn w6 0.0 64x64@17f"]);
}

#[test]
fn jobs_that_cannot_be_served_yet_are_not_in_the_way_of_others() {
    let mut bench = Bench {
        scheduler: Scheduler::new(Config::default(), slots(1, 1), menu()),
        now: Instant::now(),
    };
    for number in 1..=40 {
        bench
            .scheduler
            .restore(job(number, &menu()[0]), 1, bench.now);
    }
    bench.offer(&menu()[1]);
    bench.ready(0);
    bench.commands();
    bench.submit(50, &menu()[1]);
    assert_eq!(
        short(&bench.commands()),
        ["starting 50", "generate w0 50/1"]
    );
}

#[test]
fn jobs_of_a_bundle_that_cannot_be_made_fail_and_new_ones_are_refused() {
    let mut bench = Bench {
        scheduler: Scheduler::new(Config::default(), slots(1, 1), menu()),
        now: Instant::now(),
    };
    bench.scheduler.restore(job(1, &menu()[0]), 0, bench.now);
    bench
        .scheduler
        .restore(job(2, &key("128x128@9f")), 0, bench.now);
    assert_eq!(
        short(&bench.commands()),
        ["end 2 failed"],
        "its shape left the menu"
    );
    bench.scheduler.fail_bundle(&menu()[0]);
    assert_eq!(short(&bench.commands()), ["end 1 failed"]);
    let refused = bench.scheduler.submit(job(3, &menu()[0]), bench.now);
    assert_eq!(refused, Err(Rejection::BundleFailed(menu()[0].clone())));
}

#[test]
fn what_a_worker_says_of_a_strangers_attempt_does_not_count() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    assert!(
        bench
            .scheduler
            .carries(reel_scheduler::WorkerId(0), attempt(1, 1))
    );
    assert!(
        !bench
            .scheduler
            .carries(reel_scheduler::WorkerId(1), attempt(1, 1))
    );
}
