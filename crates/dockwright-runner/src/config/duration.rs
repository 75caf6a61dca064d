//! Durations as Go writes them: `1h30m`, `15m0s`, `500ms`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// Nanoseconds of each unit, longest spelling first where one begins with another.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("h", 3600 * NANOS_PER_SECOND),
];

/// A duration of `config.toml`. Negative ones, which Go has, are read as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Reads `1h30m`. Returns `None` for anything that Go would refuse.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(positive) = text.strip_prefix('-') {
            return Self::parse(positive).filter(|_| !positive.starts_with(['-', '+'])).map(|_| Self::default());
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Some(Self::default());
        }
        let mut nanos: u128 = 0;
        while !rest.is_empty() {
            let (amount, after) = take_amount(rest)?;
            nanos = nanos.checked_add(amount)?;
            rest = after;
        }
        let is_empty = text.trim_start_matches('+').is_empty();
        let limit = u128::from(u64::try_from(i64::MAX).ok()?);
        (!is_empty && nanos <= limit).then(|| Self(duration(nanos)))
    }
}

fn duration(nanos: u128) -> Duration {
    let below_second = u32::try_from(nanos % NANOS_PER_SECOND).unwrap_or_default();
    Duration::new(u64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(u64::MAX), below_second)
}

/// Takes one number with its unit off the front; returns its nanoseconds and the rest.
fn take_amount(text: &str) -> Option<(u128, &str)> {
    let end = text.find(|next: char| !next.is_ascii_digit() && next != '.')?;
    let (number, rest) = text.split_at(end);
    let unit_end = rest.find(|next: char| next.is_ascii_digit() || next == '.').unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit_end);
    let (_, nanos_per_unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(*nanos_per_unit)?;
    let mut scale = *nanos_per_unit;
    for digit in fraction.bytes() {
        scale /= 10;
        nanos = nanos.checked_add(u128::from(digit - b'0') * scale)?;
    }
    Some((nanos, after))
}

/// As Go prints it: the fixtures of `config.toml` hold `15m0s`.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if seconds == 0 && nanos != 0 {
            return match nanos {
                0..1_000 => write!(f, "{nanos}ns"),
                1_000..1_000_000 => write!(f, "{}µs", decimal(u64::from(nanos / 1_000), nanos % 1_000, 3)),
                _ => write!(f, "{}ms", decimal(u64::from(nanos / 1_000_000), nanos % 1_000_000, 6)),
            };
        }
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if seconds >= 60 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(seconds % 60, nanos, 9))
    }
}

/// A number with a fraction of so many digits, without zeros at its end.
fn decimal(whole: u64, fraction: u32, digits: usize) -> String {
    let text = format!("{whole}.{fraction:0digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Go also takes a number, which counts nanoseconds.
impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = GoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"1h30m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<GoDuration, E> {
                GoDuration::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_i64<E: de::Error>(self, nanos: i64) -> Result<GoDuration, E> {
                Ok(GoDuration(Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", 0),
            ("15m0s", 900_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("500ms", 500),
            (".5s", 500),
            ("+2s", 2_000),
            ("-2s", 0),
            ("1000000us", 1_000),
        ];
        for (text, millis) in cases {
            assert_eq!(GoDuration::parse(text), Some(GoDuration(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "5", "s", "1d", "1 h", "--1s", "1.2.3s", ".s", "9999999h", "99999999999999999999999999999999999999999s"] {
            assert_eq!(GoDuration::parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for text in ["0s", "15m0s", "1h0m0s", "1h30m0s", "1.5s", "500ms", "1.5ms", "10µs", "1ns", "2m0.001s"] {
            assert_eq!(GoDuration::parse(text).map(|duration| duration.to_string()).as_deref(), Some(text));
        }
    }
}
