//! `run`: steps instead of a script. GitLab hands them to a program beside the runner, which is not here.

use super::{
    Reader, present,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    yaml::{Entry, Map, Node, Value},
};

/// Ways to say what a step does.
const KINDS: &[&str] = &["script", "step", "func"];

const SCRIPT_KEYS: &[&str] = &["name", "script", "env"];
const STEP_KEYS: &[&str] = &["name", "step", "func", "inputs", "env"];

/// Checks the steps of a job, and says that they are not run.
pub(super) fn check(reader: &mut Reader<'_>, at: &str, entry: &Entry) {
    let at = format!("{at}:run");
    match entry.value.as_list() {
        Some([]) => {
            reader.report(Diagnostic::error("missing-key", format!("{at} can't be blank")).at(entry.value.span));
        }
        Some(steps) => {
            for item in steps {
                step(reader, &at, item);
            }
        }
        None => reader.wrong_type(&at, &entry.value, "an array of hashes"),
    }
    let message = format!("{at}: steps are not run locally, so the job fails");
    reader.report(Diagnostic::warning("not-done-locally", message).at(entry.key).help("what `script` does runs here, too"));
}

fn step(reader: &mut Reader<'_>, at: &str, node: &Node) {
    let Some(map) = reader.map(at, node) else { return };
    let kinds: Vec<&str> = KINDS.iter().copied().filter(|kind| present(map, kind).is_some()).collect();
    let keys: &[&str] = if kinds == ["script"] { SCRIPT_KEYS } else { STEP_KEYS };
    if kinds.len() == 1 {
        reader.unknown_keys(at, map, keys);
    } else {
        let message = format!("{at} config must use exactly one of these keys: {}", KINDS.join(", "));
        reader.report(Diagnostic::error("run-step", message).at(node.span));
    }
    check_name(reader, at, node, map);
    if let Some(script) = present(map, "script") {
        reader.text(&format!("{at}:script"), &script.value);
    }
    for kind in ["step", "func"] {
        if let Some(entry) = present(map, kind).filter(|entry| !matches!(entry.value.value, Value::Text(_) | Value::Map(_))) {
            reader.wrong_type(&format!("{at}:{kind}"), &entry.value, "a hash or a string");
        }
    }
    for key in ["env", "inputs"] {
        if let Some(entry) = present(map, key) {
            reader.map(&format!("{at}:{key}"), &entry.value);
        }
    }
}

fn check_name(reader: &mut Reader<'_>, at: &str, node: &Node, map: &Map) {
    let Some(entry) = present(map, "name") else {
        let message = format!("{at} name can't be blank");
        return reader.report(Diagnostic::error("missing-key", message).at(node.span).help("add `name`"));
    };
    let Some(name) = reader.text(&format!("{at}:name"), &entry.value) else { return };
    let is_word = |next: char| next.is_ascii_alphanumeric() || next == '_';
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) || !name.chars().all(is_word) {
        let message = format!("{at}:name can contain only letters, digits and '_', and begins with no digit");
        reader.report(Diagnostic::error("run-step", message).at(entry.value.span));
    }
}

/// Describes `run`.
pub(super) fn shape() -> Shape {
    let of_script = Shape::map(SCRIPT_KEYS, key_shape);
    Shape::list(Shape::Either(vec![of_script, Shape::map(STEP_KEYS, key_shape)]))
}

fn key_shape(key: &str) -> (&'static str, Shape) {
    let reference = || Shape::Either(vec![Shape::Text, Shape::named(Shape::Any)]);
    match key {
        "name" => ("Name of the step: letters, digits and `_`.", Shape::Text),
        "script" => ("Commands of the step.", Shape::Text),
        "step" => ("The step that is run.", reference()),
        "func" => ("The function that is run.", reference()),
        "inputs" => ("Values of its inputs.", Shape::named(Shape::Any)),
        "env" => ("Variables of the step.", Shape::named(Shape::Any)),
        _ => UNDESCRIBED,
    }
}
