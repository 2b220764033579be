//! Stills of real videos, looked at with another decoder.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod footage;

use footage::{decoded, grey, shape, video};
use image::{DynamicImage, ImageFormat, RgbImage};
use reel_media::{
    Clip, Ffmpeg, MediaError, SHEET_COLUMNS_MAX, SHEET_ROWS_MAX, Sheet, THUMBNAIL_SIDE_MAX,
    TILE_HEIGHT_MAX, TILE_WIDTH,
};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

fn picture(path: &Path, format: ImageFormat) -> DynamicImage {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(image::guess_format(&bytes).unwrap(), format);
    image::load_from_memory(&bytes).unwrap()
}

/// The grey in the middle of a tile.
fn tile(picture: &RgbImage, sheet: Sheet, index: u32) -> u8 {
    let (column, row) = (index % sheet.columns, index / sheet.columns);
    let x = column * sheet.tile_width + sheet.tile_width / 2;
    let y = row * sheet.tile_height + sheet.tile_height / 2;
    picture.get_pixel(x, y).0[0]
}

#[track_caller]
fn assert_close(got: u8, expected: u8) {
    assert!(got.abs_diff(expected) <= 4, "{got} instead of {expected}");
}

#[tokio::test]
async fn a_thumbnail_is_the_frame_in_the_middle_in_the_size_of_the_video() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (key, rate, middle) in [
        ("64x48@1f", 24, 0),
        ("64x48@2f", 1, 0),
        ("66x50@17f", 30, 8),
        // Beyond the first keyframe.
        ("32x32@601f", 120, 300),
    ] {
        let video = video(&ffmpeg, directory.path(), key, rate).await;
        let out = directory.path().join("thumbnail");
        ffmpeg.thumbnail(&video, &out).await.unwrap();
        let picture = picture(&out, ImageFormat::WebP);
        assert!(!picture.color().has_alpha(), "{key}");
        let picture = picture.to_rgb8();
        let size = (shape(key).width(), shape(key).height());
        assert_eq!(picture.dimensions(), size, "{key}");
        assert_close(picture.get_pixel(16, 16).0[0], grey(middle));
    }
}

#[tokio::test]
async fn a_large_video_has_a_small_thumbnail_of_the_same_aspect() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (key, size) in [
        ("768x512@1f", (512, 341)),
        ("512x768@1f", (341, 512)),
        ("2048x2@1f", (512, 1)),
    ] {
        let video = video(&ffmpeg, directory.path(), key, 8).await;
        let out = directory.path().join("thumbnail");
        ffmpeg.thumbnail(&video, &out).await.unwrap();
        let picture = picture(&out, ImageFormat::WebP).to_rgb8();
        assert_eq!(picture.dimensions(), size, "{key}");
        assert!(picture.width().max(picture.height()) <= THUMBNAIL_SIDE_MAX);
    }
}

#[tokio::test]
async fn a_spritesheet_has_evenly_spaced_frames_and_no_empty_place() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (key, columns, rows) in [
        ("64x48@1f", 1, 1),
        ("64x48@3f", 3, 1),
        ("66x50@17f", 10, 1),
        ("64x48@25f", 10, 2),
        ("32x32@1201f", SHEET_COLUMNS_MAX, SHEET_ROWS_MAX),
    ] {
        let video = video(&ffmpeg, directory.path(), key, 24).await;
        let out = directory.path().join("sheet");
        let sheet = ffmpeg.spritesheet(&video, &out).await.unwrap();
        assert_eq!((sheet.columns, sheet.rows), (columns, rows), "{key}");
        assert_eq!(sheet.tile_width, TILE_WIDTH);
        let picture = picture(&out, ImageFormat::Jpeg).to_rgb8();
        let size = (columns * sheet.tile_width, rows * sheet.tile_height);
        assert_eq!(picture.dimensions(), size, "{key}");
        let (tiles, frames) = (columns * rows, shape(key).frames());
        for index in 0..tiles {
            // The first frame of each of as many equal parts as there are tiles.
            let frame = (index * frames).div_ceil(tiles);
            assert_close(tile(&picture, sheet, index), grey(frame));
        }
    }
}

#[tokio::test]
async fn tiles_of_odd_and_of_extreme_videos_stay_within_their_bounds() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (key, size) in [
        ("162x90@2f", (160, 89)),
        ("16x2048@2f", (3, TILE_HEIGHT_MAX)),
        ("2048x2@2f", (160, 1)),
    ] {
        let video = video(&ffmpeg, directory.path(), key, 8).await;
        let out = directory.path().join("sheet");
        let sheet = ffmpeg.spritesheet(&video, &out).await.unwrap();
        assert_eq!((sheet.tile_width, sheet.tile_height), size, "{key}");
        let picture = picture(&out, ImageFormat::Jpeg).to_rgb8();
        assert_eq!(picture.dimensions(), (2 * size.0, size.1), "{key}");
        assert_close(tile(&picture, sheet, 1), grey(1));
    }
}

#[tokio::test]
async fn stills_have_the_colours_of_the_video() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let [path, thumbnail, sheet] =
        ["video", "thumbnail", "sheet"].map(|name| directory.path().join(name));
    let shape = shape("160x96@1f");
    let mut frames = tempfile::tempfile().unwrap();
    let colour = [200, 40, 90];
    frames.write_all(&colour.repeat(160 * 96)).unwrap();
    let clip = Clip::new(shape, footage::fps(8));
    ffmpeg.encode(frames, clip, &path).await.unwrap();
    ffmpeg.thumbnail(&path, &thumbnail).await.unwrap();
    ffmpeg.spritesheet(&path, &sheet).await.unwrap();
    let thumbnail = picture(&thumbnail, ImageFormat::WebP).to_rgb8();
    let sheet = picture(&sheet, ImageFormat::Jpeg).to_rgb8();
    for picture in [thumbnail, sheet] {
        for (got, expected) in picture.get_pixel(50, 50).0.into_iter().zip(colour) {
            assert_close(got, expected);
        }
    }
}

#[tokio::test]
async fn what_is_no_video_has_no_still_and_the_error_says_why() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let [text, out] = ["text", "out"].map(|name| directory.path().join(name));
    std::fs::write(&text, "no video").unwrap();
    let error = ffmpeg.thumbnail(&text, &out).await.unwrap_err();
    assert!(error.to_string().contains("Invalid data"), "{error}");
    let missing = directory.path().join("nothing");
    let error = ffmpeg.spritesheet(&missing, &out).await.unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    assert!(!out.exists());
}

#[tokio::test]
async fn a_program_that_claims_success_is_not_believed() {
    let liar = Ffmpeg::locate(Some(Path::new("/bin/true"))).unwrap();
    let (video, out) = (Path::new("/nowhere/video"), Path::new("/nowhere/out"));
    let refused = liar.thumbnail(video, out).await;
    assert!(matches!(refused, Err(MediaError::NotDescribed(_))));
}

#[tokio::test]
async fn a_still_of_a_name_that_looks_like_an_option_or_a_protocol_is_a_file() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let made = video(&ffmpeg, directory.path(), "64x48@1f", 8).await;
    let odd = directory.path().join("-http:%03d.mp4");
    std::fs::rename(made, &odd).unwrap();
    let out = directory.path().join("concat:%d|x");
    ffmpeg.thumbnail(&odd, &out).await.unwrap();
    ffmpeg.spritesheet(&odd, &out).await.unwrap();
    assert!(out.exists());
    assert_eq!(decoded(&odd).len() as u64, shape("64x48@1f").video_bytes());
}

/// Not a promise, only numbers to look at: `cargo test -p reel-media --test stills -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "prints a measurement"]
async fn the_time_of_stills_and_continuations() {
    let ffmpeg = Ffmpeg::locate(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    for key in ["64x64@17f", "768x512@121f", "320x240@1201f"] {
        let video = video(&ffmpeg, directory.path(), key, 24).await;
        let mut times = Vec::new();
        let begin = Instant::now();
        ffmpeg.thumbnail(&video, &out).await.unwrap();
        times.push(("thumbnail", begin.elapsed()));
        let begin = Instant::now();
        ffmpeg.spritesheet(&video, &out).await.unwrap();
        times.push(("spritesheet", begin.elapsed()));
        let begin = Instant::now();
        let last = ffmpeg.last_frames(&video, 9, shape(key)).await;
        assert!(last.is_ok());
        times.push(("last 9 frames", begin.elapsed()));
        let begin = Instant::now();
        ffmpeg.append(&video, &video, &out).await.unwrap();
        times.push(("append", begin.elapsed()));
        println!("{key}: {times:?}");
    }
}
