//! Writes a runner's entry as GitLab Runner writes it, byte for byte.
//!
//! Its encoder puts a table's own keys first, in the order of the table of all keys, then the tables in it, each two columns further in.
//! What is left out when it has no value follows no rule but the table's `unset` column.

use std::fmt::Write as _;

use super::{
    duration::GoDuration,
    schema::{Key, Kind, RUNNER, Table, Unset},
};

/// What GitLab Runner writes into a file that did not exist, before the first `[[runners]]`.
pub const SKELETON: &str = "concurrent = 1\ncheck_interval = 0\nshutdown_timeout = 0\n\n[session_server]\n  session_timeout = 1800\n";

const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
const INDENT: usize = 2;

/// Returns the lines of one `[[runners]]` with these values.
pub(crate) fn encode_runner(values: &toml::Table) -> String {
    let mut writer = Writer { text: "[[runners]]\n".to_owned() };
    writer.table(&RUNNER, values, "runners", 1);
    writer.text
}

/// Returns a value as it stands behind `key = `.
pub(crate) fn encode_value(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => quote(text),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => float(*number),
        toml::Value::Boolean(value) => value.to_string(),
        toml::Value::Datetime(time) => time.to_string(),
        toml::Value::Array(list) => format!("[{}]", list.iter().map(encode_value).collect::<Vec<_>>().join(", ")),
        toml::Value::Table(table) => {
            let pairs: Vec<String> = table.iter().map(|(key, value)| format!("{} = {}", encode_key(key), encode_value(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

struct Writer {
    text: String,
}

impl Writer {
    fn table(&mut self, table: &Table, values: &toml::Table, path: &str, depth: usize) {
        for key in table.keys {
            if let Some(value) = direct_value(key, values.get(key.name)) {
                self.pair(key.name, &value, depth);
            }
        }
        for key in table.keys {
            let Some(value) = values.get(key.name) else { continue };
            let path = format!("{path}.{}", encode_key(key.name));
            match (key.kind, value) {
                (Kind::Table(inner), toml::Value::Table(values)) => {
                    self.header(&path, "[", "]", depth);
                    self.table(inner, values, &path, depth + 1);
                }
                (Kind::Tables(inner), toml::Value::Array(list)) => {
                    for values in list.iter().filter_map(toml::Value::as_table) {
                        self.header(&path, "[[", "]]", depth);
                        self.table(inner, values, &path, depth + 1);
                    }
                }
                (Kind::TextMap | Kind::BooleanMap | Kind::TextsMap | Kind::Anything, value) => self.free(value, &path, depth),
                _ => {}
            }
        }
    }

    /// Writes a table whose keys are the user's, and arrays of such.
    fn free(&mut self, value: &toml::Value, path: &str, depth: usize) {
        match value {
            toml::Value::Table(values) if !values.is_empty() => {
                self.header(path, "[", "]", depth);
                self.free_body(values, path, depth + 1);
            }
            toml::Value::Array(list) => {
                for values in list.iter().filter_map(toml::Value::as_table) {
                    self.header(path, "[[", "]]", depth);
                    self.free_body(values, path, depth + 1);
                }
            }
            _ => {}
        }
    }

    fn free_body(&mut self, values: &toml::Table, path: &str, depth: usize) {
        let (tables, direct): (Vec<_>, Vec<_>) = values.iter().partition(|(_, value)| is_table(value));
        for (key, value) in direct {
            self.pair(key, &encode_value(value), depth);
        }
        for (key, value) in tables {
            self.free(value, &format!("{path}.{}", encode_key(key)), depth);
        }
    }

    fn pair(&mut self, key: &str, value: &str, depth: usize) {
        let _ = writeln!(self.text, "{:width$}{} = {value}", "", encode_key(key), width = depth * INDENT);
    }

    fn header(&mut self, path: &str, open: &str, close: &str, depth: usize) {
        let _ = writeln!(self.text, "{:width$}{open}{path}{close}", "", width = depth * INDENT);
    }
}

/// Returns the text of a key that is written above the tables, or `None` when it is not written at all.
fn direct_value(key: &Key, value: Option<&toml::Value>) -> Option<String> {
    match (key.kind, value) {
        (Kind::Table(_) | Kind::Tables(_) | Kind::TextMap | Kind::BooleanMap | Kind::TextsMap, _) => None,
        (Kind::Anything, value) => value.filter(|value| !is_table(value)).map(encode_value),
        (_, None) => (key.unset == Unset::Written).then(|| zero(key.kind)).flatten(),
        (kind, Some(value)) => {
            let text = with_kind(kind, value);
            let is_zero = zero(kind).is_some_and(|zero| zero == text) || value.as_array().is_some_and(Vec::is_empty);
            (!is_zero || key.unset != Unset::LeftOut).then_some(text)
        }
    }
}

fn with_kind(kind: Kind, value: &toml::Value) -> String {
    match (kind, value) {
        (Kind::Duration, toml::Value::String(text)) => {
            GoDuration::parse(text).map_or_else(|| quote(text), |duration| quote(&duration.to_string()))
        }
        (Kind::TextOrTexts, toml::Value::String(text)) => format!("[{}]", quote(text)),
        (Kind::Number, toml::Value::Integer(number)) => format!("{number}.0"),
        _ => encode_value(value),
    }
}

fn zero(kind: Kind) -> Option<String> {
    let text = match kind {
        Kind::Text => "\"\"",
        Kind::Boolean => "false",
        Kind::Integer => "0",
        Kind::Number => "0.0",
        Kind::Duration => "\"0s\"",
        Kind::Time => ZERO_TIME,
        _ => return None,
    };
    Some(text.to_owned())
}

fn is_table(value: &toml::Value) -> bool {
    match value {
        toml::Value::Table(_) => true,
        toml::Value::Array(list) => !list.is_empty() && list.iter().all(toml::Value::is_table),
        _ => false,
    }
}

fn float(number: f64) -> String {
    let text = number.to_string();
    if text.contains(['.', 'e', 'n', 'i']) { text } else { format!("{text}.0") }
}

fn encode_key(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if is_bare { key.to_owned() } else { quote(key) }
}

fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for next in text.chars() {
        match next {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(next));
            }
            _ => quoted.push(next),
        }
    }
    quoted.push('"');
    quoted
}
