//! Recordings as files: what went in comes out, and decides the same.

use reel_domain::{
    AttemptId, BootPhase, BundleKey, DeviceId, Failure, FailureCode, Fault, JobId, Mode, Priority,
    SessionId, Silence, SlotId, Stage,
};
use reel_recording::read::Event;
use reel_recording::{Header, ReadError, Recorder, Recording, ReplayError};
use reel_scheduler::{
    BATCH_SIZES, BatchRule, Batching, BundleOffer, BundleStanding, Config, DeviceSpec, EngineFacts,
    Eviction, ExitReport, Input, Mark, Merge, ModelMatch, Order, Profile, RequestDigest, Scheduler,
    Work, WorkerEvent, WorkerId,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn key() -> BundleKey {
    "tiny-shapes/64x64@17f".parse().expect("a bundle")
}

fn header() -> Header {
    let config = Config {
        weights: [("team-a".parse().expect("a name"), 3)].into(),
        pinned: vec![key()],
        batching: Batching::Profit { gain_permille: 30 },
        eviction: Eviction::Priced,
        batch_rules: vec![
            BatchRule {
                model: ModelMatch::Contains("wan".into()),
                shape: Some("64x64@17f".parse().expect("a shape")),
                memory_min_bytes: Some(1),
                memory_max_bytes: None,
                batch_max: 2,
                cost_max: Some(80),
            },
            BatchRule {
                model: ModelMatch::Is("ltx".parse().expect("a name")),
                shape: None,
                memory_min_bytes: None,
                memory_max_bytes: Some(2),
                batch_max: 1,
                cost_max: None,
            },
        ],
        ..Config::default()
    };
    let device = DeviceSpec {
        slots: 2,
        memory_bytes: 7,
        shares_weights: true,
    };
    Header {
        config,
        devices: vec![device; 2],
        menu: vec![key()],
        started_at_ms: 1_700_000_000_000,
    }
}

fn work(number: u8) -> Work {
    Work {
        id: JobId::from_bytes([number; 16]),
        bundle: key(),
        mode: Mode::I2v,
        tenant: "team-a".parse().expect("a name"),
        priority: Priority::Batch,
        merge: Merge {
            never: true,
            guided: true,
            signature: u64::MAX,
        },
        cost: 40,
        session: Some(SessionId::from_bytes([8; 16])),
        begin_within: Some(Duration::from_secs(9)),
        digest: RequestDigest(5),
    }
}

/// One input of every kind.
fn every_input() -> Vec<Input> {
    let id = JobId::from_bytes([1; 16]);
    let attempt = AttemptId { job: id, number: 2 };
    let says = |event| Input::Worker {
        worker: WorkerId(9),
        event,
    };
    let slot = SlotId {
        device: DeviceId(1),
        index: 3,
    };
    let failure = Failure {
        code: FailureCode::EncodingFailed,
        message: "no".into(),
    };
    let offer = BundleOffer {
        modes: vec![Mode::T2v, Mode::Extend],
        profile: Profile {
            spawn_us: 1,
            service_us: 2,
            weights_bytes: 3,
            private_bytes: 4,
            step_us: [7; BATCH_SIZES],
        },
    };
    let engine = EngineFacts {
        batch_max: 8,
        continuous: true,
        pausable: true,
    };
    let bundle = |standing| Input::Bundle {
        key: key(),
        standing,
    };
    let mark = Mark {
        stage: Stage::Denoise,
        step: 3,
        of: 20,
    };
    vec![
        Input::Submit(work(1)),
        Input::Stored { id, durable: true },
        Input::Restore {
            work: work(2),
            attempts: 1,
        },
        Input::Cancel { id },
        bundle(BundleStanding::Unbaked),
        bundle(BundleStanding::Offered(offer)),
        bundle(BundleStanding::Failed),
        says(WorkerEvent::SpawnFailed),
        says(WorkerEvent::Ready { engine }),
        says(WorkerEvent::Measured { private_bytes: 5 }),
        says(WorkerEvent::Started { attempt }),
        says(WorkerEvent::Progress { attempt, mark }),
        says(WorkerEvent::Finished { attempt }),
        says(WorkerEvent::Cancelled { attempt }),
        says(WorkerEvent::Failed {
            attempt,
            message: "too hot".into(),
        }),
        says(WorkerEvent::Booting {
            phase: BootPhase::Canary,
        }),
        says(WorkerEvent::Broken {
            fault: Fault::Hang(Silence::Step {
                stage: Stage::Decode,
                step: 0,
            }),
        }),
        says(WorkerEvent::Answered),
        says(WorkerEvent::Died),
        says(WorkerEvent::Exited(ExitReport {
            description: "signal 9".into(),
            memory_held: true,
        })),
        Input::Encoded {
            attempt,
            result: Ok(()),
        },
        Input::Encoded {
            attempt,
            result: Err(failure),
        },
        Input::Timeout,
        Input::Freed {
            worker: WorkerId(7),
            device: DeviceId(1),
        },
        Input::Configure(Box::default()),
        Input::Order(Order::Drain),
        Input::Order(Order::Halt),
        Input::Order(Order::Cordon(DeviceId(0))),
        Input::Order(Order::Uncordon(DeviceId(0))),
        Input::Order(Order::Replace(slot)),
        Input::Order(Order::Roll(Some(DeviceId(1)))),
        Input::Order(Order::Roll(None)),
        Input::Order(Order::Release(RequestDigest(5))),
    ]
}

/// Records a run of a real scheduler: jobs come faster than the workers never become ready.
fn recorded(folder: &Path, inputs: u32, bytes_max: u64) -> PathBuf {
    let path = folder.join("run.reelrec");
    let start = Instant::now();
    let header = header();
    let mut scheduler = Scheduler::new(header.config.clone(), &header.devices, header.menu.clone());
    let mut recorder = Recorder::create(&path, &header, start, bytes_max).expect("a recorder");
    let mut now = start;
    for number in 0..inputs {
        now += Duration::from_millis(10);
        let id = JobId::from_bytes(u128::from(number).to_le_bytes());
        let input = match number % 3 {
            0 => Input::Bundle {
                key: key(),
                standing: BundleStanding::Offered(BundleOffer {
                    modes: vec![Mode::I2v],
                    profile: Profile::default(),
                }),
            },
            1 => Input::Submit(Work { id, ..work(0) }),
            _ => Input::Timeout,
        };
        recorder.input(&input, now);
        scheduler.handle(input, now);
        while let Some(command) = scheduler.poll_command() {
            recorder.decision(&command);
        }
    }
    recorder.close().expect("written");
    path
}

#[test]
fn every_kind_of_input_comes_out_as_it_went_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("all.reelrec");
    let start = Instant::now();
    let mut recorder = Recorder::create(&path, &header(), start, u64::MAX).expect("a recorder");
    for (number, input) in (1..).zip(every_input()) {
        recorder.input(&input, start + Duration::from_nanos(number));
    }
    recorder.close().expect("written");
    let mut recording = Recording::open(&path).expect("a recording");
    assert_eq!(*recording.header(), header());
    for (number, expected) in (1..).zip(every_input()) {
        match recording.next_event().expect("whole") {
            Some(Event::Input(at, input)) => {
                assert_eq!((at, *input), (Duration::from_nanos(number), expected));
            }
            other => panic!("{other:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn a_recorded_run_decides_the_same_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), 5_000, u64::MAX);
    let replay = Recording::open(&path)
        .expect("a recording")
        .replay()
        .expect("the same");
    assert_eq!(
        (replay.inputs, replay.checks),
        (5_000, 5),
        "four on the way, one at the end"
    );
    assert!(replay.commands > 1_000);
}

#[test]
fn a_recording_that_was_cut_off_replays_as_far_as_it_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), 3_000, u64::MAX);
    let bytes = std::fs::read(&path).expect("the file");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("half of it");
    let replay = Recording::open(&path)
        .expect("a recording")
        .replay()
        .expect("the same");
    assert!((1_000..2_000).contains(&replay.inputs), "{}", replay.inputs);
}

#[test]
fn a_recording_ends_at_its_largest_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), 3_000, 10_000);
    assert!(std::fs::metadata(&path).expect("the file").len() <= 10_100);
    let replay = Recording::open(&path)
        .expect("a recording")
        .replay()
        .expect("the same");
    assert!(replay.inputs < 1_000);
}

#[test]
fn a_changed_input_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), 3_000, u64::MAX);
    let mut bytes = std::fs::read(&path).expect("the file");
    // The last byte of some job's identity: a legal recording, of something else.
    let at = bytes
        .windows(6)
        .position(|window| window == b"team-a")
        .expect("a tenant")
        + 200;
    let tenant = bytes[at..]
        .windows(6)
        .position(|window| window == b"team-a")
        .expect("another");
    bytes[at + tenant] = b'x';
    std::fs::write(&path, bytes).expect("written");
    let replayed = Recording::open(&path).expect("a recording").replay();
    assert!(
        replayed.is_ok(),
        "the tenant alone changes no decision here: {replayed:?}"
    );
    let mut bytes = std::fs::read(&path).expect("the file");
    let shape = b"64x64@17f";
    let places: Vec<_> = (0..bytes.len() - shape.len())
        .filter(|&at| bytes[at..].starts_with(shape))
        // Of a job, not of an offer.
        .filter(|&at| {
            bytes[at..]
                .windows(6)
                .take(24)
                .any(|window| window == b"team-a")
        })
        .collect();
    bytes[places[places.len() / 2]] = b'9';
    std::fs::write(&path, bytes).expect("written");
    let replayed = Recording::open(&path).expect("a recording").replay();
    assert!(
        matches!(replayed, Err(ReplayError::Differs { .. })),
        "{replayed:?}"
    );
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("other");
    std::fs::write(&path, "something else entirely").expect("written");
    let error = Recording::open(&path).expect_err("not a recording");
    assert!(matches!(error, ReadError::NotARecording(_)), "{error}");
    let mut lie = b"reel recording 3\n".to_vec();
    lie.extend(u32::MAX.to_le_bytes());
    std::fs::write(&path, lie).expect("written");
    let error = Recording::open(&path).expect_err("a message of 4 GiB");
    assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
}
