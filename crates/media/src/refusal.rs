//! A refusal on its way from the child that decodes to the daemon: one line of text, `kind` or `kind details`.
//!
//! The daemon does not trust the child, which may be doing what an image tells it to: the line is short, and what
//! is not exactly a refusal is none.

use crate::image::ImageError;

/// Longest line.
pub(crate) const REFUSAL_BYTES_MAX: usize = 1024;

/// Longest explanation that reaches a client, in characters.
const EXPLANATION_CHARS_MAX: usize = 200;

/// The refusal as a line, without its end.
pub(crate) fn to_line(error: &ImageError) -> String {
    match error {
        ImageError::Empty => "empty".into(),
        ImageError::TooManyBytes { bytes } => format!("too-many-bytes {bytes}"),
        ImageError::UnknownFormat => "unknown-format".into(),
        ImageError::TooManyPixels { width, height } => format!("too-many-pixels {width} {height}"),
        ImageError::Animated => "animated".into(),
        ImageError::Undecodable(why) => format!("undecodable {}", plain(why)),
        ImageError::TooExpensive => "too-expensive".into(),
        ImageError::DecoderFailed => "failed".into(),
        ImageError::DecoderUnavailable { cause } => format!("unavailable {}", plain(cause)),
    }
}

/// The refusal that a line holds.
pub(crate) fn from_line(line: &str) -> Option<ImageError> {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let (kind, details) = line.split_once(' ').unwrap_or((line, ""));
    let error = match kind {
        "empty" => ImageError::Empty,
        "too-many-bytes" => ImageError::TooManyBytes {
            bytes: details.parse().ok()?,
        },
        "unknown-format" => ImageError::UnknownFormat,
        "too-many-pixels" => {
            let (width, height) = details.split_once(' ')?;
            ImageError::TooManyPixels {
                width: width.parse().ok()?,
                height: height.parse().ok()?,
            }
        }
        "animated" => ImageError::Animated,
        "undecodable" => ImageError::Undecodable(plain(details)),
        "too-expensive" => ImageError::TooExpensive,
        "failed" => ImageError::DecoderFailed,
        "unavailable" => ImageError::DecoderUnavailable {
            cause: plain(details),
        },
        _ => return None,
    };
    // A kind that has no details has none: what reads the same writes the same.
    (to_line(&error) == line).then_some(error)
}

/// Text of one line, printable, and not too long.
fn plain(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(EXPLANATION_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_the_way() {
        for error in [
            ImageError::Empty,
            ImageError::TooManyBytes { bytes: 7 },
            ImageError::UnknownFormat,
            ImageError::TooManyPixels {
                width: 1,
                height: u32::MAX,
            },
            ImageError::Animated,
            ImageError::Undecodable("Format error decoding Png: CRC".into()),
            ImageError::Undecodable(String::new()),
            ImageError::TooExpensive,
            ImageError::DecoderFailed,
            ImageError::DecoderUnavailable {
                cause: "seccomp".into(),
            },
        ] {
            let line = to_line(&error);
            assert_eq!(from_line(&format!("{line}\n")), Some(error), "{line}");
        }
    }

    #[test]
    fn an_explanation_is_one_short_printable_line() {
        let hostile = ImageError::Undecodable(format!("a\nb\x1b[31m{}", "é".repeat(5_000)));
        let line = to_line(&hostile);
        assert!(line.len() <= REFUSAL_BYTES_MAX);
        assert!(line.starts_with("undecodable a b [31mé"), "{line}");
        assert!(from_line(&line).is_some());
    }

    #[test]
    fn what_is_no_refusal_is_none() {
        for line in [
            "",
            "\n",
            "sorry",
            "empty ",
            "empty for you",
            "too-many-bytes",
            "too-many-bytes -1",
            "too-many-pixels 1",
            "too-many-pixels 1 2 3",
            "too-many-pixels 1 4294967296",
            "undecodable a\nb",
            "animated\nanimated",
        ] {
            assert_eq!(from_line(line), None, "{line:?}");
        }
    }
}
