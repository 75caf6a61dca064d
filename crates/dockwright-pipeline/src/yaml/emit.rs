//! Writing YAML and JSON. YAML looks as Ruby's Psych writes it: lists are not indented below their key, texts are plain where that reads
//! back as the same text. Unlike Psych, long lines are not folded.

use std::fmt::Write as _;

use super::{Map, Node, Scalar, Value, plain};

/// Writes a mapping as a document.
pub(crate) fn to_yaml(map: &Map) -> String {
    let mut output = "---".to_owned();
    write_value(&mut output, &Value::Map(map.clone()), Position { indent: 0, after: After::Start });
    output
}

/// Writes a mapping as JSON, in its order, indented by two blanks.
pub(crate) fn to_json(map: &Map) -> String {
    let mut output = String::new();
    write_json(&mut output, &Value::Map(map.clone()), 0);
    output
}

/// Writes any value as JSON.
pub(crate) fn node_to_json(node: &Node) -> String {
    let mut output = String::new();
    write_json(&mut output, &node.value, 0);
    output
}

/// Where a value is written.
#[derive(Debug, Clone, Copy)]
struct Position {
    /// Column of the keys or dashes of the collection that it belongs to.
    indent: usize,
    after: After,
}

/// What stands before it on its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Start,
    Key,
    Dash,
}

/// Writes a value and the end of its last line.
fn write_value(output: &mut String, value: &Value, at: Position) {
    match value {
        Value::Map(map) if map.is_empty() => output.push_str(" {}\n"),
        Value::List(items) if items.is_empty() => output.push_str(" []\n"),
        Value::Map(map) => {
            let indent = if at.after == After::Start { 0 } else { at.indent + 2 };
            begin(output, at);
            for (index, (key, entry)) in map.iter().enumerate() {
                // The first key of a mapping in a list stands beside the dash.
                if index > 0 || at.after != After::Dash {
                    output.push_str(&" ".repeat(indent));
                }
                write_text(output, key, indent, true);
                output.push(':');
                write_value(output, &entry.value.value, Position { indent, after: After::Key });
            }
        }
        Value::List(items) => {
            let indent = if at.after == After::Dash { at.indent + 2 } else { at.indent };
            begin(output, at);
            for (index, item) in items.iter().enumerate() {
                if index > 0 || at.after != After::Dash {
                    output.push_str(&" ".repeat(indent));
                }
                output.push('-');
                write_value(output, &item.value, Position { indent, after: After::Dash });
            }
        }
        Value::Null => output.push('\n'),
        Value::Text(text) => {
            output.push(' ');
            write_text(output, text, at.indent, false);
            output.push('\n');
        }
        scalar => writeln!(output, " {}", scalar_text(scalar)).expect("writing to a string"),
    }
}

fn begin(output: &mut String, at: Position) {
    output.push(if at.after == After::Dash { ' ' } else { '\n' });
}

/// Numbers and booleans, and references that could not be resolved.
fn scalar_text(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) if value.is_nan() => ".nan".to_owned(),
        Value::Float(value) if value.is_infinite() => if *value > 0.0 { ".inf" } else { "-.inf" }.to_owned(),
        Value::Float(value) => super::node::float_text(*value),
        Value::Reference(path) => format!("!reference {:?}", path.as_deref().unwrap_or_default()),
        Value::Null | Value::Text(_) | Value::List(_) | Value::Map(_) => String::new(),
    }
}

/// Writes a text in the style that Psych chooses.
fn write_text(output: &mut String, text: &str, indent: usize, is_key: bool) {
    let is_special = text.chars().any(|next| next != '\n' && (next.is_control() || matches!(next, '\u{feff}' | '\u{2028}' | '\u{2029}')));
    let has_lines = text.trim_end_matches('\n').contains('\n');
    if is_special || (text.contains('\n') && (is_key || !has_lines)) {
        write_double_quoted(output, text);
    } else if has_lines {
        write_literal(output, text, indent);
    } else if matches!(text, "y" | "Y" | "n" | "N") || (!begins_with_word(text) && !text.is_empty() && !text.contains('"')) {
        write_double_quoted(output, text);
    } else if is_another_type(text) || !is_plain(text) {
        output.extend(["'", &text.replace('\'', "''"), "'"]);
    } else {
        output.push_str(text);
    }
}

fn begins_with_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphanumeric() || first == '_')
}

/// Tells whether a plain text would be read as a number, a boolean, a date or nothing.
fn is_another_type(text: &str) -> bool {
    text == "<<" || plain(text) != Scalar::Text(text.to_owned())
}

fn is_plain(text: &str) -> bool {
    let begins_badly = text.starts_with(|first: char| ",[]{}#&*!|>'\"%@`?:-".contains(first)) || text.starts_with("...");
    !begins_badly && !text.contains(": ") && !text.ends_with(':') && !text.contains(" #") && text.trim() == text
}

fn write_double_quoted(output: &mut String, text: &str) {
    output.push('"');
    for next in text.chars() {
        match next {
            '"' => output.push_str("\\\""),
            '\\' => output.push_str("\\\\"),
            '\n' => output.push_str("\\n"),
            '\t' => output.push_str("\\t"),
            '\r' => output.push_str("\\r"),
            _ if next.is_control() || matches!(next, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                write!(output, "\\U{:08X}", u32::from(next)).expect("writing to a string");
            }
            _ => output.push(next),
        }
    }
    output.push('"');
}

/// Writes a text of several lines as a block, without the end of its last line.
fn write_literal(output: &mut String, text: &str, indent: usize) {
    output.push('|');
    // Without a number, the first line's own blanks would count as indentation.
    if text.starts_with([' ', '\n']) {
        output.push('2');
    }
    let ends = text.len() - text.trim_end_matches('\n').len();
    output.push_str(match ends {
        0 => "-",
        1 => "",
        _ => "+",
    });
    let content = text.strip_suffix('\n').unwrap_or(text);
    for line in content.split('\n') {
        output.push('\n');
        if !line.is_empty() {
            output.push_str(&" ".repeat(indent + 2));
            output.push_str(line);
        }
    }
}

fn write_json(output: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Map(map) if !map.is_empty() => {
            let entries = map.iter().map(|(key, entry)| (Some(key.as_str()), &*entry.value));
            write_json_items(output, ['{', '}'], entries, indent);
        }
        Value::List(items) if !items.is_empty() => {
            write_json_items(output, ['[', ']'], items.iter().map(|item| (None, &**item)), indent);
        }
        Value::Map(_) => output.push_str("{}"),
        Value::List(_) => output.push_str("[]"),
        Value::Text(text) => output.push_str(&json_text(text)),
        Value::Bool(value) => output.push_str(&value.to_string()),
        Value::Integer(value) => output.push_str(&value.to_string()),
        // JSON has no infinity.
        Value::Float(value) if value.is_finite() => output.push_str(&super::node::float_text(*value)),
        Value::Null | Value::Float(_) => output.push_str("null"),
        Value::Reference(_) => output.push_str(&json_text(&scalar_text(value))),
    }
}

fn write_json_items<'n>(
    output: &mut String,
    [open, close]: [char; 2],
    items: impl Iterator<Item = (Option<&'n str>, &'n Node)>,
    indent: usize,
) {
    output.push(open);
    for (index, (key, node)) in items.enumerate() {
        output.push_str(if index > 0 { ",\n" } else { "\n" });
        output.push_str(&" ".repeat(indent + 2));
        if let Some(key) = key {
            output.extend([&json_text(key), ": "]);
        }
        write_json(output, &node.value, indent + 2);
    }
    output.push('\n');
    output.push_str(&" ".repeat(indent));
    output.push(close);
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
