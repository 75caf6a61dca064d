//! `environment`: where a job deploys to.

use super::{Reader, duration, present};
use crate::{
    diagnostic::Diagnostic,
    pipeline::Environment,
    yaml::{Node, Value},
};

const KEYS: &[&str] = &["name", "url", "action", "on_stop", "auto_stop_in", "deployment_tier", "kubernetes"];
const ACTIONS: &[(&str, &str)] =
    &[("start", "start"), ("stop", "stop"), ("prepare", "prepare"), ("verify", "verify"), ("access", "access")];

/// Reads `environment`. The name is expanded when the pipeline is evaluated.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Environment> {
    let map = match &node.value {
        Value::Text(name) => return Some(Environment { name: name.clone(), url: None, action: "start".to_owned(), tier: None }),
        Value::Map(map) => map,
        _ => {
            reader.wrong_type(at, node, "a hash or a string");
            return None;
        }
    };
    reader.unknown_keys(at, map, KEYS);
    let Some(name) = present(map, "name") else {
        reader.report(Diagnostic::error("environment-name", format!("{at} name can't be blank")).at(node.span).help("add `name: NAME`"));
        return None;
    };
    let text = |reader: &mut Reader<'_>, key: &str| present(map, key).and_then(|entry| reader.text(&format!("{at}:{key}"), &entry.value));
    if let Some(entry) = present(map, "auto_stop_in") {
        let is_open = entry.value.as_text().is_some_and(|text| text == "never" || text.contains('$'));
        if !is_open {
            duration::read(reader, &format!("{at}:auto_stop_in"), &entry.value);
        }
    }
    Some(Environment {
        name: reader.text(&format!("{at}:name"), &name.value)?,
        url: text(reader, "url"),
        action: present(map, "action")
            .and_then(|entry| reader.one_of(&format!("{at} action"), &entry.value, ACTIONS))
            .unwrap_or("start")
            .to_owned(),
        tier: text(reader, "deployment_tier"),
    })
}
