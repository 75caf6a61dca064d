//! Which answers are worth a further attempt, and when.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

/// Attempts in all.
pub(super) const ATTEMPTS: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(60);
/// A server that asks for more than this gets its request later all the same.
const ASKED_DELAY_MAX: Duration = Duration::from_secs(3600);

/// Tells whether the same request may succeed a moment later.
pub(super) fn is_worthwhile(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504 | 512..)
}

/// Returns how long to wait after an attempt, the first being 1: what the server asks for, else a doubling time. `jitter` is between 0
/// and 1.
pub(super) fn delay(headers: &HeaderMap, attempt: u32, now: Timestamp, jitter: f64) -> Duration {
    reset_time(headers, now).or_else(|| retry_after(headers)).map_or_else(|| doubling(attempt, jitter), |asked| asked.min(ASKED_DELAY_MAX))
}

fn reset_time(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get("ratelimit-resettime")?.to_str().ok()?;
    let reset = DateTimeParser::new().parse_timestamp(text).ok()?;
    // A time that has passed asks for no wait; the exponential one would still be needless.
    Some(Duration::try_from(reset.duration_since(now)).unwrap_or(Duration::ZERO))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Half of it is certain, so that many runners do not come back at once.
fn doubling(attempt: u32, jitter: f64) -> Duration {
    let full = FIRST_DELAY.saturating_mul(1 << (attempt.saturating_sub(1)).min(16)).min(DELAY_MAX);
    full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

/// Returns a number between 0 and 1.
pub(super) fn jitter() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let worthwhile: Vec<u16> = (200..600).filter(|status| is_worthwhile(StatusCode::from_u16(*status).expect("in range"))).collect();
        assert_eq!(worthwhile[..7], [408, 429, 500, 502, 503, 504, 512]);
    }

    #[test]
    fn waits() {
        let now: Timestamp = "2026-08-22T10:00:00Z".parse().expect("a time");
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
        };
        let wait = |pairs: &[(&'static str, &str)], attempt| delay(&headers(pairs), attempt, now, 1.0).as_millis();
        assert_eq!(wait(&[("ratelimit-resettime", "Sat, 22 Aug 2026 10:00:07 GMT"), ("retry-after", "3")], 1), 7000);
        assert_eq!(wait(&[("ratelimit-resettime", "Sat, 22 Aug 2026 09:00:00 GMT")], 1), 0);
        assert_eq!(wait(&[("retry-after", "3")], 1), 3000);
        assert_eq!(wait(&[("retry-after", "tomorrow")], 1), 100);
        assert_eq!(wait(&[("retry-after", "99999999")], 1), 3_600_000);
        assert_eq!(wait(&[], 4), 800);
        assert_eq!(wait(&[], 40), 60_000);
        assert_eq!(delay(&HeaderMap::new(), 1, now, 0.0).as_millis(), 50);
    }
}
