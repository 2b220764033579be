//! Points in time: milliseconds since the Unix epoch here, RFC 3339 in UTC in the file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use toml::value::Datetime;

/// The last moment that four digits of a year can say.
const LAST_MS: u64 = 253_402_300_799_000;

/// As the file has it, to the second.
pub(crate) fn to_datetime(at_ms: u64) -> Option<Datetime> {
    let at = UNIX_EPOCH + Duration::from_millis(at_ms.min(LAST_MS));
    humantime::format_rfc3339_seconds(at)
        .to_string()
        .parse()
        .ok()
}

/// Only what names a point in time: a date, a time and `Z`.
pub(crate) fn from_datetime(text: &Datetime) -> Result<u64, String> {
    let text = text.to_string();
    let refused = || format!("`{text}` is not a time in UTC, like 2030-01-31T12:00:00Z");
    let at: SystemTime = humantime::parse_rfc3339(&text).map_err(|_| refused())?;
    let since = at.duration_since(UNIX_EPOCH).map_err(|_| refused())?;
    u64::try_from(since.as_millis()).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_file_to_the_second() {
        let text = to_datetime(1_900_000_000_123).unwrap();
        assert_eq!(text.to_string(), "2030-03-17T17:46:40Z");
        assert_eq!(from_datetime(&text), Ok(1_900_000_000_000));
    }

    #[test]
    fn a_time_without_its_zone_is_refused_with_an_example() {
        for text in ["2030-01-31", "2030-01-31T12:00:00", "12:00:00"] {
            let error = from_datetime(&text.parse().unwrap()).unwrap_err();
            assert!(error.contains(text) && error.contains("Z"), "{error}");
        }
    }

    #[test]
    fn no_number_is_too_late_to_be_written() {
        assert_eq!(
            to_datetime(u64::MAX).unwrap().to_string(),
            "9999-12-31T23:59:59Z"
        );
    }
}
