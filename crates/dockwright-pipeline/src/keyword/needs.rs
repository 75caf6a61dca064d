//! `needs`: the jobs that a job waits for, instead of all earlier stages.

use super::{Reader, present};
use crate::{
    diagnostic::Diagnostic,
    pipeline::Need,
    yaml::{Map, Node, Value},
};

/// Most jobs that one job may need.
const MAX_NEEDS: usize = 50;
const KEYS: &[&str] = &["job", "artifacts", "optional", "parallel", "pipeline", "project", "ref"];

/// Reads `needs` of a job or of a rule.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, job: &str, node: &Node) -> Option<Vec<Need>> {
    let items: Vec<&Node> = match &node.value {
        Value::List(items) => items.iter().map(|item| &**item).collect(),
        Value::Text(_) | Value::Map(_) => vec![node],
        _ => {
            reader.wrong_type(at, node, "an array, a hash or a string");
            return None;
        }
    };
    if items.len() > MAX_NEEDS {
        let message = format!(
            "{job}: one job can only need {MAX_NEEDS} others, but you have listed {}. See needs keyword documentation for more details",
            items.len()
        );
        reader.report(Diagnostic::error("needs-limit", message).at(node.span));
    }
    Some(items.into_iter().filter_map(|item| one(reader, at, item)).collect())
}

fn one(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Need> {
    match &node.value {
        Value::Text(job) => Some(Need { job: job.clone(), artifacts: true, optional: false, span: node.span }),
        Value::Map(map) => mapping(reader, at, node, map),
        _ => {
            reader.wrong_type(&format!("{at}:need"), node, "a hash or a string");
            None
        }
    }
}

fn mapping(reader: &mut Reader<'_>, at: &str, node: &Node, map: &Map) -> Option<Need> {
    reader.unknown_keys(&format!("{at}:need"), map, KEYS);
    for key in ["pipeline", "project", "parallel"] {
        if let Some(entry) = map.get(key) {
            let message = format!("`needs:{key}` is not supported yet");
            reader.report(
                Diagnostic::error("unsupported-keyword", message).at(entry.key).help("only jobs of the same pipeline can be needed"),
            );
            return None;
        }
    }
    let Some(job) = present(map, "job") else {
        reader.report(Diagnostic::error("needs-job", format!("{at}:need job can't be blank")).at(node.span).help("add `job: NAME`"));
        return None;
    };
    let mut boolean = |key: &str, default: bool| {
        present(map, key).and_then(|entry| reader.boolean(&format!("{at}:need:{key}"), &entry.value)).unwrap_or(default)
    };
    let (artifacts, optional) = (boolean("artifacts", true), boolean("optional", false));
    let name = reader.text(&format!("{at}:need:job"), &job.value)?;
    Some(Need { job: name, artifacts, optional, span: job.value.span })
}
