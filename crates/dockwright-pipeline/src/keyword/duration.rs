//! Durations in words: `1h 30m`, `2 days`, `90 minutes and 10 seconds`, `1:30:00`, `3600`.

use super::Reader;
use crate::{diagnostic::Diagnostic, yaml::Node};

const MONTH_SECS: u64 = 2_592_000;

/// Reads `timeout`: less than a month.
pub(super) fn read_timeout(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<u64> {
    let secs = read(reader, at, node)?;
    if secs >= MONTH_SECS {
        reader.report(
            Diagnostic::error("duration-limit", format!("{at} config should not exceed the limit"))
                .at(node.span)
                .help("the limit is a month"),
        );
    }
    Some(secs)
}

/// Reads a duration in seconds. GitLab takes texts only: `timeout: 30` is an error.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<u64> {
    let secs = node.as_text().and_then(parse);
    if secs.is_none() {
        let help = if node.as_text().is_some() {
            "write it like `1h 30m` or `90 minutes`"
        } else {
            "put it in quotes, with a unit: `\"30 minutes\"`"
        };
        reader.report(Diagnostic::error("duration", format!("{at} config should be a duration")).at(node.span).help(help));
    }
    secs
}

/// Returns the seconds of a duration; zero and unknown words are none.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.to_lowercase();
    let secs = if text.contains(':') { clock(text.trim())? } else { words(&text)? };
    (secs > 0).then_some(secs)
}

/// Reads `a:b:c` from the right: seconds, minutes, hours, days, months, years.
fn clock(text: &str) -> Option<u64> {
    const UNITS: [u64; 6] = [1, 60, 3600, 86_400, MONTH_SECS, 31_557_600];
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > UNITS.len() {
        return None;
    }
    let parts = parts.iter().rev().zip(UNITS);
    parts.map(|(part, unit)| part.trim().parse::<u64>().ok()?.checked_mul(unit)).try_fold(0_u64, |sum, part| sum.checked_add(part?))
}

fn words(text: &str) -> Option<u64> {
    let mut total = 0.0;
    let mut number = None;
    for token in tokens(text) {
        if matches!(token.as_str(), "and" | "with" | "plus") {
            continue;
        }
        match token.parse::<f64>() {
            Ok(_) if number.is_some() => return None,
            Ok(value) => number = Some(value),
            Err(_) => total += number.take().unwrap_or(1.0) * unit(&token)?,
        }
    }
    total += number.unwrap_or(0.0);
    // Beyond any limit that is checked later.
    (total < 1e12).then_some(total as u64)
}

/// Splits at blanks and commas, and between digits and letters.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let is_number = |next: char| next.is_ascii_digit() || next == '.';
    for word in text.split(|next: char| next.is_whitespace() || next == ',') {
        let mut current = String::new();
        for next in word.chars() {
            if current.chars().last().is_some_and(|last| is_number(last) != is_number(next)) {
                tokens.push(std::mem::take(&mut current));
            }
            current.push(next);
        }
        tokens.push(current);
    }
    tokens.retain(|token| !token.is_empty());
    tokens
}

fn unit(word: &str) -> Option<f64> {
    Some(match word {
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "dy" | "day" | "days" => 86_400.0,
        "w" | "wk" | "wks" | "week" | "weeks" => 604_800.0,
        "mo" | "mos" | "month" | "months" => 2_592_000.0,
        "y" | "yr" | "yrs" | "year" | "years" => 31_557_600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations() {
        let cases = [
            ("30 minutes", Some(1800)),
            ("1h 30m", Some(5400)),
            ("2h20min", Some(8400)),
            ("1 day and 2 hours", Some(93_600)),
            ("3600", Some(3600)),
            ("1:30:00", Some(5400)),
            ("1.5h", Some(5400)),
            ("week", Some(604_800)),
            ("2 mos", Some(5_184_000)),
            ("0", None),
            ("soon", None),
            ("5 5 minutes", None),
            ("", None),
            ("99999999999999999999:0", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
