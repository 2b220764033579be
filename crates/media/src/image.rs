//! A client's image as a first frame.

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageFormat, Limits, RgbImage};
use reel_domain::Shape;
use std::io::Cursor;

/// Largest image file.
pub const IMAGE_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Longest side of an image, in pixels.
pub const IMAGE_SIDE_PIXELS_MAX: u32 = 16_384;
/// Most pixels of an image.
pub const IMAGE_PIXELS_MAX: u64 = 50_000_000;
/// Most memory that decoding one image may take, besides the decoded pixels.
pub const IMAGE_ALLOCATION_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most memory of a process that decodes one image: the decoded pixels twice while they are turned upright (8 bytes
/// each where they have 16 bit a channel), what decoding takes besides, the file, the frame and the program.
pub const IMAGE_DECODE_MEMORY_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Why an image was refused. The message is what the client reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Nothing there.
    #[error("the image is empty")]
    Empty,
    /// The file is too large.
    #[error("the image has {bytes} bytes; at most {IMAGE_BYTES_MAX} are allowed")]
    TooManyBytes {
        /// Its size.
        bytes: usize,
    },
    /// It is something else.
    #[error("the image is not a PNG, JPEG or WebP file")]
    UnknownFormat,
    /// It would be too large in memory.
    #[error(
        "the image is {width}x{height} pixels; at most {IMAGE_SIDE_PIXELS_MAX} a side and \
         {IMAGE_PIXELS_MAX} in all are allowed"
    )]
    TooManyPixels {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// It moves.
    #[error("the image is animated; a first frame is a still image")]
    Animated,
    /// It is damaged, truncated, or of a kind that no decoder here knows.
    #[error("the image cannot be decoded: {0}")]
    Undecodable(String),
    /// Its decoder reached a limit of time or memory.
    #[error(
        "the image takes too much time or memory to decode; a smaller one, or one with 8 bit a channel, takes less"
    )]
    TooExpensive,
    /// Its decoder crashed, or did what it may not.
    #[error("the image makes its decoder fail; save it again as PNG or JPEG")]
    DecoderFailed,
    /// No decoder could be run, which is not the image's fault. The cause is for the operator.
    #[error("images cannot be decoded at the moment; try again later")]
    DecoderUnavailable {
        /// What went wrong.
        cause: String,
    },
}

/// Decodes a PNG, JPEG or WebP image into one frame of `shape`: RGB, 8 bit, `[height, width, 3]`.
///
/// It is turned upright, laid over black where it is transparent, scaled to cover the shape and cropped around
/// its centre. Blocks for as long as that takes.
///
/// # Errors
/// See [`ImageError`]; nothing is allocated for an image that is too large.
pub fn decode_image(bytes: &[u8], shape: Shape) -> Result<Vec<u8>, ImageError> {
    let mut decoder = open(bytes)?;
    let orientation = decoder.orientation().map_err(undecodable)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
    image.apply_orientation(orientation);
    let opaque = over_black(&image);
    // Scaling takes memory of its own.
    drop(image);
    Ok(fit(&opaque, shape).into_raw())
}

/// Cuts before it scales: the other way round, a line of pixels would become a picture of gigabytes.
fn fit(image: &RgbImage, shape: Shape) -> RgbImage {
    let [width, height] = centre_cut(image.dimensions(), shape);
    let (x, y) = ((image.width() - width) / 2, (image.height() - height) / 2);
    let cut = imageops::crop_imm(image, x, y, width, height);
    imageops::resize(&*cut, shape.width(), shape.height(), FilterType::Triangle)
}

/// The largest part of an image, in pixels, that has the aspect of the shape. Never empty.
fn centre_cut((width, height): (u32, u32), shape: Shape) -> [u32; 2] {
    let [wide, high] = [shape.width(), shape.height()].map(u64::from);
    let [from_width, from_height] = [width, height].map(u64::from);
    let fitting_width = (from_height * wide / high).clamp(1, from_width);
    let fitting_height = (from_width * high / wide).clamp(1, from_height);
    // Both were clamped to what they came from.
    [fitting_width, fitting_height].map(|side| u32::try_from(side).unwrap_or(u32::MAX))
}

/// A decoder that has read the header, and whose header is acceptable.
fn open(bytes: &[u8]) -> Result<Box<dyn ImageDecoder + '_>, ImageError> {
    check_size(bytes)?;
    let mut decoder = decoder(bytes)?;
    refuse_large(decoder.dimensions())?;
    decoder.set_limits(limits()).map_err(undecodable)?;
    Ok(decoder)
}

pub(crate) fn check_size(bytes: &[u8]) -> Result<(), ImageError> {
    match bytes.len() {
        0 => Err(ImageError::Empty),
        bytes if bytes > IMAGE_BYTES_MAX => Err(ImageError::TooManyBytes { bytes }),
        _ => Ok(()),
    }
}

fn decoder(bytes: &[u8]) -> Result<Box<dyn ImageDecoder + '_>, ImageError> {
    let input = Cursor::new(bytes);
    match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => png(input),
        Ok(ImageFormat::Jpeg) => Ok(Box::new(JpegDecoder::new(input).map_err(undecodable)?)),
        Ok(ImageFormat::WebP) => webp(input),
        _ => Err(ImageError::UnknownFormat),
    }
}

fn png(input: Cursor<&[u8]>) -> Result<Box<dyn ImageDecoder + '_>, ImageError> {
    let decoder = PngDecoder::with_limits(input, limits()).map_err(undecodable)?;
    match decoder.is_apng() {
        Ok(false) => Ok(Box::new(decoder)),
        Ok(true) => Err(ImageError::Animated),
        Err(error) => Err(undecodable(error)),
    }
}

fn webp(input: Cursor<&[u8]>) -> Result<Box<dyn ImageDecoder + '_>, ImageError> {
    let decoder = WebPDecoder::new(input).map_err(undecodable)?;
    match decoder.has_animation() {
        false => Ok(Box::new(decoder)),
        true => Err(ImageError::Animated),
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(IMAGE_SIDE_PIXELS_MAX);
    limits.max_image_height = Some(IMAGE_SIDE_PIXELS_MAX);
    limits.max_alloc = Some(IMAGE_ALLOCATION_BYTES_MAX);
    limits
}

fn refuse_large((width, height): (u32, u32)) -> Result<(), ImageError> {
    let pixels = u64::from(width) * u64::from(height);
    let longest = width.max(height);
    if pixels == 0 || longest > IMAGE_SIDE_PIXELS_MAX || pixels > IMAGE_PIXELS_MAX {
        return Err(ImageError::TooManyPixels { width, height });
    }
    Ok(())
}

fn over_black(image: &DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let source = image.to_rgba8();
    let blended = source.pixels().flat_map(|pixel| {
        let [red, green, blue, alpha] = pixel.0;
        [red, green, blue].map(|value| scaled(value, alpha))
    });
    let (width, height) = source.dimensions();
    RgbImage::from_vec(width, height, blended.collect()).unwrap_or_else(|| image.to_rgb8())
}

fn scaled(value: u8, alpha: u8) -> u8 {
    let product = u16::from(value) * u16::from(alpha);
    // Rounded to the nearest, and never above 255.
    u8::try_from((product + 127) / 255).unwrap_or(u8::MAX)
}

fn undecodable(error: image::ImageError) -> ImageError {
    // Some explanations end with a line break.
    ImageError::Undecodable(error.to_string().trim().to_owned())
}
