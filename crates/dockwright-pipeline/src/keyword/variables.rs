//! `variables`: names with a value, or with a mapping that says more.

use indexmap::IndexMap;

use super::{
    Reader, present,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::Variable,
    yaml::{Node, Value},
};

const ROOT_KEYS: &[&str] = &["value", "description", "expand", "options"];
const JOB_KEYS: &[&str] = &["value", "expand"];

/// Variables by name.
pub(crate) type Variables = IndexMap<String, Variable>;

/// Reads the root's variables, which may carry a description and options for people who start pipelines by hand.
pub(super) fn read_root(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Variables> {
    read(reader, at, node, ROOT_KEYS)
}

/// Reads a job's or a service's variables.
pub(super) fn read_job(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Variables> {
    read(reader, at, node, JOB_KEYS)
}

/// Reads the variables of a rule: values only.
pub(super) fn read_rule(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Variables> {
    read(reader, at, node, &[])
}

fn read(reader: &mut Reader<'_>, at: &str, node: &Node, keys: &[&str]) -> Option<Variables> {
    let map = reader.map(at, node)?;
    Some(
        map.iter()
            .filter_map(|(name, entry)| {
                let variable = one(reader, &format!("{at}:{name}"), name, &entry.value, keys)?;
                Some((name.clone(), variable))
            })
            .collect(),
    )
}

fn one(reader: &mut Reader<'_>, at: &str, name: &str, node: &Node, keys: &[&str]) -> Option<Variable> {
    if let Some(value) = node.scalar_text() {
        return Some(Variable { key: name.to_owned(), value, raw: false });
    }
    // `NAME:` with nothing after it is empty, as if it were a mapping without a value: GitLab reads nothing as `{}` in a hash of
    // entries (`Entry::ComposableHash`). A rule's variables must be plain, so there it is a mistake.
    if node.is_null() && !keys.is_empty() {
        return Some(Variable { key: name.to_owned(), value: String::new(), raw: false });
    }
    let Value::Map(map) = &node.value else {
        let help = if node.is_null() { "write `\"\"` for an empty value".to_owned() } else { format!("it is {}", node.kind()) };
        let message = format!("{at} config variable definition must be either a string or a hash");
        reader.report(Diagnostic::error("variable-type", message).at(node.span).help(help));
        return None;
    };
    for (key, entry) in map.iter().filter(|(key, _)| !keys.contains(&key.as_str())) {
        let message = format!("{at} config uses invalid data keys: {key}");
        let allowed = if keys.is_empty() {
            "only plain values are allowed here".to_owned()
        } else {
            format!("known keys are `{}`", keys.join("`, `"))
        };
        reader.report(Diagnostic::error("unknown-key", message).at(entry.key).help(allowed));
    }
    let value = match present(map, "value") {
        None => String::new(),
        Some(entry) => match entry.value.scalar_text() {
            Some(value) => value,
            None => {
                reader.wrong_type(&format!("{at}:value"), &entry.value, "a string");
                return None;
            }
        },
    };
    if let Some(options) = present(map, "options").filter(|_| keys.contains(&"options")) {
        let allowed = reader.texts(&format!("{at}:options"), &options.value);
        if allowed.is_some_and(|allowed| !allowed.contains(&value)) {
            let message = format!("{at} config value must be present in options");
            reader.report(Diagnostic::error("variable-options", message).at(node.span).also(options.key, "these are the options"));
        }
    }
    let expand = present(map, "expand").and_then(|entry| reader.boolean(&format!("{at}:expand"), &entry.value));
    Some(Variable { key: name.to_owned(), value, raw: expand == Some(false) })
}

/// Describes the root's variables.
pub(super) fn root_shape() -> Shape {
    shape(ROOT_KEYS)
}

/// Describes a job's or a service's variables.
pub(super) fn job_shape() -> Shape {
    shape(JOB_KEYS)
}

/// Describes the variables of a rule.
pub(super) fn rule_shape() -> Shape {
    Shape::named(Shape::Scalar)
}

fn shape(keys: &[&'static str]) -> Shape {
    let keys = Shape::map(keys, |key| match key {
        "value" => ("The value.", Shape::Scalar),
        "description" => ("What people are told who start a pipeline by hand.", Shape::Text),
        "expand" => ("Whether references to other variables in it are replaced.", Shape::Boolean),
        "options" => ("The values that may be chosen.", Shape::list(Shape::Text)),
        _ => UNDESCRIBED,
    });
    Shape::named(Shape::Either(vec![Shape::Scalar, keys]))
}
