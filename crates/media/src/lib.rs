//! Pixels in, pixels out: raw frames to a video file, and a client's image to a first frame.
//!
//! - [`Ffmpeg`] runs the ffmpeg program; a crash of a codec stays outside. The frames are its standard input,
//!   so they are never copied here.
//! - [`decode_image`] reads PNG, JPEG and WebP with decoders written in safe Rust, under strict limits.
#![forbid(unsafe_code)]

mod clip;
mod error;
mod ffmpeg;
mod image;
mod tail;

pub use crate::image::{
    IMAGE_ALLOCATION_BYTES_MAX, IMAGE_BYTES_MAX, IMAGE_PIXELS_MAX, IMAGE_SIDE_PIXELS_MAX,
    ImageError, decode_image,
};
pub use clip::Clip;
pub use error::MediaError;
pub use ffmpeg::{ENCODE_DEADLINE, Encoder, Ffmpeg};
