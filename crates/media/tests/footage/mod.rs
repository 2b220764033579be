//! Videos whose frames can be told apart, and what ffprobe and ffmpeg say of them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test program uses some of it"
)]

use reel_domain::{Fps, Shape};
use reel_media::{Clip, Ffmpeg};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Frames after which the greys begin again.
const GREYS: u32 = 19;

pub(crate) fn shape(key: &str) -> Shape {
    key.parse().unwrap()
}

pub(crate) fn fps(value: u32) -> Fps {
    Fps::new(value).unwrap()
}

/// The grey of a frame: no codec takes it for its neighbour's.
pub(crate) fn grey(frame: u32) -> u8 {
    u8::try_from(20 + 12 * (frame % GREYS)).unwrap()
}

pub(crate) fn frames(shape: Shape) -> File {
    let mut file = tempfile::tempfile().unwrap();
    for frame in 0..shape.frames() {
        let bytes = vec![grey(frame); shape.frame_bytes() as usize];
        file.write_all(&bytes).unwrap();
    }
    file
}

/// A video that the encoder made.
pub(crate) async fn video(ffmpeg: &Ffmpeg, directory: &Path, key: &str, rate: u32) -> PathBuf {
    let shape = shape(key);
    let path = directory.join(format!("{key} {rate}.mp4"));
    let clip = Clip::new(shape, fps(rate));
    ffmpeg.encode(frames(shape), clip, &path).await.unwrap();
    path
}

pub(crate) fn probe(path: &Path, entries: &str) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0"])
        .args(["-show_entries", entries, "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// All frames as RGB, with another decoder run than those of the crate.
pub(crate) fn decoded(path: &Path) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24"])
        .args(["-sws_flags", "bicubic+accurate_rnd+full_chroma_int", "-"])
        .output()
        .unwrap();
    output.stdout
}

/// The grey in the middle of each frame.
pub(crate) fn greys(pixels: &[u8], shape: Shape) -> Vec<u8> {
    let frames = pixels.chunks(shape.frame_bytes() as usize);
    frames.map(|frame| frame[frame.len() / 2]).collect()
}

#[track_caller]
pub(crate) fn assert_greys(got: &[u8], expected: impl IntoIterator<Item = u32>) {
    let expected: Vec<u8> = expected.into_iter().map(grey).collect();
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!(got.abs_diff(expected) <= 4, "{got} instead of {expected}");
    }
}
