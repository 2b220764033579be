//! Pixels in, pixels out: raw frames to a video file, and a client's image to a first frame.
//!
//! - [`Ffmpeg`] runs the ffmpeg program; a crash of a codec stays outside. The frames are its standard input,
//!   so they are never copied here.
//! - [`decode_image`] reads PNG, JPEG and WebP with decoders written in safe Rust, under strict limits; the daemon
//!   lets a child without any rights do it, through [`ImageDecoder`].
#![forbid(unsafe_code)]

mod decoder;
mod ffmpeg;
mod image;
mod refusal;
mod tail;

pub use crate::image::{
    IMAGE_ALLOCATION_BYTES_MAX, IMAGE_BYTES_MAX, IMAGE_DECODE_MEMORY_BYTES_MAX, IMAGE_PIXELS_MAX,
    IMAGE_SIDE_PIXELS_MAX, ImageError, decode_image,
};
pub use decoder::{IMAGE_DECODE_DEADLINE, IMAGE_DECODER, ImageDecoder, serve_decoding};
pub use ffmpeg::{ENCODE_DEADLINE, Encoder, Ffmpeg, MediaError};
