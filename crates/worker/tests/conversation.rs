//! The worker's loop against a counting engine, over a real socket pair.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use reel_protocol::{
    Attempt, Canary, Capabilities, Channel, ChannelError, Checkpoint, FailureClass, FlightRecorder,
    FromWorker, Item, Mode, Pixels, Saved, Stage, ToWorker,
};
use reel_worker::{Engine, EngineError, serve};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

/// Counts steps; a video is its step count.
struct Counter {
    canary: f32,
}

struct Run {
    step: u32,
    of: u32,
    given: u8,
    slow: bool,
}

/// A slow step waits until nobody wants it to.
static SLOW: AtomicBool = AtomicBool::new(true);

impl Engine for Counter {
    type Run = Run;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "counter".into(),
            max_batch: 4,
            continuous: true,
            pausable: false,
            videos: false,
        }
    }

    fn bundle_id(&self) -> &str {
        "bundle"
    }

    fn canary(&mut self) -> Result<Canary, EngineError> {
        Ok(Canary {
            expected: 1.0,
            got: self.canary,
        })
    }

    fn video_bytes(&self) -> usize {
        2
    }

    fn frame_bytes(&self) -> usize {
        1
    }

    fn begin(&mut self, item: &Item, given: &[u8]) -> Result<Run, EngineError> {
        match item.prompt.as_str() {
            "impossible" => Err(EngineError::soft("cannot do this")),
            "deadly" => Err(EngineError {
                class: FailureClass::DeviceFatal,
                message: "device lost".into(),
            }),
            _ => Ok(Run {
                step: 0,
                of: item.steps,
                given: given.first().copied().unwrap_or(0),
                slow: item.prompt == "slow",
            }),
        }
    }

    fn step(&mut self, runs: &mut [&mut Run]) -> Result<(), EngineError> {
        for run in runs {
            while run.slow && SLOW.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            run.step += 1;
        }
        Ok(())
    }

    fn progress(&self, run: &Run) -> (u32, u32) {
        (run.step, run.of)
    }

    fn state_bytes(&self) -> u64 {
        5
    }

    fn save(&mut self, run: &Run, state: &mut Vec<u8>) -> Result<(), EngineError> {
        state.extend(run.of.to_le_bytes());
        state.push(run.given);
        Ok(())
    }

    fn resume(&mut self, _item: &Item, saved: &Saved) -> Result<Run, EngineError> {
        let [of @ .., given] = &saved.state[..] else {
            return Err(EngineError::checkpoint("no state"));
        };
        let of = <[u8; 4]>::try_from(of).map(u32::from_le_bytes);
        Ok(Run {
            step: saved.step,
            of: of.map_err(|_| EngineError::checkpoint("no state"))?,
            given: *given,
            slow: false,
        })
    }

    fn decode(&mut self, run: Run, frames: &mut [u8]) -> Result<(), EngineError> {
        frames.copy_from_slice(&[u8::try_from(run.step).unwrap(), run.given]);
        Ok(())
    }
}

struct Supervisor {
    channel: Channel<FromWorker, ToWorker>,
    worker: thread::JoinHandle<reel_worker::Ending>,
}

impl Supervisor {
    fn start(load: impl FnOnce() -> Result<Counter, EngineError> + Send + 'static) -> Self {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let worker = thread::spawn(move || {
            let flight = FlightRecorder::create().unwrap();
            serve(&Channel::new(theirs), flight, Instant::now(), load)
        });
        Self {
            channel: Channel::new(ours),
            worker,
        }
    }

    fn ready() -> Self {
        let supervisor = Self::start(|| Ok(Counter { canary: 1.0 }));
        assert!(matches!(
            supervisor.hear(),
            FromWorker::Hello {
                protocol: reel_protocol::VERSION,
                ..
            }
        ));
        assert!(matches!(supervisor.hear(), FromWorker::Loaded { .. }));
        assert!(matches!(supervisor.hear(), FromWorker::Ready { .. }));
        supervisor
    }

    fn hear(&self) -> FromWorker {
        self.channel.receive().unwrap().0
    }

    fn hear_until(
        &self,
        mut wanted: impl FnMut(&FromWorker) -> bool,
    ) -> (FromWorker, Option<std::os::fd::OwnedFd>) {
        loop {
            let (message, fd) = self.channel.receive().unwrap();
            if wanted(&message) {
                return (message, fd);
            }
        }
    }

    fn say(&self, message: &ToWorker) {
        self.channel.send(message, None).unwrap();
    }
}

fn attempt(number: u8) -> Attempt {
    Attempt {
        job: [number; 16],
        number: 1,
    }
}

fn item(prompt: &str, steps: u32) -> Item {
    Item {
        mode: Mode::T2v,
        prompt: prompt.into(),
        negative_prompt: String::new(),
        seed: 0,
        steps,
        guidance: 1.0,
        fps: 8,
        conditioning_frames: 0,
        trace: None,
    }
}

#[test]
fn an_attempt_is_reported_step_by_step_and_ends_in_sealed_frames() {
    let supervisor = Supervisor::ready();
    supervisor.say(&ToWorker::Generate {
        attempt: attempt(1),
        item: item("x", 3),
        resumes: false,
        more: false,
    });
    assert_eq!(
        supervisor.hear(),
        FromWorker::Started {
            attempt: attempt(1)
        }
    );
    let (finished, fd) =
        supervisor.hear_until(|message| matches!(message, FromWorker::Finished { .. }));
    assert!(matches!(finished, FromWorker::Finished { attempt: a, .. } if a == attempt(1)));
    assert_eq!(
        Pixels::accept(fd.unwrap(), 2).unwrap().read().unwrap(),
        [3, 0]
    );
}

#[test]
fn given_frames_reach_the_engine_and_wrong_ones_fail_the_attempt() {
    let supervisor = Supervisor::ready();
    let mut i2v = item("x", 1);
    i2v.conditioning_frames = 1;
    let pixels = Pixels::new(&[42]).unwrap();
    let generate = ToWorker::Generate {
        attempt: attempt(1),
        item: i2v,
        resumes: false,
        more: false,
    };
    supervisor
        .channel
        .send(&generate, Some(pixels.as_fd()))
        .unwrap();
    let (_, fd) = supervisor.hear_until(|message| matches!(message, FromWorker::Finished { .. }));
    assert_eq!(
        Pixels::accept(fd.unwrap(), 2).unwrap().read().unwrap(),
        [1, 42]
    );
    supervisor.say(&generate);
    let (failed, _) = supervisor.hear_until(|message| matches!(message, FromWorker::Failed { .. }));
    assert!(matches!(
        failed,
        FromWorker::Failed {
            class: FailureClass::Soft,
            ..
        }
    ));
}

#[test]
fn attempts_join_and_leave_between_steps() {
    let supervisor = Supervisor::ready();
    // The long one never ends by itself; the other one joins it, ends, and only then is the long one cancelled.
    for (number, steps) in [(1, u32::MAX), (2, 2)] {
        supervisor.say(&ToWorker::Generate {
            attempt: attempt(number),
            item: item("x", steps),
            resumes: false,
            more: false,
        });
    }
    let (finished, _) =
        supervisor.hear_until(|message| matches!(message, FromWorker::Finished { .. }));
    assert!(matches!(finished, FromWorker::Finished { attempt: a, .. } if a == attempt(2)));
    for number in [9, 1] {
        supervisor.say(&ToWorker::Cancel {
            attempt: attempt(number),
        });
    }
    let (cancelled, _) =
        supervisor.hear_until(|message| matches!(message, FromWorker::Cancelled { .. }));
    assert_eq!(
        cancelled,
        FromWorker::Cancelled {
            attempt: attempt(1)
        },
        "who is not there cannot leave"
    );
}

fn generate(number: u8, steps: u32, more: bool) -> ToWorker {
    ToWorker::Generate {
        attempt: attempt(number),
        item: item("x", steps),
        resumes: false,
        more,
    }
}

#[test]
fn members_of_a_formed_batch_begin_together() {
    let supervisor = Supervisor::ready();
    supervisor.say(&generate(1, 3, true));
    // Nothing begins: whoever is not here yet cannot leave, so the first word is of the one that is cancelled.
    supervisor.say(&generate(3, 3, true));
    supervisor.say(&ToWorker::Cancel {
        attempt: attempt(3),
    });
    assert_eq!(
        supervisor.hear(),
        FromWorker::Cancelled {
            attempt: attempt(3)
        },
        "it waits for the other one"
    );
    supervisor.say(&generate(2, 3, false));
    for number in [1, 2] {
        let (started, _) =
            supervisor.hear_until(|message| matches!(message, FromWorker::Started { .. }));
        let attempt = attempt(number);
        assert_eq!(started, FromWorker::Started { attempt });
    }
    for number in [1, 2] {
        let (finished, _) =
            supervisor.hear_until(|message| matches!(message, FromWorker::Finished { .. }));
        assert!(
            matches!(finished, FromWorker::Finished { attempt: a, .. } if a == attempt(number))
        );
    }
}

#[test]
fn a_paused_attempt_keeps_its_steps_until_it_is_resumed() {
    let supervisor = Supervisor::ready();
    supervisor.say(&generate(1, u32::MAX, false));
    let step_of = |number: u8| {
        let of = attempt(number);
        let (step, _) = supervisor
            .hear_until(|message| matches!(message, FromWorker::Step { attempt, stage: Stage::Denoise, .. } if *attempt == of));
        match step {
            FromWorker::Step { step, .. } => step,
            _ => unreachable!(),
        }
    };
    let mut last = step_of(1);
    supervisor.say(&ToWorker::Pause {
        attempt: attempt(1),
    });
    // It is told one thing after the other: when the second one begins, the first one is paused.
    supervisor.say(&generate(2, 3, false));
    supervisor.hear_until(|message| {
        if let FromWorker::Step { step, .. } = message {
            last = *step;
        }
        matches!(message, FromWorker::Started { .. })
    });
    let (finished, _) = supervisor.hear_until(|message| {
        assert!(
            !matches!(message, FromWorker::Step { attempt: a, .. } if *a == attempt(1)),
            "it is paused"
        );
        matches!(message, FromWorker::Finished { .. })
    });
    assert!(matches!(finished, FromWorker::Finished { attempt: a, .. } if a == attempt(2)));
    supervisor.say(&ToWorker::Resume {
        attempt: attempt(1),
    });
    assert_eq!(step_of(1), last + 1, "it goes on where it was");
    supervisor.say(&ToWorker::Pause {
        attempt: attempt(1),
    });
    supervisor.say(&ToWorker::Cancel {
        attempt: attempt(1),
    });
    supervisor.hear_until(|message| matches!(message, FromWorker::Cancelled { .. }));
}

#[test]
fn a_failed_attempt_leaves_the_worker_alive_and_a_lost_device_ends_it() {
    let supervisor = Supervisor::ready();
    supervisor.say(&ToWorker::Generate {
        attempt: attempt(1),
        item: item("impossible", 1),
        resumes: false,
        more: false,
    });
    supervisor.hear_until(|message| matches!(message, FromWorker::Failed { .. }));
    supervisor.say(&ToWorker::Ping { nonce: 5 });
    assert_eq!(supervisor.hear(), FromWorker::Pong { nonce: 5 });
    supervisor.say(&ToWorker::Generate {
        attempt: attempt(2),
        item: item("deadly", 1),
        resumes: false,
        more: false,
    });
    let (fatal, _) = supervisor.hear_until(|message| matches!(message, FromWorker::Fatal { .. }));
    assert_eq!(
        fatal,
        FromWorker::Fatal {
            class: FailureClass::DeviceFatal,
            message: "device lost".into()
        }
    );
    assert!(matches!(
        supervisor.worker.join().unwrap(),
        reel_worker::Ending::Fatal(_)
    ));
}

#[test]
fn a_canary_that_sings_wrong_is_never_ready() {
    let supervisor = Supervisor::start(|| Ok(Counter { canary: 1.1 }));
    assert!(matches!(supervisor.hear(), FromWorker::Hello { .. }));
    assert!(matches!(supervisor.hear(), FromWorker::Loaded { .. }));
    assert!(matches!(
        supervisor.hear(),
        FromWorker::Fatal {
            class: FailureClass::Boot,
            ..
        }
    ));
}

#[test]
fn a_bundle_that_does_not_load_is_a_named_boot_failure() {
    let supervisor = Supervisor::start(|| Err(EngineError::boot("no such bundle")));
    assert!(matches!(supervisor.hear(), FromWorker::Hello { .. }));
    assert_eq!(
        supervisor.hear(),
        FromWorker::Fatal {
            class: FailureClass::Boot,
            message: "no such bundle".into()
        }
    );
}

#[test]
fn shutdown_waits_for_what_runs_and_a_closed_channel_ends_the_worker() {
    let supervisor = Supervisor::ready();
    supervisor.say(&ToWorker::Generate {
        attempt: attempt(1),
        item: item("x", 5),
        resumes: false,
        more: false,
    });
    supervisor.say(&ToWorker::Shutdown);
    supervisor.hear_until(|message| matches!(message, FromWorker::Finished { .. }));
    assert!(matches!(
        supervisor.worker.join().unwrap(),
        reel_worker::Ending::Asked
    ));

    let Supervisor { channel, worker } = Supervisor::ready();
    drop(channel);
    assert!(matches!(worker.join().unwrap(), reel_worker::Ending::Asked));
}

#[test]
fn garbage_from_the_supervisor_breaks_the_conversation_by_name() {
    let supervisor = Supervisor::ready();
    rustix::net::send(
        &supervisor.channel,
        b"\xff",
        rustix::net::SendFlags::empty(),
    )
    .unwrap();
    let ending = supervisor.worker.join().unwrap();
    assert!(matches!(
        ending,
        reel_worker::Ending::Broken(ChannelError::Decode(_))
    ));
}

/// The checkpoint of an attempt that has come to this step.
fn checkpoint_at(supervisor: &Supervisor, wanted: u32) -> std::os::fd::OwnedFd {
    let is_checkpoint = |message: &FromWorker| matches!(message, FromWorker::Checkpoint { .. });
    let (_, fd) = supervisor.hear_until(is_checkpoint);
    supervisor.hear_until(|message| {
        matches!(message, FromWorker::Step { stage: Stage::Denoise, step, .. } if *step == wanted)
    });
    fd.unwrap()
}

fn resume(number: u8, steps: u32) -> ToWorker {
    match generate(number, steps, false) {
        ToWorker::Generate {
            attempt,
            item,
            more,
            ..
        } => ToWorker::Generate {
            attempt,
            item,
            resumes: true,
            more,
        },
        other => other,
    }
}

#[test]
fn another_worker_goes_on_where_the_first_one_stood() {
    let first = Supervisor::ready();
    // The last step waits for its decoding in the end, so the state after it is one to go on from, too.
    for at in [3, 200] {
        first.say(&generate(1, 200, false));
        let checkpoint = checkpoint_at(&first, at);
        first.say(&ToWorker::Cancel {
            attempt: attempt(1),
        });
        let second = Supervisor::ready();
        second
            .channel
            .send(&resume(1, 200), Some(checkpoint.as_fd()))
            .unwrap();
        let mut steps = Vec::new();
        let (finished, fd) = second.hear_until(|message| {
            if let FromWorker::Step {
                stage: Stage::Denoise,
                step,
                ..
            } = message
            {
                steps.push(*step);
            }
            matches!(
                message,
                FromWorker::Finished { .. } | FromWorker::Failed { .. }
            )
        });
        assert!(
            matches!(finished, FromWorker::Finished { .. }),
            "{finished:?}"
        );
        // It was at this step or beyond when its state was read.
        assert!(steps.first().is_none_or(|step| *step >= at), "{steps:?}");
        let frames = Pixels::accept(fd.unwrap(), 2).unwrap().read().unwrap();
        assert_eq!(frames, [200, 0]);
    }
}

#[test]
fn a_checkpoint_that_holds_nothing_is_said_to_be_the_reason() {
    let supervisor = Supervisor::ready();
    let empty = Checkpoint::create(5).unwrap();
    supervisor
        .channel
        .send(&resume(1, 20), Some(empty.as_fd()))
        .unwrap();
    supervisor.hear_until(|message| {
        matches!(
            message,
            FromWorker::Failed {
                class: FailureClass::Checkpoint,
                ..
            }
        )
    });
    supervisor.say(&generate(2, 3, false));
    supervisor.hear_until(|message| matches!(message, FromWorker::Finished { .. }));
}

#[test]
fn a_ping_is_answered_while_a_step_takes_its_time() {
    let supervisor = Supervisor::ready();
    supervisor.say(&ToWorker::Generate {
        attempt: attempt(1),
        item: item("slow", 2),
        resumes: false,
        more: false,
    });
    supervisor.hear_until(|message| matches!(message, FromWorker::Step { .. }));
    supervisor.say(&ToWorker::Ping { nonce: 5 });
    // The engine does nothing until somebody lets it: only the reading thread can have answered.
    supervisor.hear_until(|message| *message == FromWorker::Pong { nonce: 5 });
    SLOW.store(false, Ordering::SeqCst);
    supervisor.hear_until(|message| matches!(message, FromWorker::Finished { .. }));
}
