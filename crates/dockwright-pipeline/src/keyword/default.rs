//! `default`: what jobs take over, key by key and whole, when they do not say it themselves.

use super::{
    Reader, artifacts, cache, duration, image,
    inherit::{self, Inheritance},
    job, present, retry, root, script, server_side,
    shape::Shape,
};
use crate::{
    pipeline::{Artifacts, Cache, Image, Retry},
    yaml::{Map, Node},
};

/// Keys of `default`.
pub(super) const KEYS: &[&str] = &[
    "after_script",
    "artifacts",
    "before_script",
    "cache",
    "hooks",
    "id_tokens",
    "image",
    "interruptible",
    "retry",
    "services",
    "tags",
    "timeout",
];

/// The keys that jobs and `default` share; absent is not written.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    pub(super) image: Option<Image>,
    pub(super) services: Option<Vec<Image>>,
    pub(super) before_script: Option<Vec<String>>,
    pub(super) after_script: Option<Vec<String>>,
    pub(super) pre_get_sources_script: Option<Vec<String>>,
    pub(super) artifacts: Option<Artifacts>,
    pub(super) cache: Option<Vec<Cache>>,
    pub(super) retry: Option<Retry>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) interruptible: Option<bool>,
}

/// Reads `default`.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Shared {
    let Some(map) = reader.map("default", node) else { return Shared::default() };
    reader.unknown_keys("default", map, KEYS);
    server_side::check(reader, "default", map);
    if let Some(entry) = present(map, "timeout") {
        // Accepted, and without an effect, as in GitLab.
        duration::read_timeout(reader, "default:timeout", &entry.value);
    }
    read_shared(reader, "default:", map)
}

/// Reads the shared keys of a mapping; `prefix` begins their location.
pub(super) fn read_shared(reader: &mut Reader<'_>, prefix: &str, map: &Map) -> Shared {
    // One line for each keyword: the key, and how its value is read.
    macro_rules! key {
        ($name:literal, $read:expr) => {
            present(map, $name).and_then(|entry| $read(&mut *reader, &format!("{prefix}{}", $name), &*entry.value))
        };
    }
    Shared {
        image: key!("image", image::read),
        services: key!("services", image::read_services),
        before_script: key!("before_script", script::read),
        after_script: key!("after_script", script::read),
        pre_get_sources_script: key!("hooks", script::read_hooks),
        artifacts: key!("artifacts", artifacts::read),
        cache: key!("cache", cache::read),
        retry: key!("retry", retry::read),
        tags: key!("tags", Reader::texts),
        interruptible: key!("interruptible", Reader::boolean),
    }
}

/// Describes `default`: its keys are keys of jobs.
pub(super) fn shape() -> Shape {
    Shape::map(KEYS, job::key_shape)
}

/// Returns an entry with what it takes over from `default` and from the root; hidden entries take nothing over.
pub(crate) fn effective(configuration: &Map, name: &str) -> Option<Map> {
    let mut entry = configuration.get(name)?.value.as_map()?.clone();
    // Its parents are merged into it.
    entry.shift_remove("extends");
    if name.starts_with('.') || present(&entry, "trigger").is_some() {
        return Some(entry);
    }
    // What is wrong with it is reported by who checks it.
    let mut reported = Vec::new();
    let inheritance = present(&entry, "inherit")
        .map_or_else(Inheritance::default, |written| inherit::read(&mut Reader::new(&mut reported), "inherit", &written.value));
    let written = present(configuration, "default").and_then(|defaults| defaults.value.as_map());
    // `timeout` is without an effect there.
    for key in KEYS.iter().filter(|key| **key != "timeout" && inheritance.default.includes(key)) {
        let global = || root::GLOBAL_DEFAULTS.contains(key).then(|| present(configuration, key)).flatten();
        let default = written.and_then(|defaults| present(defaults, key)).or_else(global);
        if let Some(default) = default.filter(|_| present(&entry, key).is_none()) {
            entry.insert((*key).to_owned(), default.clone());
        }
    }
    Some(entry)
}
