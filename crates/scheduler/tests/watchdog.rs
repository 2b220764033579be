//! Who is given up, when, and for which reason.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "the helpers of tests are tests"
)]

mod bench;

use bench::{Bench, attempt, denoised, devices, menu, short, unbatched};
use reel_domain::{BootFailure, BootPhase, Fault, Silence, Stage};
use reel_scheduler::{Command, Config, ExitReport, Input, Mark, Order, WorkerEvent};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// One worker, ready, that is asked whether it lives.
fn one_hot(config: Config) -> Bench {
    let mut bench = Bench::watched(config, &devices(1, 1));
    bench.offer(&menu()[0]);
    bench.ready(0);
    bench.commands();
    bench
}

fn quiet() -> Config {
    Config {
        heartbeat_after: Duration::ZERO,
        ..unbatched()
    }
}

/// A job of twenty steps, each of so long, and a second for each other stage.
fn generate(bench: &mut Bench, number: u8, step: Duration) {
    bench.submit(number, &menu()[0]);
    let attempt = attempt(number, 1);
    bench.started(0, attempt);
    bench.pass(SECOND);
    let mark = Mark {
        stage: Stage::Encode,
        step: 1,
        of: 1,
    };
    bench.tell(0, WorkerEvent::Progress { attempt, mark });
    for done in 1..=20 {
        bench.pass(step);
        bench.tell(0, denoised(attempt, done));
    }
    bench.pass(SECOND);
    bench.finished(0, attempt);
    bench.encoded(attempt, Ok(()));
    bench.commands();
}

fn faults(commands: &[Command]) -> Vec<Fault> {
    let fault = |command: &Command| match command {
        Command::Kill { fault, .. } => *fault,
        _ => None,
    };
    commands.iter().filter_map(fault).collect()
}

#[test]
fn a_step_that_takes_many_times_the_usual_is_a_hang_and_names_its_place() {
    let mut bench = one_hot(quiet());
    generate(&mut bench, 1, 2 * SECOND);
    bench.submit(2, &menu()[0]);
    bench.started(0, attempt(2, 1));
    bench.tell(0, denoised(attempt(2, 1), 7));
    bench.commands();
    // Ten times two seconds, and what the bucket is wider.
    bench.pass(19 * SECOND);
    assert_eq!(faults(&bench.commands()), []);
    bench.pass(8 * SECOND);
    let silence = Silence::Step {
        stage: Stage::Denoise,
        step: 7,
    };
    assert_eq!(faults(&bench.commands()), [Fault::Hang(silence)]);
}

#[test]
fn decoding_is_watched_too() {
    let mut bench = one_hot(quiet());
    for number in 1..=8 {
        generate(&mut bench, number, SECOND / 10);
    }
    bench.submit(9, &menu()[0]);
    bench.started(0, attempt(9, 1));
    bench.tell(0, denoised(attempt(9, 1), 20));
    bench.commands();
    bench.pass(14 * SECOND);
    let silence = Silence::Step {
        stage: Stage::Decode,
        step: 0,
    };
    assert_eq!(faults(&bench.commands()), [Fault::Hang(silence)]);
}

#[test]
fn an_attempt_that_moves_for_ever_is_given_up() {
    let mut bench = one_hot(Config {
        attempt_deadline: 60 * SECOND,
        ..quiet()
    });
    bench.submit(1, &menu()[0]);
    bench.started(0, attempt(1, 1));
    for _ in 0..59 {
        bench.pass(SECOND);
        bench.tell(0, denoised(attempt(1, 1), 1));
    }
    bench.commands();
    bench.pass(2 * SECOND);
    assert_eq!(faults(&bench.commands()), [Fault::Hang(Silence::Attempt)]);
}

#[test]
fn a_busy_worker_that_says_nothing_is_asked_and_must_answer() {
    let mut bench = one_hot(unbatched());
    bench.submit(1, &menu()[0]);
    bench.started(0, attempt(1, 1));
    bench.commands();
    bench.pass(2 * SECOND);
    assert_eq!(short(&bench.commands()), ["ping w0"]);
    bench.tell(0, WorkerEvent::Answered);
    // It answers: it computes, and the next step may take its time. Ten seconds after an answer it is asked again.
    bench.pass(13 * SECOND);
    assert_eq!(short(&bench.commands()), ["ping w0"]);
    bench.pass(10 * SECOND);
    assert_eq!(faults(&bench.commands()), [Fault::Hang(Silence::Heartbeat)]);
}

#[test]
fn an_idle_worker_is_not_asked() {
    let mut bench = one_hot(unbatched());
    generate(&mut bench, 1, SECOND);
    assert_eq!(bench.scheduler.poll_timeout(), None);
}

#[test]
fn each_phase_of_a_start_has_its_own_deadline() {
    let config = unbatched();
    let phases = [
        (BootPhase::Exec, config.exec_deadline),
        (BootPhase::Load, config.boot_deadline),
        (BootPhase::Canary, config.canary_deadline),
    ];
    for (stuck_in, deadline) in phases {
        let mut bench = Bench::watched(config.clone(), &devices(1, 1));
        bench.offer(&menu()[0]);
        bench.commands();
        for (phase, _) in phases
            .iter()
            .skip(1)
            .filter(|(phase, _)| *phase <= stuck_in)
        {
            bench.pass(SECOND);
            bench.tell(0, WorkerEvent::Booting { phase: *phase });
        }
        bench.pass(deadline - SECOND);
        assert_eq!(faults(&bench.commands()), []);
        bench.pass(SECOND);
        let (phase, how) = (stuck_in, BootFailure::Timeout);
        let expected = Fault::BootFailed { phase, how };
        assert_eq!(faults(&bench.commands()), [expected]);
    }
}

#[test]
fn a_device_that_keeps_the_memory_of_a_dead_worker_gets_no_other_until_an_operator_says_so() {
    let mut bench = Bench::with(unbatched(), &devices(1, 2));
    bench.ready(0);
    bench.ready(1);
    bench.commands();
    bench.tell(
        0,
        WorkerEvent::Exited(ExitReport {
            description: "signal 9".into(),
            memory_held: true,
        }),
    );
    bench.submit(1, &menu()[0]);
    bench.pass(600 * SECOND);
    let spawns = |commands: Vec<Command>| {
        let is_spawn = |command: &&Command| matches!(command, Command::Spawn { .. });
        commands.iter().filter(is_spawn).count()
    };
    bench.exit(1);
    bench.pass(600 * SECOND);
    assert_eq!(spawns(bench.commands()), 0);
    assert_eq!(bench.scheduler.counters().devices_stuck, 1);
    let device = reel_domain::DeviceId(0);
    bench.put(Input::Order(Order::Uncordon(device)));
    assert!(spawns(bench.commands()) > 0);
}

#[test]
fn a_device_is_good_again_when_the_last_dead_worker_lets_its_memory_go() {
    let mut bench = Bench::with(unbatched(), &devices(1, 2));
    bench.ready(0);
    bench.ready(1);
    bench.commands();
    let device = reel_domain::DeviceId(0);
    for worker in [0, 1] {
        bench.tell(
            worker,
            WorkerEvent::Exited(ExitReport {
                description: "signal 9".into(),
                memory_held: true,
            }),
        );
    }
    bench.commands();
    let mut freed = |worker| {
        let worker = reel_scheduler::WorkerId(worker);
        bench.put(Input::Freed { worker, device });
        short(&bench.commands()).len()
    };
    assert_eq!(freed(0), 0, "the other one holds some");
    assert!(freed(1) > 0, "it is used again");
}

#[test]
fn a_worker_that_does_not_even_die_takes_its_device_out_and_nobody_waits_for_it() {
    let mut bench = Bench::with(unbatched(), &devices(1, 1));
    bench.ready(0);
    bench.submit(1, &menu()[0]);
    bench.started(0, attempt(1, 1));
    bench.commands();
    bench.tell(0, WorkerEvent::Broken { fault: Fault::Oom });
    assert_eq!(short(&bench.commands()), ["kill w0 oom", "queued 1"]);
    bench.pass(30 * SECOND);
    assert_eq!(short(&bench.commands()), ["abandon w0"]);
    assert_eq!(bench.scheduler.counters().devices_stuck, 1);
    bench.put(Input::Order(Order::Drain));
    assert!(bench.scheduler.is_drained());
}

#[test]
fn a_death_is_known_before_its_burial() {
    let mut bench = one_hot(quiet());
    bench.submit(1, &menu()[0]);
    bench.started(0, attempt(1, 1));
    bench.commands();
    bench.tell(0, WorkerEvent::Died);
    assert_eq!(short(&bench.commands()), ["queued 1"]);
    bench.exit(0);
    assert_eq!(short(&bench.commands()), ["spawn w1 0.0 64x64@17f"]);
}

#[test]
fn a_start_that_nobody_wants_any_more_is_ended_and_is_no_fault() {
    let mut bench = Bench::with(quiet(), &devices(1, 1));
    bench.commands();
    bench.put(Input::Order(Order::Drain));
    assert_eq!(short(&bench.commands()), ["kill w0"]);
    bench.exit(0);
    assert!(bench.scheduler.is_drained());
}
