//! Pixels in, pixels out: raw frames to a video file, stills and last frames of one, and a client's image to a first
//! frame.
//!
//! - [`Ffmpeg`] runs the ffmpeg program; a crash of a codec stays outside. The frames are its standard input,
//!   so they are never copied here. It reads only videos that it has made itself.
//! - [`decode_image`] reads PNG, JPEG and WebP with decoders written in safe Rust, under strict limits; the daemon
//!   lets a child without any rights do it, through [`ImageDecoder`].
#![forbid(unsafe_code)]

mod child;
mod clip;
mod continuation;
mod decoder;
mod error;
mod ffmpeg;
mod footage;
mod image;
mod refusal;
mod stills;
mod tail;

pub use crate::image::{
    IMAGE_ALLOCATION_BYTES_MAX, IMAGE_BYTES_MAX, IMAGE_DECODE_MEMORY_BYTES_MAX, IMAGE_PIXELS_MAX,
    IMAGE_SIDE_PIXELS_MAX, ImageError, decode_image,
};
pub use clip::Clip;
pub use continuation::{APPEND_DEADLINE, LAST_FRAMES_DEADLINE};
pub use decoder::{IMAGE_DECODE_DEADLINE, IMAGE_DECODER, ImageDecoder, serve_decoding};
pub use error::MediaError;
pub use ffmpeg::{ENCODE_DEADLINE, Encoder, Ffmpeg};
pub use stills::{
    SHEET_COLUMNS_MAX, SHEET_ROWS_MAX, STILL_DEADLINE, Sheet, THUMBNAIL_SIDE_MAX, TILE_HEIGHT_MAX,
    TILE_WIDTH,
};
