//! The `Range` header (RFC 9110, section 14): one range of bytes.

/// What a request wants of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// From `first` to `last`, both included.
    Part { first: u64, last: u64 },
    /// Bytes that it does not have.
    Nothing,
}

/// Reads a `Range` header against a file of `bytes` bytes. What is malformed, of another unit or of several ranges
/// counts as no range at all, as the standard allows.
pub(crate) fn wanted(header: &str, bytes: u64) -> Wanted {
    let Some((first, last)) = header
        .strip_prefix("bytes=")
        .filter(|ranges| !ranges.contains(','))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Wanted::Whole;
    };
    match (number(first), number(last)) {
        (Number::Absent, Number::Is(suffix)) => from_the_end(suffix, bytes),
        (Number::Is(first), Number::Absent) => between(first, u64::MAX, bytes),
        (Number::Is(first), Number::Is(last)) if first <= last => between(first, last, bytes),
        _ => Wanted::Whole,
    }
}

enum Number {
    Absent,
    Is(u64),
    Malformed,
}

fn number(text: &str) -> Number {
    match text {
        "" => Number::Absent,
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            // More digits than fit mean "beyond the end" all the same.
            Number::Is(text.parse().unwrap_or(u64::MAX))
        }
        _ => Number::Malformed,
    }
}

const fn from_the_end(suffix: u64, bytes: u64) -> Wanted {
    match (suffix, bytes) {
        (0, _) | (_, 0) => Wanted::Nothing,
        _ => Wanted::Part {
            first: bytes.saturating_sub(suffix),
            last: bytes - 1,
        },
    }
}

fn between(first: u64, last: u64, bytes: u64) -> Wanted {
    if first >= bytes {
        return Wanted::Nothing;
    }
    Wanted::Part {
        first,
        last: last.min(bytes - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn part(first: u64, last: u64) -> Wanted {
        Wanted::Part { first, last }
    }

    #[test]
    fn ranges_are_cut_to_the_file() {
        assert_eq!(wanted("bytes=0-0", 10), part(0, 0));
        assert_eq!(wanted("bytes=2-5", 10), part(2, 5));
        assert_eq!(wanted("bytes=5-", 10), part(5, 9));
        assert_eq!(wanted("bytes=5-99999999999999999999999", 10), part(5, 9));
        assert_eq!(wanted("bytes=-3", 10), part(7, 9));
        assert_eq!(wanted("bytes=-30", 10), part(0, 9));
    }

    #[test]
    fn ranges_beyond_the_end_want_nothing() {
        for header in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(wanted(header, 10), Wanted::Nothing, "{header}");
        }
        assert_eq!(wanted("bytes=-1", 0), Wanted::Nothing);
    }

    #[test]
    fn what_cannot_be_read_wants_everything() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=+1-2",
            "items=0-1",
            "bytes=0-1,3-4",
        ] {
            assert_eq!(wanted(header, 10), Wanted::Whole, "{header}");
        }
    }
}
