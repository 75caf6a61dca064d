//! `HEALTHCHECK`, and durations as Go writes them.

use super::{
    super::{
        ParseError,
        parser::{self, Node},
    },
    flags::{Flags, error},
};

/// A health check; durations in nanoseconds, 0 meaning "the default".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    pub test: Vec<String>,
    pub interval: i64,
    pub timeout: i64,
    pub start_period: i64,
    pub start_interval: i64,
    pub retries: i64,
}

const DURATIONS: [&str; 4] = ["interval", "timeout", "start-period", "start-interval"];

pub(super) fn read(node: &Node) -> Result<Healthcheck, ParseError> {
    let flags = Flags::read(node, &["interval", "timeout", "start-period", "start-interval", "retries"], &[])?;
    if node.text.is_empty() {
        return Err(
            error(node, "HEALTHCHECK requires at least one argument").help("write `HEALTHCHECK CMD <command>` or `HEALTHCHECK NONE`")
        );
    }
    let (kind, rest) = node.text.split_once(char::is_whitespace).unwrap_or((&node.text, ""));
    let rest = rest.trim();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if !rest.is_empty() => Err(error(node, "HEALTHCHECK NONE takes no arguments").about(rest)),
        "NONE" if !node.flags.is_empty() => Err(error(node, "HEALTHCHECK NONE takes no flags")),
        "NONE" => Ok(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }),
        "CMD" => {
            let [interval, timeout, start_period, start_interval] = read_durations(node, &flags)?;
            let retries = read_retries(node, &flags)?;
            Ok(Healthcheck { test: read_test(node, rest)?, interval, timeout, start_period, start_interval, retries })
        }
        _ => {
            let message = format!("unknown type {kind:?} in HEALTHCHECK (try CMD)");
            Err(error(node, message).about(kind).help("write `HEALTHCHECK CMD <command>` or `HEALTHCHECK NONE`"))
        }
    }
}

fn read_test(node: &Node, text: &str) -> Result<Vec<String>, ParseError> {
    if text.is_empty() {
        return Err(error(node, "missing command after HEALTHCHECK CMD"));
    }
    match parser::json_strings(text) {
        Some(Ok(words)) if words.is_empty() => Err(error(node, "missing command after HEALTHCHECK CMD")),
        Some(Ok(words)) => Ok(std::iter::once("CMD".to_owned()).chain(words).collect()),
        Some(Err(parser::NotStrings)) => {
            Err(error(node, "when using JSON array syntax, arrays must be comprised of strings only").about(text))
        }
        None => Ok(vec!["CMD-SHELL".to_owned(), text.to_owned()]),
    }
}

fn read_durations(node: &Node, flags: &Flags<'_>) -> Result<[i64; 4], ParseError> {
    const NANOS_PER_MILLI: i64 = 1_000_000;
    let mut values = [0; 4];
    for (value, name) in values.iter_mut().zip(DURATIONS) {
        let Some(text) = flags.text(name)? else { continue };
        let help = "a duration is a number with a unit, such as `30s` or `1m30s`";
        *value =
            parse_duration(text).ok_or_else(|| error(node, format!("invalid duration {text:?} in --{name}")).about(text).help(help))?;
        if *value < 0 || (*value > 0 && *value < NANOS_PER_MILLI) {
            return Err(error(node, format!("interval {name:?} cannot be less than 1ms")).about(text));
        }
    }
    Ok(values)
}

fn read_retries(node: &Node, flags: &Flags<'_>) -> Result<i64, ParseError> {
    let Some(text) = flags.text("retries")?.filter(|text| !text.is_empty()) else { return Ok(0) };
    match text.parse::<i32>() {
        Ok(retries) if retries >= 0 => Ok(retries.into()),
        Ok(_) => Err(error(node, format!("--retries cannot be negative ({text})")).about(text)),
        Err(_) => Err(error(node, format!("--retries must be a number, not {text:?}")).about(text)),
    }
}

/// Reads a Go duration (`1h2m3.5s`) in nanoseconds.
fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_f64;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..number_end].parse().ok()?;
        rest = &rest[number_end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number * nanos_of(&rest[..unit_end])?;
        rest = &rest[unit_end..];
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked on the line before")]
    let nanos = (total < 9.2e18).then_some(total as i64)?;
    Some(if negative { -nanos } else { nanos })
}

fn nanos_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h2m3.5s"), Some(3_723_500_000_000));
        assert_eq!(parse_duration("100ms"), Some(100_000_000));
        assert_eq!(parse_duration("0"), Some(0));
        assert_eq!(parse_duration("-1s"), Some(-1_000_000_000));
        for bad in ["", "-", "1", "s", "1x", "1.2.3s", "9999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
