//! One test per rule, read as: these inputs, exactly these commands.

mod bench;

use bench::{Bench, attempt, denoised, devices, id, job, key, menu, short, unbatched};
use reel_domain::{Fault, Mode, Rejection};
use reel_scheduler::{BundleStanding, Command, Config, Input, Order, WorkerEvent};
use std::time::Duration;

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
    bench.started(0, attempt(1, 1));
    bench.finished(0, attempt(1, 1));
    assert_eq!(
        short(&bench.commands()),
        ["in_progress 1", "encoding 1", "encode 1/1"]
    );
    bench.encoded(attempt(1, 1), Ok(()));
    assert_eq!(short(&bench.commands()), ["end 1 completed"]);
    assert_eq!(bench.scheduler.poll_timeout(), None, "nothing is pending");
}

#[test]
fn the_device_takes_the_next_job_while_the_last_one_is_encoded() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    bench.commands();
    bench.finished(0, attempt(1, 1));
    assert_eq!(
        short(&bench.commands()),
        ["encoding 1", "encode 1/1", "starting 2", "generate w0 2/1"]
    );
}

#[test]
fn a_job_that_is_not_durable_never_runs() {
    let mut bench = Bench::two_hot(2);
    bench.put(Input::Submit(job(1, &menu()[0])));
    assert_eq!(short(&bench.every_command()), ["store 1"]);
    bench.stored(id(1), false);
    bench.cancel(1);
    assert!(bench.commands().is_empty(), "it never was");
}

#[test]
fn a_cold_shape_evicts_the_worker_used_longest_ago() {
    let mut bench = Bench::two_hot(2);
    bench.now += Duration::from_secs(1);
    bench.submit(1, &menu()[0]);
    bench.finished(0, attempt(1, 1));
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
    bench.finished(0, attempt(1, 1));
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
        ..unbatched()
    };
    let mut bench = Bench::with(config, &devices(1, 2));
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
    bench.started(0, attempt(1, 1));
    bench.commands();
    bench.exit(0);
    assert_eq!(
        short(&bench.commands()),
        ["queued 1", "spawn w2 0.0 64x64@17f"]
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
    bench.pass(Duration::from_millis(374));
    assert!(bench.commands().is_empty(), "the second respawn waits");
    bench.pass(Duration::from_millis(126));
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
    bench.finished(0, attempt(1, 1));
    assert!(bench.commands().is_empty());
    assert_eq!(bench.scheduler.counters().stale_events, 1);
}

#[test]
fn results_of_an_older_attempt_are_discarded() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.exit(0);
    bench.ready(1);
    bench.commands();
    bench.finished(1, attempt(1, 1));
    assert!(bench.commands().is_empty());
    assert_eq!(bench.scheduler.counters().stale_events, 1);
    bench.encoded(attempt(1, 1), Ok(()));
    assert_eq!(short(&bench.commands()), ["discard 1/1"]);
}

#[test]
fn a_worker_that_is_never_ready_is_killed_and_its_bundle_rests_after_three_tries() {
    let mut bench = Bench::new(1);
    bench.submit(1, &menu()[0]);
    assert_eq!(short(&bench.commands()), ["spawn w0 0.0 64x64@17f"]);
    bench.pass(Duration::from_secs(120));
    assert_eq!(short(&bench.commands()), ["kill w0 boot_failed"]);
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
    let again = bench.refusal(job(2, &menu()[0]));
    assert_eq!(again, Some(Rejection::BundleResting(menu()[0].clone())));
    bench.pass(Duration::from_secs(61));
    assert_eq!(bench.refusal(job(2, &menu()[0])), None);
}

#[test]
fn a_worker_without_progress_is_killed_and_its_job_requeued_without_waiting_for_the_process() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    bench.started(0, attempt(1, 1));
    bench.commands();
    bench.pass(Duration::from_secs(119));
    bench.tell(0, denoised(attempt(1, 1), 1));
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
    bench.cancel(2);
    assert_eq!(short(&bench.commands()), ["end 2 cancelled"]);
}

#[test]
fn a_running_job_is_cancelled_at_the_next_step_boundary() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.commands();
    bench.cancel(1);
    bench.cancel(1);
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
    bench.cancel(1);
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
    bench.finished(0, attempt(1, 1));
    bench.commands();
    bench.cancel(1);
    assert_eq!(short(&bench.commands()), ["end 1 cancelled", "discard 1/1"]);
    bench.cancel(1);
}

#[test]
fn a_job_cancelled_before_it_is_durable_ends_when_the_journal_answers() {
    let mut bench = Bench::two_hot(1);
    bench.put(Input::Submit(job(1, &menu()[0])));
    bench.cancel(1);
    assert!(bench.commands().is_empty());
    bench.stored(id(1), true);
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
            fault: Fault::DeviceFatal,
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
        ..unbatched()
    };
    let mut bench = Bench::with(config, &devices(1, 1));
    let unknown = key("128x128@17f");
    assert_eq!(
        bench.refusal(job(1, &unknown)),
        Some(Rejection::BundleUnknown(unknown))
    );
    let mut extend = job(1, &menu()[0]);
    extend.mode = Mode::Extend;
    let unsupported = Rejection::ModeUnsupported {
        bundle: menu()[0].clone(),
        mode: Mode::Extend,
    };
    assert_eq!(bench.refusal(extend), Some(unsupported));
    bench.submit(1, &menu()[0]);
    assert_eq!(
        bench.refusal(job(2, &menu()[0])),
        Some(Rejection::QueueFull {
            limit: 1,
            retry_after_s: 3
        })
    );
    bench.order(Order::Drain);
    assert_eq!(bench.refusal(job(2, &menu()[0])), Some(Rejection::Draining));
}

#[test]
fn an_unbaked_bundle_is_refused_until_it_is_offered() {
    let mut bench = Bench::unbaked(unbatched(), &devices(1, 1));
    let refused = bench.refusal(job(1, &menu()[3]));
    assert_eq!(refused, Some(Rejection::BundleNotReady(menu()[3].clone())));
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
    bench.order(Order::Drain);
    assert_eq!(short(&bench.commands()), ["stop w1"]);
    bench.exit(1);
    bench.finished(0, attempt(1, 1));
    assert_eq!(
        short(&bench.commands()),
        ["stop w0", "encoding 1", "encode 1/1"]
    );
    bench.exit(0);
    assert!(
        !bench.scheduler.is_drained(),
        "the video is still being encoded"
    );
    bench.encoded(attempt(1, 1), Ok(()));
    assert_eq!(short(&bench.commands()), ["end 1 completed"]);
    assert!(bench.scheduler.is_drained());
    assert_eq!(bench.scheduler.waiting().collect::<Vec<_>>(), [id(2)]);
}

#[test]
fn a_second_device_takes_the_overflow_of_a_busy_bundle_when_that_is_sooner() {
    let mut bench = Bench::with(unbatched(), &devices(2, 2));
    bench.pass(Duration::from_secs(1));
    for worker in 0..4 {
        bench.ready(worker);
    }
    bench.commands();
    bench.submit(1, &menu()[0]);
    bench.submit(2, &menu()[0]);
    assert_eq!(short(&bench.commands()), ["starting 1", "generate w0 1/1"]);
    // A spawn took a second, and an attempt is taken to last as long until one was measured: with four that wait,
    // three are left when a second worker is ready, and are done one and a half seconds sooner by two.
    bench.submit(3, &menu()[0]);
    bench.submit(4, &menu()[0]);
    assert!(bench.commands().is_empty());
    bench.submit(5, &menu()[0]);
    assert_eq!(short(&bench.commands()), ["stop w2"]);
}

#[test]
fn restored_jobs_keep_their_order_and_go_on_counting_attempts() {
    let mut bench = Bench::two_hot(1);
    bench.restore(job(1, &menu()[0]), 1);
    bench.restore(job(2, &menu()[0]), 0);
    let commands = bench.commands();
    assert_eq!(short(&commands), ["starting 1", "generate w0 1/2"]);
    assert!(matches!(&commands[1], Command::Generate { attempt, .. } if attempt.job == id(1)));
}

#[test]
fn a_repeated_finish_leaves_the_published_video_alone() {
    let mut bench = Bench::two_hot(1);
    bench.submit(1, &menu()[0]);
    bench.finished(0, attempt(1, 1));
    bench.encoded(attempt(1, 1), Ok(()));
    bench.commands();
    bench.finished(0, attempt(1, 1));
    assert!(bench.commands().is_empty());
}

#[test]
fn a_bundle_that_rested_is_tried_again_without_being_asked() {
    let mut bench = Bench::with(unbatched(), &devices(1, 4));
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
    let mut bench = Bench::unbaked(unbatched(), &devices(1, 1));
    for number in 1..=40 {
        bench.restore(job(number, &menu()[0]), 1);
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
    let mut bench = Bench::unbaked(unbatched(), &devices(1, 1));
    bench.restore(job(1, &menu()[0]), 0);
    bench.restore(job(2, &key("128x128@9f")), 0);
    assert_eq!(
        short(&bench.commands()),
        ["end 2 failed"],
        "its shape left the menu"
    );
    bench.put(Input::Bundle {
        key: menu()[0].clone(),
        standing: BundleStanding::Failed,
    });
    assert_eq!(short(&bench.commands()), ["end 1 failed"]);
    let refused = bench.refusal(job(3, &menu()[0]));
    assert_eq!(refused, Some(Rejection::BundleFailed(menu()[0].clone())));
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

#[test]
fn bounds_can_be_changed_while_the_machine_runs() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    bench.commands();
    let one = Config {
        queue_jobs_max: 1,
        ..unbatched()
    };
    bench.put(Input::Configure(Box::new(one.clone())));
    let refused = bench.refusal(job(2, &menu()[0]));
    assert!(matches!(
        refused,
        Some(Rejection::QueueFull { limit: 1, .. })
    ));
    let three = Config {
        queue_jobs_max: 3,
        batch_max: 2,
        ..one
    };
    bench.put(Input::Configure(Box::new(three)));
    bench.started(0, attempt(1, 1));
    bench.submit(2, &menu()[0]);
    let joined = short(&bench.commands());
    assert!(joined.contains(&"generate w0 2/1".into()), "{joined:?}");
}
