//! What is held against requests, bundles and devices.

mod bench;

use bench::{Bench, attempt, devices, job, menu, short, unbatched};
use reel_domain::{DeviceId, FailureCode, Outcome, Rejection};
use reel_scheduler::{Batching, Command, Config, Order, RequestDigest, Trust, Work};
use std::time::Duration;

const DEVICE: DeviceId = DeviceId(0);

fn request(number: u8, digest: u64) -> Work {
    Work {
        digest: RequestDigest(digest),
        ..job(number, &menu()[0])
    }
}

fn failures(bench: &mut Bench) -> Vec<FailureCode> {
    let ends = bench
        .commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::End {
                outcome: Outcome::Failed(failure),
                ..
            } => Some(failure.code),
            _ => None,
        });
    ends.collect()
}

#[test]
fn a_request_that_kills_two_workers_is_quarantined_until_an_operator_releases_it() {
    let mut bench = Bench::two_hot(1);
    bench.submit_work(request(1, 7));
    bench.exit(0);
    bench.ready(1);
    bench.exit(1);
    assert_eq!(failures(&mut bench), [FailureCode::Quarantined]);
    let refused = bench.refusal(request(2, 7));
    let case = "case-0000000000000007".to_owned();
    assert_eq!(refused, Some(Rejection::Quarantined { case }));
    assert_eq!(bench.refusal(request(3, 8)), None, "others are welcome");
    bench.order(Order::Release(RequestDigest(7)));
    assert_eq!(bench.refusal(request(4, 7)), None);
}

#[test]
fn members_of_a_batch_that_died_are_tried_alone_and_only_the_killer_is_blamed() {
    let config = Config {
        batching: Batching::Fixed,
        ..Config::default()
    };
    let mut bench = Bench::with(config, &devices(1, 1));
    bench.ready(0);
    bench.submit_work(request(1, 1));
    bench.submit_work(request(2, 2));
    bench.commands();
    bench.exit(0);
    bench.ready(1);
    let commands = short(&bench.commands());
    assert_eq!(commands.last().unwrap(), "generate w1 1/2", "one at a time");
    bench.finished(1, attempt(1, 2));
    bench.commands();
    bench.exit(1);
    assert_eq!(failures(&mut bench), [FailureCode::Quarantined]);
    assert_eq!(
        bench.refusal(request(3, 1)),
        None,
        "the other one did nothing"
    );
}

#[test]
fn a_device_on_which_two_requests_die_is_taken_out_and_tried_again_with_one_worker() {
    let mut bench = Bench::with(unbatched(), &devices(2, 1));
    bench.ready(0);
    bench.ready(1);
    bench.commands();
    bench.submit_work(request(1, 1));
    bench.exit(0);
    bench.ready(2);
    bench.cancel(1);
    bench.tell(
        2,
        reel_scheduler::WorkerEvent::Cancelled {
            attempt: attempt(1, 2),
        },
    );
    bench.submit_work(request(2, 2));
    bench.commands();
    bench.exit(2);
    assert_eq!(bench.scheduler.trust(DEVICE), Some(Trust::Suspect));
    let commands = short(&bench.commands());
    assert_eq!(
        commands,
        ["queued 2", "stop w1"],
        "its shape moves to the other device"
    );
    bench.exit(1);
    bench.ready(3);
    bench.commands();
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.scheduler.trust(DEVICE), Some(Trust::Probation));
    assert_eq!(short(&bench.commands()), ["spawn w4 0.0 96x64@17f"]);
    bench.ready(4);
    assert_eq!(bench.scheduler.trust(DEVICE), Some(Trust::Good));
}

#[test]
fn the_last_device_stays_however_many_requests_die_on_it() {
    let mut bench = Bench::two_hot(1);
    for number in 1..=3 {
        bench.submit_work(request(number, number.into()));
        bench.exit(u64::from(number) - 1);
        bench.pass(Duration::from_secs(60));
        bench.cancel(number);
        bench.ready(number.into());
    }
    assert_eq!(bench.scheduler.trust(DEVICE), Some(Trust::Good));
}

#[test]
fn workers_of_a_cordoned_device_finish_what_they_have() {
    let mut bench = Bench::two_hot(2);
    bench.submit(1, &menu()[0]);
    bench.commands();
    bench.order(Order::Cordon(DEVICE));
    assert_eq!(short(&bench.commands()), ["stop w1"]);
    bench.finished(0, attempt(1, 1));
    assert_eq!(
        short(&bench.commands()),
        ["stop w0", "encoding 1", "encode 1/1"]
    );
    bench.exit(0);
    bench.exit(1);
    assert!(bench.commands().is_empty(), "nobody comes back");
    bench.submit(2, &menu()[0]);
    assert!(bench.commands().is_empty());
    bench.order(Order::Uncordon(DEVICE));
    assert_eq!(bench.commands().len(), 2, "workers come back");
}

#[test]
fn a_bundle_that_does_not_start_on_one_device_is_served_by_another() {
    let mut bench = Bench::with(unbatched(), &devices(2, 1));
    bench.ready(1);
    bench.exit(0);
    bench.exit(2);
    bench.pass(Duration::from_millis(500));
    bench.commands();
    bench.exit(3);
    assert!(
        !bench.scheduler.is_resting(&menu()[0], bench.now),
        "not everywhere"
    );
    bench.commands();
    bench.submit(1, &menu()[0]);
    let commands = short(&bench.commands());
    assert_eq!(
        commands,
        ["stop w1"],
        "its place on the other device is made"
    );
    bench.exit(1);
    let commands = short(&bench.commands());
    assert!(commands[0].ends_with("1.0 64x64@17f"), "{commands:?}");
}

#[test]
fn one_death_of_a_batch_of_the_same_request_blames_nobody() {
    let config = Config {
        batching: Batching::Fixed,
        ..Config::default()
    };
    let mut bench = Bench::with(config, &devices(1, 1));
    bench.ready(0);
    bench.submit_work(request(1, 7));
    bench.submit_work(request(2, 7));
    bench.exit(0);
    assert_eq!(bench.refusal(request(3, 7)), None, "one death, in company");
    bench.ready(1);
    bench.finished(1, attempt(1, 2));
    bench.commands();
    bench.exit(1);
    assert_eq!(failures(&mut bench), [FailureCode::WorkerLost]);
    assert_eq!(
        bench.refusal(request(3, 7)),
        None,
        "it was finished once since"
    );
}

#[test]
fn each_cancelled_attempt_has_its_own_deadline() {
    let config = Config {
        batching: Batching::Fixed,
        ..Config::default()
    };
    let mut bench = Bench::with(config, &devices(1, 1));
    bench.ready(0);
    for number in 1..=3 {
        bench.submit(number, &menu()[0]);
    }
    bench.commands();
    let left = |bench: &mut Bench, number| {
        let attempt = attempt(number, 1);
        bench.tell(0, reel_scheduler::WorkerEvent::Cancelled { attempt });
    };
    bench.cancel(1);
    bench.pass(Duration::from_secs(15));
    bench.cancel(2);
    left(&mut bench, 1);
    bench.pass(Duration::from_secs(15));
    assert!(
        !short(&bench.commands()).contains(&"kill w0 hang".into()),
        "the second has 5 s left"
    );
    bench.cancel(3);
    bench.pass(Duration::from_secs(5));
    assert!(
        short(&bench.commands()).contains(&"kill w0 hang".into()),
        "however often others are cancelled"
    );
}
