//! Real videos that go on, looked at with ffprobe and another decoder.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod footage;

use footage::{assert_greys, decoded, greys, probe, shape, video};
use reel_media::{Ffmpeg, MediaError};
use std::fs;
use std::path::{Path, PathBuf};

#[tokio::test]
async fn the_last_frames_are_those_and_no_others() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (key, rate, counts) in [
        ("64x48@17f", 8, &[1, 2, 5, 16, 17][..]),
        ("66x50@1f", 1, &[1]),
        ("64x48@33f", 30, &[9, 33]),
        // Beyond the first keyframe, and across one.
        ("32x32@260f", 24, &[1, 9, 12, 250]),
        ("32x32@501f", 120, &[1, 2, 300]),
    ] {
        let path = video(&ffmpeg, directory.path(), key, rate).await;
        let (shape, frames) = (shape(key), shape(key).frames());
        let all = decoded(&path);
        for &count in counts {
            let last = ffmpeg.last_frames(&path, count, shape).await.unwrap();
            let bytes = shape.frame_bytes() as usize * count as usize;
            assert_eq!(last.len(), bytes, "{count} of {key}");
            assert!(last == all[all.len() - bytes..], "{count} of {key}");
            assert_greys(&greys(&last, shape), frames - count..frames);
        }
    }
}

#[tokio::test]
async fn no_frames_are_no_bytes() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = video(&ffmpeg, directory.path(), "64x48@3f", 8).await;
    let none = ffmpeg.last_frames(&path, 0, shape("64x48@3f")).await;
    assert_eq!(none.unwrap(), Vec::<u8>::new());
}

#[tokio::test]
async fn more_last_frames_than_there_are_is_an_error_that_names_both() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = video(&ffmpeg, directory.path(), "64x48@5f", 8).await;
    let refused = ffmpeg.last_frames(&path, 9, shape("64x48@17f")).await;
    let error = refused.unwrap_err().to_string();
    assert_eq!(error, "the video has 5 frames, 9 were asked for");
}

#[tokio::test]
async fn frames_of_another_size_are_refused_though_they_have_as_many_bytes() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = video(&ffmpeg, directory.path(), "64x48@5f", 8).await;
    let refused = ffmpeg.last_frames(&path, 1, shape("48x64@5f")).await;
    let error = refused.unwrap_err().to_string();
    let expected = "the video is 64x48, its frames were asked for as 48x64";
    assert_eq!(error, expected);
}

/// The times of the packets in the order in which they are stored, in ticks.
fn times(path: &Path, entry: &str) -> Vec<i64> {
    let text = probe(path, &format!("packet={entry}"));
    let lines = text.lines().map(|line| line.trim_matches(','));
    lines.map(|line| line.parse().unwrap()).collect()
}

/// Each time is later than the one before by the same step.
#[track_caller]
fn assert_even(times: &[i64]) {
    let steps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        steps.iter().all(|&step| step == steps[0] && step > 0),
        "{times:?}"
    );
}

#[track_caller]
fn assert_plays(path: &Path, frames: u32, rate: u32) {
    let stream = probe(
        path,
        "stream=r_frame_rate,avg_frame_rate,start_pts,nb_read_frames",
    );
    assert_eq!(stream, format!("{rate}/1,{rate}/1,0,{frames}"));
    let duration: f64 = probe(path, "stream=duration").parse().unwrap();
    let expected = f64::from(frames) / f64::from(rate);
    assert!(
        (duration - expected).abs() < 1e-5,
        "{duration} is not {expected}"
    );
    let (decoding, mut showing) = (times(path, "dts"), times(path, "pts"));
    assert_even(&decoding);
    assert!(decoding.iter().zip(&showing).all(|(dts, pts)| dts <= pts));
    showing.sort_unstable();
    assert_eq!(showing[0], 0);
    assert_even(&showing);
}

fn in_order(parts: &[&Path]) -> Vec<u8> {
    parts.iter().flat_map(|part| decoded(part)).collect()
}

#[tokio::test]
async fn two_videos_become_one_that_plays_every_frame_of_both_at_its_time() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("both.mp4");
    for (first, second, rate) in [
        (17, 33, 24),
        (1, 17, 30),
        (2, 17, 30),
        (17, 1, 24),
        (1, 1, 1),
        (2, 3, 7),
        (260, 40, 120),
    ] {
        let [first_path, second_path] = [first, second].map(|frames| format!("64x48@{frames}f"));
        let first_path = video(&ffmpeg, directory.path(), &first_path, rate).await;
        let second_path = video(&ffmpeg, directory.path(), &second_path, rate).await;
        let frames = ffmpeg
            .append(&first_path, &second_path, &out)
            .await
            .unwrap();
        assert_eq!(frames, first + second);
        assert_plays(&out, frames, rate);
        let all = decoded(&out);
        assert!(all == in_order(&[&first_path, &second_path]));
        let all = greys(&all, shape("64x48@1f"));
        assert_greys(&all, (0..first).chain(0..second));
    }
}

#[tokio::test]
async fn a_video_can_go_on_again_and_again() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let part = video(&ffmpeg, directory.path(), "64x48@13f", 24).await;
    let mut whole = part.clone();
    for times in 2..=6 {
        let next = directory.path().join(format!("{times}.mp4"));
        let frames = ffmpeg.append(&whole, &part, &next).await.unwrap();
        assert_eq!(frames, times * 13);
        assert_plays(&next, frames, 24);
        assert!(decoded(&next) == in_order(&[&whole, &part]));
        whole = next;
    }
    let last = ffmpeg
        .last_frames(&whole, 15, shape("64x48@15f"))
        .await
        .unwrap();
    assert_greys(
        &greys(&last, shape("64x48@1f")),
        [11, 12].into_iter().chain(0..13),
    );
}

#[tokio::test]
async fn a_long_video_goes_on_with_a_short_one_though_they_were_encoded_by_many_threads_and_one() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("both.mp4");
    let long = video(&ffmpeg, directory.path(), "320x240@80f", 24).await;
    let short = video(&ffmpeg, directory.path(), "320x240@5f", 24).await;
    for (first, second) in [(&long, &short), (&short, &long)] {
        assert_eq!(ffmpeg.append(first, second, &out).await.unwrap(), 85);
        assert_plays(&out, 85, 24);
        assert!(decoded(&out) == in_order(&[first, second]));
    }
}

#[tokio::test]
async fn the_index_of_the_whole_lies_before_the_data() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let part = video(&ffmpeg, directory.path(), "64x48@5f", 8).await;
    let out = directory.path().join("both.mp4");
    ffmpeg.append(&part, &part, &out).await.unwrap();
    let bytes = fs::read(&out).unwrap();
    let position = |name: &[u8]| bytes.windows(4).position(|window| window == name).unwrap();
    assert!(position(b"moov") < position(b"mdat"));
}

#[tokio::test]
async fn videos_of_another_size_or_rate_are_not_joined() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let part = video(&ffmpeg, directory.path(), "64x48@5f", 24).await;
    let out = directory.path().join("both.mp4");
    for (key, rate) in [("48x64@5f", 24), ("64x48@5f", 30)] {
        let other = video(&ffmpeg, directory.path(), key, rate).await;
        let refused = ffmpeg.append(&part, &other, &out).await;
        assert!(matches!(refused, Err(MediaError::Unlike { .. })), "{key}");
    }
    assert!(!out.exists());
}

#[tokio::test]
async fn names_of_parts_may_hold_anything_but_a_line_break() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let made = video(&ffmpeg, directory.path(), "64x48@5f", 8).await;
    let named = |name: &str| -> PathBuf {
        let path = directory.path().join(name);
        fs::copy(&made, &path).unwrap();
        path
    };
    let odd = named(r"it's a 'name' \ # %d;é file:x.mp4");
    let plain = named("plain.mp4");
    let out = directory.path().join("both 'of' %d them.mp4");
    for (first, second) in [(&odd, &plain), (&plain, &odd)] {
        assert_eq!(ffmpeg.append(first, second, &out).await.unwrap(), 10);
    }
    let broken = named("two\nlines.mp4");
    let refused = ffmpeg.append(&plain, &broken, &out).await;
    assert!(matches!(refused, Err(MediaError::LineBreak(path)) if path == broken));
}
