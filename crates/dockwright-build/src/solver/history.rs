//! The texts of history entries, in the words of Docker's classic builder: images built by it and by us must agree for `--cache-from`.

use std::fmt::Write as _;

use crate::dockerfile::instruction::Healthcheck;

/// `/bin/sh -c #(nop)  ENV a=b`
pub(super) fn no_operation(shell: &[String], text: &str) -> String {
    format!("{} #(nop)  {text}", shell.join(" "))
}

/// `/bin/sh -c #(nop) COPY file:… in / `: one blank, for steps that change files.
pub(super) fn file_operation(shell: &[String], text: &str) -> String {
    format!("{} #(nop) {text}", shell.join(" "))
}

/// `|2 a=b c=d /bin/sh -c make`
pub(super) fn run(build_args: Option<&[String]>, argv: &[String]) -> String {
    match build_args {
        None => argv.join(" "),
        Some(args) => {
            let count = format!("|{}", args.len());
            let words: Vec<&str> =
                std::iter::once(count.as_str()).chain(args.iter().map(String::as_str)).chain(argv.iter().map(String::as_str)).collect();
            words.join(" ")
        }
    }
}

/// Go's `%q` of a list of strings: `["a" "b"]`.
pub(super) fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Go's `%q` of the health check, whose duration and number fields come out as text and character.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    let retries = u32::try_from(check.retries).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    format!(
        "&{{{} {} {} {} {}}}",
        quoted_list(&check.test),
        quote(&duration(check.interval)),
        quote(&duration(check.timeout)),
        quote(&duration(check.start_period)),
        quote_character(retries),
    )
}

fn quote_character(character: char) -> String {
    match character {
        '\'' => r"'\''".to_owned(),
        '"' => "'\"'".to_owned(),
        other => {
            let mut text = String::from("'");
            push_escaped(&mut text, other);
            text + "'"
        }
    }
}

/// Go's `strconv.Quote`.
fn quote(text: &str) -> String {
    let mut result = String::from("\"");
    for character in text.chars() {
        push_escaped(&mut result, character);
    }
    result + "\""
}

fn push_escaped(text: &mut String, character: char) {
    match character {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\u{7}' => text.push_str("\\a"),
        '\u{8}' => text.push_str("\\b"),
        '\u{c}' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\u{b}' => text.push_str("\\v"),
        control if (control as u32) < 0x20 || control as u32 == 0x7f => {
            let _ = write!(text, "\\x{:02x}", control as u32);
        }
        control if control.is_control() => {
            let _ = write!(text, "\\u{:04x}", control as u32);
        }
        other => text.push(other),
    }
}

/// Go's text of a duration: `5m0s`, `1.5s`, `100ms`.
fn duration(nanos: i64) -> String {
    const SECOND: i64 = 1_000_000_000;
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < SECOND {
        let (unit, name) = if nanos < 1_000 {
            (1, "ns")
        } else if nanos < 1_000_000 {
            (1_000, "µs")
        } else {
            (1_000_000, "ms")
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let (hours, minutes) = (nanos / (3600 * SECOND), nanos / (60 * SECOND) % 60);
    let seconds = decimal(nanos % (60 * SECOND), SECOND);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A number in some unit, with as many digits after the point as it needs.
fn decimal(nanos: i64, unit: i64) -> String {
    let fraction = nanos % unit;
    if fraction == 0 {
        return (nanos / unit).to_string();
    }
    let width = unit.to_string().len() - 1;
    format!("{}.{}", nanos / unit, format!("{fraction:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_writes_them() {
        let check = Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), "curl x".to_owned()],
            interval: 300_000_000_000,
            retries: 3,
            ..Healthcheck::default()
        };
        assert_eq!(healthcheck(&check), r#"&{["CMD-SHELL" "curl x"] "5m0s" "0s" "0s" '\x03'}"#);
        assert_eq!(quoted_list(&["a".to_owned(), "b \"c\"\n\u{1}é".to_owned()]), "[\"a\" \"b \\\"c\\\"\\n\\x01é\"]");
        let shell = ["/bin/sh".to_owned(), "-c".to_owned()];
        assert_eq!(no_operation(&shell, "ENV a=b"), "/bin/sh -c #(nop)  ENV a=b");
        assert_eq!(run(Some(&["a=b".to_owned()]), &shell), "|1 a=b /bin/sh -c");
    }

    #[test]
    fn durations() {
        for (nanos, text) in [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (100_000_000, "100ms"),
            (1_500_000, "1.5ms"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }
}
