//! `image` and `services`: a name, or a mapping with details.

use super::{Reader, present, variables};
use crate::{
    diagnostic::Diagnostic,
    pipeline::Image,
    yaml::{Map, Node, Value},
};

const IMAGE_KEYS: &[&str] = &["name", "entrypoint", "docker", "kubernetes", "pull_policy"];
const SERVICE_KEYS: &[&str] = &["name", "alias", "entrypoint", "command", "variables", "docker", "kubernetes", "pull_policy"];
const PULL_POLICIES: &[(&str, &str)] = &[("always", "always"), ("never", "never"), ("if-not-present", "if-not-present")];

/// Reads `image`.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Image> {
    one(reader, at, node, IMAGE_KEYS)
}

/// Reads `services`.
pub(super) fn read_services(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<Image>> {
    let Some(items) = node.flat_items() else {
        reader.wrong_type(at, node, "an array");
        return None;
    };
    Some(items.into_iter().filter_map(|item| one(reader, &format!("{at}:service"), item, SERVICE_KEYS)).collect())
}

fn one(reader: &mut Reader<'_>, at: &str, node: &Node, keys: &[&str]) -> Option<Image> {
    match &node.value {
        Value::Text(name) if !name.trim().is_empty() => Some(Image { name: name.clone(), ..Image::default() }),
        Value::Map(map) => {
            reader.unknown_keys(at, map, keys);
            mapping(reader, at, node, map, keys)
        }
        _ => {
            let message = format!("{at} config should be a hash or a string");
            reader.report(Diagnostic::error("wrong-type", message).at(node.span).help("for example `image: debian:12`"));
            None
        }
    }
}

fn mapping(reader: &mut Reader<'_>, at: &str, node: &Node, map: &Map, keys: &[&str]) -> Option<Image> {
    let Some(name) = present(map, "name") else {
        reader.report(Diagnostic::error("image-name", format!("{at} name can't be blank")).at(node.span).help("add `name: IMAGE`"));
        return None;
    };
    let mut image = Image { name: reader.text(&format!("{at}:name"), &name.value)?, ..Image::default() };
    if let Some(entry) = present(map, "entrypoint") {
        image.entrypoint = reader.texts(&format!("{at}:entrypoint"), &entry.value).unwrap_or_default();
    }
    if let Some(entry) = present(map, "pull_policy") {
        image.pull_policy = pull_policy(reader, &format!("{at}:pull_policy"), &entry.value);
    }
    if let Some(entry) = present(map, "docker") {
        docker(reader, &format!("{at}:docker"), &entry.value, &mut image);
    }
    // The keys below exist for services only, and were reported otherwise.
    if let Some(entry) = present(map, "alias").filter(|_| keys.contains(&"alias")) {
        image.alias = reader.text(&format!("{at}:alias"), &entry.value);
    }
    if let Some(entry) = present(map, "command").filter(|_| keys.contains(&"command")) {
        image.command = reader.nested_texts(&format!("{at}:command"), &entry.value).unwrap_or_default();
    }
    if let Some(entry) = present(map, "variables").filter(|_| keys.contains(&"variables")) {
        image.variables = variables::read_job(reader, &format!("{at}:variables"), &entry.value).unwrap_or_default().into_values().collect();
    }
    Some(image)
}

fn pull_policy(reader: &mut Reader<'_>, at: &str, node: &Node) -> Vec<String> {
    let items: Vec<&Node> = match node.as_list() {
        Some(items) => items.iter().map(|item| &**item).collect(),
        None => vec![node],
    };
    items.into_iter().filter_map(|item| reader.one_of(at, item, PULL_POLICIES)).map(str::to_owned).collect()
}

fn docker(reader: &mut Reader<'_>, at: &str, node: &Node, image: &mut Image) {
    let Some(map) = reader.map(at, node) else { return };
    reader.unknown_keys(at, map, &["platform", "user"]);
    image.platform = present(map, "platform").and_then(|entry| reader.text(&format!("{at}:platform"), &entry.value));
    // A numeric user is accepted by the server as well.
    image.user = present(map, "user").and_then(|entry| {
        let text = entry.value.scalar_text();
        if text.is_none() {
            reader.wrong_type(&format!("{at}:user"), &entry.value, "a string");
        }
        text
    });
}
