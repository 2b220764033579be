//! Real frames through the real ffmpeg, looked at with ffprobe.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod footage;

use footage::{fps, probe, shape};
use reel_domain::Shape;
use reel_media::{Clip, Ffmpeg, MediaError};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A file that holds frames of one colour, each a little brighter than the one before.
fn frames(shape: Shape) -> File {
    let mut file = tempfile::tempfile().unwrap();
    for frame in 0..shape.frames() {
        let red = u8::try_from(100 + frame % 100).unwrap();
        let pixels = shape.frame_bytes() as usize / 3;
        file.write_all(&[red, 30, 60].repeat(pixels)).unwrap();
    }
    file
}

fn first_pixel(path: &Path) -> [u8; 3] {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-frames:v", "1", "-"])
        .output()
        .unwrap();
    output.stdout[..3].try_into().unwrap()
}

#[tokio::test]
async fn a_video_has_exactly_the_frames_rate_and_format_asked_for() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (key, rate) in [
        ("64x64@17f", 8),
        ("96x64@17f", 24),
        ("64x96@33f", 30),
        ("66x50@1f", 1),
    ] {
        let shape = shape(key);
        let out = directory.path().join(format!("{key}.mp4"));
        ffmpeg
            .encode(frames(shape), Clip::new(shape, fps(rate)), &out)
            .await
            .unwrap();
        let entries =
            "stream=codec_name,width,height,pix_fmt,color_space,r_frame_rate,nb_read_frames";
        let expected = format!(
            "h264,{},{},yuv420p,bt709,{rate}/1,{}",
            shape.width(),
            shape.height(),
            shape.frames()
        );
        assert_eq!(probe(&out, entries), expected);
    }
}

#[tokio::test]
async fn the_index_lies_before_the_data() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("video.mp4");
    let shape = shape("64x64@17f");
    ffmpeg
        .encode(frames(shape), Clip::new(shape, fps(8)), &out)
        .await
        .unwrap();
    let bytes = std::fs::read(&out).unwrap();
    let position = |name: &[u8]| bytes.windows(4).position(|window| window == name).unwrap();
    assert!(position(b"moov") < position(b"mdat"));
}

#[tokio::test]
async fn an_encoder_prepared_ahead_makes_the_same_file() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (at_once, ahead) = (
        directory.path().join("1.mp4"),
        directory.path().join("2.mp4"),
    );
    let shape = shape("64x64@17f");
    ffmpeg
        .encode(frames(shape), Clip::new(shape, fps(8)), &at_once)
        .await
        .unwrap();
    let encoder = ffmpeg.prepare(Clip::new(shape, fps(8)), &ahead).unwrap();
    encoder.encode(frames(shape)).await.unwrap();
    assert_eq!(
        std::fs::read(at_once).unwrap(),
        std::fs::read(ahead).unwrap()
    );
}

#[tokio::test]
async fn the_first_frames_are_left_out_and_no_other_is() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let shape = shape("64x48@17f");
    let whole = Clip::new(shape, fps(8));
    for left_out in [0, 1, 5, 16] {
        let clip = whole.without_first(left_out).unwrap();
        let at_once = directory.path().join("at once.mp4");
        let ahead = directory.path().join("ahead.mp4");
        let grey = || footage::frames(shape);
        ffmpeg.encode(grey(), clip, &at_once).await.unwrap();
        let encoder = ffmpeg.prepare(clip, &ahead).unwrap();
        encoder.encode(grey()).await.unwrap();
        let entries = "stream=start_pts,nb_read_frames,duration";
        assert_eq!(probe(&at_once, entries), probe(&ahead, entries));
        for out in [at_once, ahead] {
            let greys = footage::greys(&footage::decoded(&out), shape);
            footage::assert_greys(&greys, left_out..17);
        }
    }
}

#[test]
fn a_clip_without_frames_is_refused() {
    let clip = Clip::new(shape("64x48@17f"), fps(8));
    let error = clip.without_first(17).unwrap_err().to_string();
    assert_eq!(error, "64x48@17f without its first 17 frames has none left");
}

#[tokio::test]
async fn a_prepared_encoder_that_gives_up_says_why() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let shape = shape("640x480@33f");
    let encoder = ffmpeg
        .prepare(Clip::new(shape, fps(8)), Path::new("/nowhere/at/all.mp4"))
        .unwrap();
    let error = encoder.encode(frames(shape)).await.unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[tokio::test]
async fn colours_survive() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("video.mp4");
    let shape = shape("64x64@17f");
    ffmpeg
        .encode(frames(shape), Clip::new(shape, fps(8)), &out)
        .await
        .unwrap();
    for (got, expected) in first_pixel(&out).into_iter().zip([100_u8, 30, 60]) {
        assert!(got.abs_diff(expected) <= 3, "{got} instead of {expected}");
    }
}

#[tokio::test]
async fn a_name_that_looks_like_an_option_or_a_protocol_is_a_file() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("-http:%03d.mp4");
    let shape = shape("64x64@17f");
    ffmpeg
        .encode(frames(shape), Clip::new(shape, fps(8)), &out)
        .await
        .unwrap();
    assert!(out.exists());
}

#[tokio::test]
async fn frames_that_do_not_fill_the_shape_are_refused() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let short = frames(shape("64x64@16f"));
    let refused = ffmpeg
        .encode(
            short,
            Clip::new(shape("64x64@17f"), fps(8)),
            Path::new("/nowhere"),
        )
        .await;
    assert!(matches!(
        refused,
        Err(MediaError::FrameBytes {
            expected: 208_896,
            got: 196_608,
            ..
        })
    ));
}

#[tokio::test]
async fn odd_sides_are_refused() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let odd = shape("63x64@1f");
    let refused = ffmpeg
        .encode(frames(odd), Clip::new(odd, fps(8)), Path::new("/nowhere"))
        .await;
    assert!(matches!(refused, Err(MediaError::OddSide(_))));
}

#[tokio::test]
async fn what_ffmpeg_said_is_in_the_error() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let shape = shape("64x64@1f");
    let out = Path::new("/nowhere/at/all.mp4");
    let error = ffmpeg
        .encode(frames(shape), Clip::new(shape, fps(8)), out)
        .await
        .unwrap_err();
    assert!(matches!(error, MediaError::Failed { .. }));
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[tokio::test]
async fn a_program_that_claims_success_without_encoding_is_not_believed() {
    let liar = Ffmpeg::locate(Some(Path::new("/bin/true"))).unwrap();
    let shape = shape("64x64@1f");
    let refused = liar
        .encode(
            frames(shape),
            Clip::new(shape, fps(8)),
            Path::new("/nowhere"),
        )
        .await;
    assert!(matches!(
        refused,
        Err(MediaError::FrameCount {
            expected: 1,
            got: None
        })
    ));
}

#[test]
fn a_missing_program_is_named() {
    let error = Ffmpeg::locate(Some(Path::new("/nowhere/ffmpeg"))).unwrap_err();
    assert!(error.to_string().contains("/nowhere/ffmpeg"), "{error}");
}

/// Not a promise, only numbers to look at: `cargo test -p reel-media --test encode -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "prints a measurement"]
async fn the_time_of_a_small_encoding() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("video.mp4");
    let shape = shape("64x64@17f");
    let (mut at_once, mut ahead) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let input = frames(shape);
        let begin = Instant::now();
        ffmpeg
            .encode(input, Clip::new(shape, fps(8)), &out)
            .await
            .unwrap();
        at_once.push(begin.elapsed());
        let encoder = ffmpeg.prepare(Clip::new(shape, fps(8)), &out).unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let begin = Instant::now();
        encoder.encode(frames(shape)).await.unwrap();
        ahead.push(begin.elapsed());
    }
    for (name, mut times) in [("at once", at_once), ("prepared ahead", ahead)] {
        times.sort();
        println!(
            "{shape} {name}: median {:?} ({:?} to {:?})",
            times[7], times[0], times[14]
        );
    }
}
