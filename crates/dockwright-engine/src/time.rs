//! Times as Docker writes and reads them.

use jiff::Timestamp;

use crate::error::{EngineError, Result};

/// What Docker shows for a time that has not come.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// Renders a time with nanoseconds (Go's `RFC3339Nano` with all digits).
pub fn nanoseconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// Renders a time in whole seconds.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Renders a time, or [`NEVER`].
pub fn or_never(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_owned(), nanoseconds)
}

/// Reads a time as clients send it: seconds since 1970 with an optional fraction, RFC 3339, or a span before now (`10m`).
pub fn parse(text: &str) -> Result<Timestamp> {
    let invalid = || EngineError::invalid(format!("invalid value for time: {text:?}"));
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let number = text.strip_prefix('-').unwrap_or(text);
    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let nanoseconds: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        let seconds = whole.parse().map_err(|_| invalid())?;
        return Timestamp::new(seconds, nanoseconds.parse().map_err(|_| invalid())?).map_err(|_| invalid());
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| invalid())?;
    Timestamp::now().checked_sub(span).map_err(|_| invalid())
}

/// Renders how long ago something was, in Docker's coarse words ("About a minute", "3 hours").
pub fn human_duration(seconds: i64) -> String {
    let plural = |count: i64, unit: &str| format!("{count} {unit}");
    let (minutes, hours, days) = (seconds / 60, (seconds + 1800) / 3600, seconds / 86_400);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => plural(seconds, "seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => plural(minutes, "minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => plural(hours, "hours"),
        _ if days < 14 => plural(days, "days"),
        _ if days < 60 => plural(days / 7, "weeks"),
        _ if days < 730 => plural(days / 30, "months"),
        _ => plural(days / 365, "years"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_forms() {
        let at = Timestamp::new(1_700_000_000, 500_000_000).unwrap();
        assert_eq!(parse("1700000000.5").unwrap(), at);
        assert_eq!(parse(&nanoseconds(at)).unwrap(), at);
        assert!(parse("10m").unwrap() < Timestamp::now());
        assert!(parse("yesterday").is_err());
        assert_eq!(nanoseconds(at), "2023-11-14T22:13:20.500000000Z");
    }

    #[test]
    fn durations_are_coarse() {
        assert_eq!(human_duration(0), "Less than a second");
        assert_eq!(human_duration(59), "59 seconds");
        assert_eq!(human_duration(61), "About a minute");
        assert_eq!(human_duration(7200), "2 hours");
    }
}
