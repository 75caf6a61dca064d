//! JSON in a text, as an input may be given on a command line.

use std::sync::Arc;

use crate::{
    source::Span,
    yaml::{Entry, Map, Node, Value},
};

/// Parses a text that is one JSON value; all of it lies at `span`.
pub(super) fn parse(text: &str, span: Span) -> Option<Node> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(node(value, span))
}

fn node(value: serde_json::Value, span: Span) -> Node {
    let value = match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(|item| Arc::new(node(item, span))).collect()),
        serde_json::Value::Object(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (key, entry(value, span))).collect::<Map>())
        }
    };
    Node::new(value, span)
}

fn entry(value: serde_json::Value, span: Span) -> Entry {
    Entry { key: span, key_is_text: true, value: Arc::new(node(value, span)) }
}
