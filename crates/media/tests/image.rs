//! Images as clients send them: good, odd, broken, hostile.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use image::{DynamicImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use reel_domain::Shape;
use reel_media::{IMAGE_BYTES_MAX, ImageError, decode_image};
use std::io::Cursor;

const RED: [u8; 3] = [200, 0, 0];
const BLUE: [u8; 3] = [0, 0, 200];

fn shape(key: &str) -> Shape {
    key.parse().unwrap()
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Left half red, right half blue.
fn halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| {
        Rgb(if x < width / 2 { RED } else { BLUE })
    })
}

fn pixel(frame: &[u8], width: usize, x: usize, y: usize) -> [u8; 3] {
    frame[(y * width + x) * 3..][..3].try_into().unwrap()
}

#[track_caller]
fn assert_near(got: [u8; 3], expected: [u8; 3]) {
    let near = got
        .iter()
        .zip(expected)
        .all(|(got, expected)| got.abs_diff(expected) < 12);
    assert!(near, "{got:?} instead of {expected:?}");
}

/// A PNG that claims a size and has no pixels.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    chunk(b"\x89PNG\r\n\x1a\n".to_vec(), &header)
}

fn chunk(mut png: Vec<u8>, name_and_data: &[u8]) -> Vec<u8> {
    png.extend((name_and_data.len() as u32 - 4).to_be_bytes());
    png.extend(name_and_data);
    png.extend(crc32(name_and_data).to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn png_jpeg_and_webp_become_one_frame_of_the_shape() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let frame = decode_image(&encoded(halves(128, 128), format), shape("64x64@17f")).unwrap();
        assert_eq!(frame.len(), 64 * 64 * 3, "{format:?}");
        assert_near(pixel(&frame, 64, 5, 32), RED);
        assert_near(pixel(&frame, 64, 58, 32), BLUE);
    }
}

#[test]
fn an_image_of_the_right_size_keeps_every_pixel() {
    let image = RgbImage::from_fn(96, 64, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
    let frame = decode_image(
        &encoded(image.clone(), ImageFormat::Png),
        shape("96x64@17f"),
    );
    assert_eq!(frame.unwrap(), image.into_raw());
}

#[test]
fn an_image_of_another_aspect_is_cut_around_its_centre() {
    let mut wide = RgbImage::from_pixel(256, 64, Rgb(BLUE));
    for x in 96..160 {
        for y in 0..64 {
            wide.put_pixel(x, y, Rgb(RED));
        }
    }
    let frame = decode_image(&encoded(wide, ImageFormat::Png), shape("64x64@17f")).unwrap();
    assert_eq!(pixel(&frame, 64, 0, 0), RED);
    assert_eq!(pixel(&frame, 64, 63, 63), RED);
}

#[test]
fn a_line_of_pixels_costs_no_more_than_the_frame() {
    for (width, height) in [(16_384, 1), (1, 16_384)] {
        let line = RgbImage::from_pixel(width, height, Rgb(BLUE));
        let frame = decode_image(&encoded(line, ImageFormat::Png), shape("1280x720@17f")).unwrap();
        assert_eq!(frame, BLUE.repeat(1280 * 720));
    }
}

#[test]
fn what_is_transparent_is_black() {
    let image = RgbaImage::from_fn(64, 64, |x, _| {
        Rgba([200, 100, 50, if x < 32 { 0 } else { 128 }])
    });
    let frame = decode_image(&encoded(image, ImageFormat::Png), shape("64x64@17f")).unwrap();
    assert_eq!(pixel(&frame, 64, 0, 0), [0, 0, 0]);
    assert_eq!(pixel(&frame, 64, 63, 0), [100, 50, 25]);
}

#[test]
fn grey_and_sixteen_bit_images_are_read() {
    let grey = image::ImageBuffer::from_pixel(64, 64, Luma([0x8080_u16]));
    let frame = decode_image(&encoded(grey, ImageFormat::Png), shape("64x64@17f")).unwrap();
    assert_eq!(pixel(&frame, 64, 0, 0), [0x80; 3]);
}

#[test]
fn a_photo_is_turned_upright() {
    // EXIF orientation 6: the camera was turned, so the picture has to be turned clockwise.
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let jpeg = encoded(halves(128, 128), ImageFormat::Jpeg);
    let mut turned = jpeg[..2].to_vec();
    turned.extend([0xff, 0xe1]);
    turned.extend((exif.len() as u16 + 2).to_be_bytes());
    turned.extend(exif);
    turned.extend(&jpeg[2..]);
    let frame = decode_image(&turned, shape("64x64@17f")).unwrap();
    assert_near(pixel(&frame, 64, 32, 5), RED);
    assert_near(pixel(&frame, 64, 32, 58), BLUE);
}

#[test]
fn what_is_no_image_is_refused() {
    let refused = |bytes: &[u8]| decode_image(bytes, shape("64x64@17f")).unwrap_err();
    assert_eq!(refused(b""), ImageError::Empty);
    for bytes in [
        &b"hello"[..],
        b"<svg/>",
        b"GIF89a\x01\0\x01\0",
        b"BM",
        b"MZ",
    ] {
        assert_eq!(refused(bytes), ImageError::UnknownFormat, "{bytes:?}");
    }
}

#[test]
fn a_truncated_image_is_refused() {
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Jpeg] {
        let whole = encoded(halves(64, 64), format);
        for length in [12, whole.len() / 4] {
            let refused = decode_image(&whole[..length], shape("64x64@17f"));
            assert!(
                matches!(refused, Err(ImageError::Undecodable(_))),
                "{format:?} {length}"
            );
        }
    }
}

#[test]
fn no_prefix_and_no_flipped_byte_makes_it_panic() {
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Jpeg] {
        let whole = encoded(halves(16, 16), format);
        for index in 0..whole.len() {
            let _ = decode_image(&whole[..index], shape("64x64@17f"));
            let mut flipped = whole.clone();
            flipped[index] ^= 0xff;
            let _ = decode_image(&flipped, shape("64x64@17f"));
        }
    }
}

#[test]
fn a_billion_pixels_are_refused_before_anything_is_allocated() {
    for (width, height) in [
        (65_535, 65_535),
        (16_384, 16_384),
        (1, 20_000),
        (u32::MAX >> 1, 1),
    ] {
        let refused = decode_image(&png_header(width, height), shape("64x64@17f"));
        let error = refused.unwrap_err();
        assert!(
            matches!(
                error,
                ImageError::TooManyPixels { .. } | ImageError::Undecodable(_)
            ),
            "{width}x{height}: {error}"
        );
    }
}

#[test]
fn an_animated_image_is_refused() {
    let png = encoded(halves(16, 16), ImageFormat::Png);
    let mut animated = png[..33].to_vec();
    animated = chunk(animated, b"acTL\0\0\0\x02\0\0\0\0");
    animated.extend(&png[33..]);
    let refused = decode_image(&animated, shape("64x64@17f"));
    assert_eq!(refused, Err(ImageError::Animated));
}

#[test]
fn too_many_bytes_are_refused_unread() {
    let bytes = vec![0x89; IMAGE_BYTES_MAX + 1];
    let refused = decode_image(&bytes, shape("64x64@17f"));
    assert!(matches!(refused, Err(ImageError::TooManyBytes { .. })));
}
