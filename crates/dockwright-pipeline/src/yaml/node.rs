//! The tree of values with the places they were written at.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::source::Span;

/// Deepest nesting (`max_yaml_depth`).
pub(super) const MAX_DEPTH: u32 = 100;
/// Most nodes of a file with all aliases written out. GitLab limits the size in memory; this is about the same.
pub(super) const MAX_NODES: u64 = 200_000;

/// A value. Its span is the first line of what was written: enough to point at.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
    /// Number of nodes when all aliases are written out.
    pub(crate) weight: u64,
    pub(crate) depth: u32,
    /// A `!reference` lies in here and is to be resolved.
    pub(crate) has_reference: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Arc<Node>>),
    Map(Map),
    /// `!reference [a, b]`; absent path: it is no list of strings.
    Reference(Option<Vec<String>>),
}

pub(crate) type Map = IndexMap<String, Entry>;

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Span,
    /// The key was written as text, and not as a number or a boolean.
    pub(crate) key_is_text: bool,
    pub(crate) value: Arc<Node>,
}

impl Node {
    pub(crate) fn new(value: Value, span: Span) -> Self {
        let children = |nodes: &mut dyn Iterator<Item = &Arc<Node>>| {
            nodes.fold((1_u64, 0, false), |(weight, depth, has_reference), node| {
                (weight.saturating_add(node.weight), depth.max(node.depth), has_reference || node.has_reference)
            })
        };
        let (weight, depth, has_reference) = match &value {
            Value::List(items) => children(&mut items.iter()),
            Value::Map(map) => children(&mut map.values().map(|entry| &entry.value)),
            Value::Reference(_) => (1, 0, true),
            _ => (1, 0, false),
        };
        Self { value, span, weight, depth: depth + 1, has_reference }
    }

    pub(crate) fn is_too_big(&self) -> bool {
        self.depth > MAX_DEPTH || self.weight > MAX_NODES
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Arc<Node>]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the items of a list, those of lists in it included: anchors and `!reference` put lists into lists.
    ///
    /// GitLab flattens `needs`, `services` and lists of caches before it looks at the items (`Entry::ComposableArray`).
    pub(crate) fn flat_items(&self) -> Option<Vec<&Node>> {
        let items = self.as_list()?.iter();
        Some(items.flat_map(|item| item.flat_items().unwrap_or_else(|| vec![item])).collect())
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the text of a text, number or boolean, as Ruby's `to_s` prints it.
    pub(crate) fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Text(text) => Some(text.clone()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Integer(value) => Some(value.to_string()),
            Value::Float(value) => Some(float_text(*value)),
            Value::Null | Value::List(_) | Value::Map(_) | Value::Reference(_) => None,
        }
    }

    /// Names the kind of value in messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Reference(_) => "a reference",
        }
    }
}

/// Prints a float as Ruby does: always with a fraction, and with an exponent from 1e16 up and below 1e-4.
pub(super) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').expect("the format has an exponent");
        let mantissa = if mantissa.contains('.') { mantissa.to_owned() } else { format!("{mantissa}.0") };
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = value.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

#[cfg(test)]
mod tests {
    use super::float_text;

    #[test]
    fn floats_print_as_in_ruby() {
        for (value, text) in [(3.1, "3.1"), (1.0, "1.0"), (1e20, "1.0e+20"), (1.5e-5, "1.5e-05"), (45030.0, "45030.0"), (0.0, "0.0")] {
            assert_eq!(float_text(value), text);
        }
    }
}
