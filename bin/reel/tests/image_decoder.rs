//! The image decoder of the built program, with images as clients send them.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use flate2::Compression;
use flate2::write::DeflateEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use reel_domain::Shape;
use reel_media::{IMAGE_DECODER, ImageDecoder, ImageError, decode_image};
use std::io::{Cursor, Write};
use std::process::{Command, Stdio};

const SHAPE: &str = "96x64@17f";
const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
const MIB: u32 = 1024 * 1024;

fn shape() -> Shape {
    SHAPE.parse().unwrap()
}

async fn through_child(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    let decoder = ImageDecoder::new(env!("CARGO_BIN_EXE_reel").into());
    decoder.decode(bytes, shape()).await
}

/// What the child says, which must be what this process would have said.
async fn decoded(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    let answer = through_child(bytes).await;
    assert_eq!(answer, decode_image(bytes, shape()));
    answer
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]))
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut checked = name.to_vec();
    checked.extend(data);
    let mut bytes = (data.len() as u32).to_be_bytes().to_vec();
    bytes.extend(&checked);
    bytes.extend(crc32(&checked).to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A PNG, 8 bit RGB, with these chunks between its header and its end.
fn png(width: u32, height: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut header = width.to_be_bytes().to_vec();
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let header = chunk(b"IHDR", &header);
    let end = chunk(b"IEND", b"");
    [PNG_SIGNATURE, &header, &chunks.concat(), &end].concat()
}

/// So many zeros, in a thousandth of their size: the same block again and again.
fn bomb(mebibytes: u32) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; MIB as usize]).unwrap();
    encoder.flush().unwrap();
    let blocks = encoder.get_ref().repeat(mebibytes as usize);
    let zeros = u64::from(mebibytes) * u64::from(MIB);
    // Adler's checksum of zeros is how many there are.
    let checksum = ((zeros % 65_521) as u32) << 16 | 1;
    let end = [3, 0];
    [&[0x78, 1], &blocks[..], &end, &checksum.to_be_bytes()].concat()
}

/// An image whose EXIF data says that the camera was turned.
fn turned_jpeg() -> Vec<u8> {
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let jpeg = encoded(gradient(128, 96), ImageFormat::Jpeg);
    let size = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &size, exif, &jpeg[2..]].concat()
}

/// 8x8 pixels of red ink, as programs of the Adobe kind write it: four channels, 255 is no ink.
fn cmyk_jpeg() -> Vec<u8> {
    let segment = |marker: u8, data: &[u8]| {
        let size = (data.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &size[..], data].concat()
    };
    let mut quantisation = vec![0];
    quantisation.extend([8; 64]);
    // Two codes of two bits: a difference of 7 bits, and one of 8. One code of one bit: nothing but zeros follows.
    let differences = [&[0_u8, 0, 2], &[0; 14][..], &[7, 8]].concat();
    let zeros = [&[0x10_u8, 1], &[0; 15][..], &[0]].concat();
    let mut frame = vec![8, 0, 8, 0, 8, 4];
    let mut scan = vec![4];
    for channel in 1..=4 {
        frame.extend([channel, 0x11, 0]);
        scan.extend([channel, 0]);
    }
    scan.extend([0, 63, 0]);
    // The code, the difference, and the end of the block: 127 and -128 above the middle.
    let (none, full) = ("0011111110", "01011111110");
    let bits = [none, full, full, none].concat();
    [
        vec![0xff, 0xd8],
        segment(0xee, b"Adobe\0\x64\0\0\0\0\0"),
        segment(0xdb, &quantisation),
        segment(0xc0, &frame),
        segment(0xc4, &differences),
        segment(0xc4, &zeros),
        segment(0xda, &scan),
        packed(&bits),
        vec![0xff, 0xd9],
    ]
    .concat()
}

/// Bits as bytes, filled with ones; a byte of ones is followed by a zero.
fn packed(bits: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for byte in bits.as_bytes().chunks(8) {
        let text = format!("{:1<8}", std::str::from_utf8(byte).unwrap());
        let byte = u8::from_str_radix(&text, 2).unwrap();
        bytes.push(byte);
        if byte == 0xff {
            bytes.push(0);
        }
    }
    bytes
}

/// A WebP of two frames.
fn animated_webp() -> Vec<u8> {
    let still = encoded(gradient(16, 16), ImageFormat::WebP);
    let picture = &still[12..];
    let riff = |name: &[u8; 4], data: &[u8]| {
        let mut bytes = name.to_vec();
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes
    };
    let mut frame = vec![0, 0, 0, 0, 0, 0, 15, 0, 0, 15, 0, 0, 100, 0, 0, 0];
    frame.extend(picture);
    let animated = [
        b"WEBP".to_vec(),
        riff(b"VP8X", &[2, 0, 0, 0, 15, 0, 0, 15, 0, 0]),
        riff(b"ANIM", &[0; 6]),
        riff(b"ANMF", &frame),
        riff(b"ANMF", &frame),
    ];
    riff(b"RIFF", &animated.concat())
}

/// A PNG of two frames.
fn animated_png() -> Vec<u8> {
    let still = encoded(gradient(16, 16), ImageFormat::Png);
    let control = chunk(b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0]);
    [&still[..33], &control, &still[33..]].concat()
}

#[tokio::test]
async fn every_format_is_decoded_as_this_process_would() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let frame = decoded(&encoded(gradient(200, 120), format)).await;
        assert_eq!(frame.unwrap().len(), 96 * 64 * 3, "{format:?}");
    }
}

#[tokio::test]
async fn alpha_sixteen_bit_and_turned_images_are_decoded() {
    let alpha = RgbaImage::from_fn(96, 64, |x, y| Rgba([x as u8, y as u8, 9, (x + y) as u8]));
    let deep = DynamicImage::from(gradient(96, 64)).to_rgba16();
    for image in [
        encoded(alpha, ImageFormat::Png),
        encoded(deep, ImageFormat::Png),
        turned_jpeg(),
    ] {
        decoded(&image).await.unwrap();
    }
}

#[tokio::test]
async fn a_jpeg_in_printing_colours_is_decoded() {
    let frame = decoded(&cmyk_jpeg()).await.unwrap();
    let [red, green, blue] = frame[..3].try_into().unwrap();
    assert!(red > 240 && green < 16 && blue < 16, "{red} {green} {blue}");
}

#[tokio::test]
async fn an_animated_image_is_refused() {
    for image in [animated_png(), animated_webp()] {
        assert_eq!(decoded(&image).await, Err(ImageError::Animated));
    }
    let gif = decoded(b"GIF89a\x01\0\x01\0\0\0\0;").await;
    assert_eq!(gif, Err(ImageError::UnknownFormat));
}

#[tokio::test]
async fn a_truncated_image_is_refused() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let whole = encoded(gradient(64, 64), format);
        for length in [12, whole.len() / 4] {
            let refused = decoded(&whole[..length]).await;
            assert!(
                matches!(refused, Err(ImageError::Undecodable(_))),
                "{format:?} {length}: {refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_claims_to_be_huge_is_refused() {
    for (width, height) in [(65_535, 65_535), (20_000, 20_000), (16_384, 16_384)] {
        let pixels = chunk(b"IDAT", &bomb(64));
        let refused = decoded(&png(width, height, &[pixels])).await;
        assert!(
            matches!(
                refused,
                Err(ImageError::TooManyPixels { .. } | ImageError::Undecodable(_))
            ),
            "{width}x{height}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn what_is_packed_into_a_small_picture_costs_no_more_than_the_limits() {
    // More than decoding may take.
    let bomb = bomb(600);
    let pixels = chunk(b"IDAT", &bomb);
    decoded(&png(96, 64, std::slice::from_ref(&pixels)))
        .await
        .unwrap();
    let profile = chunk(b"iCCP", &[b"name\0\0", &bomb[..]].concat());
    let text = chunk(b"zTXt", &[b"name\0\0", &bomb[..]].concat());
    for extra in [profile, text] {
        let image = png(96, 64, &[extra, pixels.clone()]);
        through_child(&image).await.unwrap();
    }
}

#[tokio::test]
async fn too_large_a_file_is_refused_before_a_child_is_started() {
    let nobody = ImageDecoder::new("/nonexistent".into());
    let bytes = vec![0x89; reel_media::IMAGE_BYTES_MAX + 1];
    let refused = nobody.decode(bytes, shape()).await;
    assert!(matches!(refused, Err(ImageError::TooManyBytes { .. })));
}

#[test]
fn the_subcommand_is_hidden_and_wants_a_shape() {
    let reel = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_reel"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let help = String::from_utf8(reel(&["--help"]).stdout).unwrap();
    assert!(
        help.contains("serve") && !help.contains(IMAGE_DECODER),
        "{help}"
    );
    let refused = String::from_utf8(reel(&[IMAGE_DECODER, "1x"]).stderr).unwrap();
    assert!(refused.contains("1x"), "{refused}");
    let empty = reel(&[IMAGE_DECODER, SHAPE]);
    assert_eq!(
        (empty.status.code(), &empty.stderr[..]),
        (Some(3), &b"empty\n"[..])
    );
}
