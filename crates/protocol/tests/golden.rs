//! The bytes of the protocol, held still: a changed vector is a changed protocol and needs a new version.

use reel_protocol::{
    Attempt, Canary, Capabilities, FailureClass, FromWorker, Item, MESSAGE_BYTES_MAX, MemoryUse,
    Mode, OutputKind, Stage, Timings, ToWorker, decode, encode,
};

fn attempt() -> Attempt {
    Attempt {
        job: *b"0123456789abcdef",
        number: 2,
    }
}

fn item() -> Item {
    Item {
        mode: Mode::I2v,
        prompt: "a red circle".into(),
        negative_prompt: String::new(),
        seed: 300,
        steps: 20,
        guidance: 3.0,
        fps: 8,
        conditioning_frames: 1,
        trace: Some("t".into()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn messages_to_workers_keep_their_bytes() {
    let job = hex(b"0123456789abcdef");
    let cases = [
        (
            ToWorker::Generate {
                attempt: attempt(),
                item: item(),
                resumes: false,
                more: true,
            },
            format!("00{job}02010c612072656420636972636c6500fb2c01140000404008010101740001"),
        ),
        (
            ToWorker::Cancel { attempt: attempt() },
            format!("01{job}02"),
        ),
        (ToWorker::Pause { attempt: attempt() }, format!("02{job}02")),
        (
            ToWorker::Resume { attempt: attempt() },
            format!("03{job}02"),
        ),
        (ToWorker::Ping { nonce: 251 }, "04fbfb00".into()),
        (ToWorker::Shutdown, "05".into()),
    ];
    for (message, bytes) in cases {
        assert_eq!(hex(&encode(&message).unwrap()), bytes, "{message:?}");
        assert_eq!(
            decode::<ToWorker>(&encode(&message).unwrap()).unwrap(),
            message
        );
    }
}

#[test]
fn messages_from_workers_keep_their_bytes() {
    let job = hex(b"0123456789abcdef");
    let memory = MemoryUse {
        resident_bytes: 1,
        peak_bytes: 2,
    };
    let capabilities = Capabilities {
        engine: "e".into(),
        max_batch: 8,
        continuous: true,
        pausable: false,
        videos: true,
    };
    let cases = [
        (
            FromWorker::Hello {
                protocol: 1,
                pid: 9,
            },
            "000109".to_owned(),
        ),
        (
            FromWorker::Loaded { capabilities },
            "01016508010001".to_owned(),
        ),
        (
            FromWorker::Ready {
                bundle_id: "b".into(),
                memory,
                boot_us: 5,
                canary: Canary {
                    expected: 1.0,
                    got: 1.0,
                },
            },
            "0201620102050000803f0000803f".into(),
        ),
        (
            FromWorker::Started { attempt: attempt() },
            format!("03{job}02"),
        ),
        (
            FromWorker::Checkpoint { attempt: attempt() },
            format!("04{job}02"),
        ),
        (
            FromWorker::Step {
                attempt: attempt(),
                stage: Stage::Denoise,
                step: 3,
                of: 20,
            },
            format!("05{job}02010314"),
        ),
        (
            FromWorker::Finished {
                attempt: attempt(),
                output: OutputKind::Frames,
                timings: Timings::default(),
                memory,
            },
            format!("06{job}02000000000102"),
        ),
        (
            FromWorker::Finished {
                attempt: attempt(),
                output: OutputKind::Video,
                timings: Timings::default(),
                memory,
            },
            format!("06{job}02010000000102"),
        ),
        (
            FromWorker::Cancelled { attempt: attempt() },
            format!("07{job}02"),
        ),
        (
            FromWorker::Failed {
                attempt: attempt(),
                class: FailureClass::Soft,
                message: "m".into(),
            },
            format!("08{job}0200016d"),
        ),
        (
            FromWorker::Fatal {
                class: FailureClass::Boot,
                message: "m".into(),
            },
            "0903016d".into(),
        ),
        (FromWorker::Pong { nonce: 7 }, "0a07".into()),
    ];
    for (message, bytes) in cases {
        assert_eq!(hex(&encode(&message).unwrap()), bytes, "{message:?}");
        assert_eq!(
            decode::<FromWorker>(&encode(&message).unwrap()).unwrap(),
            message
        );
    }
}

#[test]
fn a_length_that_promises_too_much_is_refused_without_allocating() {
    // Generate with a prompt of 2^62 bytes.
    let mut bytes = vec![0];
    bytes.extend(b"0123456789abcdef");
    bytes.extend([2, 0, 253]);
    bytes.extend((1_u64 << 62).to_le_bytes());
    assert!(decode::<ToWorker>(&bytes).is_err());
}

#[test]
fn a_message_beyond_the_limit_cannot_be_written() {
    let message = FromWorker::Fatal {
        class: FailureClass::Boot,
        message: "x".repeat(MESSAGE_BYTES_MAX),
    };
    assert!(encode(&message).is_err());
}

#[test]
fn trailing_bytes_are_refused() {
    let mut bytes = encode(&ToWorker::Shutdown).unwrap();
    bytes.push(0);
    assert!(decode::<ToWorker>(&bytes).is_err());
}
