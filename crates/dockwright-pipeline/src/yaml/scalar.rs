//! Types of plain scalars, as Ruby's Psych tells them apart (YAML 1.1 with quirks).

use std::sync::LazyLock;

use regex::Regex;

/// What a plain scalar is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// A date or a time, which GitLab refuses to load.
    Date,
}

macro_rules! pattern {
    ($name:ident, $regex:literal) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($regex).expect("the pattern is constant"));
    };
}

// The order and the patterns are those of `Psych::ScalarScanner#tokenize`.
pattern!(WORD, r"^[^\d.:\-]?[[:alpha:]_\s!@#$%\^&*(){}<>|/\\~;=]+");
pattern!(TIME, r"^-?\d{4}-\d{1,2}-\d{1,2}(?:[Tt]|\s+)\d{1,2}:\d\d:\d\d(?:\.\d*)?(?:\s*(?:Z|[-+]\d{1,2}:?(?:\d\d)?))?$");
pattern!(DATE, r"^\d{4}-(?:1[012]|0\d|\d)-(?:[12]\d|3[01]|0\d|\d)$");
pattern!(SEXAGESIMAL, r"^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9]){1,2}$");
pattern!(SEXAGESIMAL_FLOAT, r"^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9]){1,2}\.[0-9_]*$");
pattern!(FLOAT, r"^[-+]?(?:[0-9][0-9_,]*)?\.[0-9]*(?:[eE][+-][0-9]+)?$");
pattern!(INTEGER, r"^[-+]?(?:0b[0-1_,]+|0[0-7_,]+|0|[1-9](?:[0-9]|,[0-9]|_[0-9])*|0x[0-9a-fA-F_,]+)$");

/// Types a plain scalar.
pub(crate) fn plain(text: &str) -> Scalar {
    if text.is_empty() {
        return Scalar::Null;
    }
    if WORD.is_match(text) || text.contains('\n') {
        return word(text);
    }
    if TIME.is_match(text) || DATE.is_match(text) {
        return Scalar::Date;
    }
    match text.to_ascii_lowercase().as_str() {
        ".inf" | "+.inf" => return Scalar::Float(f64::INFINITY),
        "-.inf" => return Scalar::Float(f64::NEG_INFINITY),
        ".nan" => return Scalar::Float(f64::NAN),
        _ => {}
    }
    if let Some(symbol) = text.strip_prefix(':').filter(|symbol| !symbol.is_empty()) {
        return Scalar::Text(symbol.to_owned());
    }
    number(text).unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

fn word(text: &str) -> Scalar {
    match text.to_lowercase().as_str() {
        "~" | "null" => Scalar::Null,
        "yes" | "true" | "on" => Scalar::Bool(true),
        "no" | "false" | "off" => Scalar::Bool(false),
        _ => Scalar::Text(text.to_owned()),
    }
}

fn number(text: &str) -> Option<Scalar> {
    // A value of two parts counts as hours and minutes, whatever its author had in mind.
    let places = [3600_i32, 60, 1];
    if SEXAGESIMAL.is_match(text) {
        let parts = text.split(':').map(|part| part.replace('_', "").parse::<i64>().ok()).zip(places);
        return parts
            .map(|(part, place)| part?.checked_mul(i64::from(place)))
            .try_fold(0_i64, |sum, part| sum.checked_add(part?))
            .map(Scalar::Integer);
    }
    if SEXAGESIMAL_FLOAT.is_match(text) {
        let parts = text.split(':').map(|part| part.replace('_', "").parse::<f64>().ok()).zip(places);
        return parts.map(|(part, place)| Some(part? * f64::from(place))).sum::<Option<f64>>().map(Scalar::Float);
    }
    let digits: String = text.chars().filter(|digit| !matches!(digit, ',' | '_')).collect();
    if FLOAT.is_match(text) {
        return digits.parse().ok().map(Scalar::Float);
    }
    if INTEGER.is_match(text) {
        return integer(&digits).map(Scalar::Integer);
    }
    None
}

fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes()[0] {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let (radix, digits) = if let Some(digits) = digits.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = digits.strip_prefix("0b") {
        (2, digits)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::{
        Scalar::{Bool, Date, Float, Integer, Null},
        *,
    };

    #[test]
    fn plain_scalars_are_typed_as_ruby_types_them() {
        let cases = [
            ("", Null),
            ("~", Null),
            ("NULL", Null),
            ("yes", Bool(true)),
            ("On", Bool(true)),
            ("OFF", Bool(false)),
            ("false", Bool(false)),
            ("010", Integer(8)),
            ("012345", Integer(5349)),
            ("0777", Integer(511)),
            ("0x1F", Integer(31)),
            ("0b101", Integer(5)),
            ("1_000", Integer(1000)),
            ("1,000", Integer(1000)),
            ("1,2,3", Integer(123)),
            ("-12", Integer(-12)),
            ("12:30", Integer(45000)),
            ("1:02:03", Integer(3723)),
            ("10:30", Integer(37800)),
            ("12:30.5", Float(45030.0)),
            ("1.5", Float(1.5)),
            ("1.", Float(1.0)),
            (".5", Float(0.5)),
            ("1.0e+3", Float(1000.0)),
            ("1.5E-3", Float(0.0015)),
            ("1_000.5", Float(1000.5)),
            (".inf", Float(f64::INFINITY)),
            ("2024-01-31", Date),
            ("2024-01-31 10:00:00", Date),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text), expected, "{text}");
        }
        for text in ["y", "N", "019", "08", "0X1f", "0o17", "60:60", "1e3", "1.0e3", ".", "1.2.3", "docker:19.03.12", "a\nb", "-x"] {
            assert_eq!(plain(text), Scalar::Text(text.to_owned()));
        }
        assert_eq!(plain(":foo"), Scalar::Text("foo".to_owned()));
        assert_eq!(plain("99999999999999999999"), Scalar::Text("99999999999999999999".to_owned()));
    }
}
