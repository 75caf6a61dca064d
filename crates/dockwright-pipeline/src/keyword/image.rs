//! `image` and `services`: a name, or a mapping with details.

use super::{
    Reader, present,
    shape::{Shape, UNDESCRIBED},
    variables,
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::Image,
    yaml::{Map, Node, Value},
};

const IMAGE_KEYS: &[&str] = &["name", "entrypoint", "docker", "kubernetes", "pull_policy"];
const SERVICE_KEYS: &[&str] = &["name", "alias", "entrypoint", "command", "variables", "docker", "kubernetes", "pull_policy"];
const DOCKER_KEYS: &[&str] = &["platform", "user"];
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
    reader.unknown_keys(at, map, DOCKER_KEYS);
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

/// Describes `image`.
pub(super) fn shape() -> Shape {
    Shape::Either(vec![Shape::Text, Shape::map(IMAGE_KEYS, key_shape)])
}

/// Describes `services`.
pub(super) fn services_shape() -> Shape {
    Shape::Nested(Box::new(Shape::Either(vec![Shape::Text, Shape::map(SERVICE_KEYS, key_shape)])))
}

fn key_shape(key: &str) -> (&'static str, Shape) {
    match key {
        "name" => ("The image, as `docker pull` takes it.", Shape::Text),
        "alias" => ("Names under which jobs reach the service.", Shape::Text),
        "entrypoint" => ("What the container starts instead of the image's entry point.", Shape::list(Shape::Text)),
        "command" => ("Arguments of the entry point.", Shape::nested(Shape::Text)),
        "variables" => ("Variables of this service only.", variables::job_shape()),
        "docker" => (
            "Options of the docker executor.",
            Shape::map(DOCKER_KEYS, |key| match key {
                "platform" => ("Platform of the image, such as `linux/arm64`.", Shape::Text),
                "user" => ("User of the container's processes.", Shape::Scalar),
                _ => UNDESCRIBED,
            }),
        ),
        "kubernetes" => ("Options of the Kubernetes executor.", Shape::Any),
        "pull_policy" => ("When the image is pulled.", Shape::one_or_list(Shape::words(PULL_POLICIES))),
        _ => UNDESCRIBED,
    }
}
