//! The program that decodes images, by itself: what `reel image-decoder` does, for the tests of this crate.
//!
//! It keeps its rights: that `reel image-decoder` has none is tested where that program is.

use std::process::ExitCode;

fn main() -> ExitCode {
    let shape = std::env::args().nth(2).and_then(|key| key.parse().ok());
    match shape {
        Some(shape) => reel_media::serve_decoding(shape, || Ok::<_, std::io::Error>(())),
        None => ExitCode::FAILURE,
    }
}
