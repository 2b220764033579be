//! The daemon's side of decoding: a child is believed no further than it can be checked.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use reel_domain::Shape;
use reel_media::{ImageDecoder, ImageError};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const SHAPE: &str = "64x64@17f";
const FRAME_BYTES: usize = 64 * 64 * 3;
/// Larger than the buffer of a pipe.
const IMAGE_BYTES: usize = 1024 * 1024;

/// A child that does this instead of decoding.
fn child(script: &str) -> (TempDir, ImageDecoder) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("child");
    // The shell is told the script, so that nobody writes to what is executed.
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    (folder, ImageDecoder::new(program))
}

async fn answer(script: &str) -> Result<Vec<u8>, ImageError> {
    let (_folder, decoder) = child(script);
    let shape: Shape = SHAPE.parse().unwrap();
    decoder.decode(vec![1; IMAGE_BYTES], shape).await
}

#[tokio::test]
async fn a_frame_has_exactly_the_bytes_of_the_shape() {
    let frame = |bytes| format!("cat > /dev/null; head -c {bytes} /dev/zero");
    assert_eq!(answer(&frame(FRAME_BYTES)).await, Ok(vec![0; FRAME_BYTES]));
    for wrong in [0, FRAME_BYTES - 1, FRAME_BYTES + 1] {
        let failed = answer(&frame(wrong)).await;
        assert_eq!(failed, Err(ImageError::DecoderFailed), "{wrong}");
    }
}

#[tokio::test]
async fn a_child_that_writes_without_end_meets_a_closed_pipe() {
    let failed = answer("cat > /dev/null; cat /dev/zero").await;
    assert_eq!(failed, Err(ImageError::DecoderFailed));
    let failed = answer("cat > /dev/null; cat /dev/zero >&2").await;
    assert_eq!(failed, Err(ImageError::DecoderFailed));
}

#[tokio::test]
async fn a_refusal_is_heard_though_the_image_was_not_read() {
    let refused = answer("echo animated >&2; exit 3").await;
    assert_eq!(refused, Err(ImageError::Animated));
}

#[tokio::test]
async fn what_is_no_refusal_does_not_reach_the_client() {
    for script in ["echo '<script>' >&2; exit 3", "exit 3", "exit 1"] {
        let failed = answer(script).await;
        assert_eq!(failed, Err(ImageError::DecoderFailed), "{script}");
    }
}

#[tokio::test]
async fn a_death_is_the_image_s_cost_or_the_decoder_s_fault() {
    for (script, expected) in [
        ("kill -XCPU $$", ImageError::TooExpensive),
        ("kill -KILL $$", ImageError::TooExpensive),
        (
            "echo memory allocation of 9 bytes failed >&2; kill -ABRT $$",
            ImageError::TooExpensive,
        ),
        ("kill -ABRT $$", ImageError::DecoderFailed),
        ("kill -SYS $$", ImageError::DecoderFailed),
        ("kill -SEGV $$", ImageError::DecoderFailed),
    ] {
        assert_eq!(answer(script).await, Err(expected), "{script}");
    }
}

#[tokio::test]
async fn without_a_program_no_image_is_to_blame() {
    let decoder = ImageDecoder::new("/nonexistent".into());
    let failed = decoder.decode([1], SHAPE.parse().unwrap()).await;
    assert!(
        matches!(failed, Err(ImageError::DecoderUnavailable { .. })),
        "{failed:?}"
    );
}

#[tokio::test]
async fn the_child_is_told_the_shape_and_nothing_of_the_environment() {
    // PWD and the like are the shell's own.
    let script = "cat > /dev/null; test \"$*\" = 'image-decoder 64x64@17f' || exit 1\n\
                  test -z \"$CARGO_MANIFEST_DIR$HOME\" || exit 1\n\
                  test \"$(pwd)\" = / || exit 1\n\
                  echo empty >&2; exit 3";
    assert_eq!(answer(script).await, Err(ImageError::Empty));
}
