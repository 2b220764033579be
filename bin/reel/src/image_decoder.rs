//! `reel image-decoder`: decodes one image that a client sent, without any right. See [`reel_media::ImageDecoder`].

use reel_domain::Shape;
use reel_media::{IMAGE_DECODE_DEADLINE, IMAGE_DECODE_MEMORY_BYTES_MAX};
use std::process::ExitCode;

/// What to make of the image.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageDecoderArgs {
    /// The shape whose first frame the image becomes
    shape: Shape,
}

/// Must be called before a second thread is started.
pub(crate) fn run(args: &ImageDecoderArgs) -> ExitCode {
    reel_media::serve_decoding(args.shape, || {
        // Who has worked for as long as it may live would be killed; this ends it where there is no server left to do so.
        let cpu_seconds = IMAGE_DECODE_DEADLINE.as_secs();
        reel_process::give_up_rights(IMAGE_DECODE_MEMORY_BYTES_MAX, cpu_seconds).map(drop)
    })
}
