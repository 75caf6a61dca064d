//! `cache`: files that jobs of several pipelines share.

use super::{
    Reader,
    artifacts::KEEP_WHEN,
    present,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::{Cache, CacheKey},
    source::Span,
    yaml::{Map, Node, Value},
};

const KEYS: &[&str] = &["key", "untracked", "paths", "when", "policy", "unprotect", "fallback_keys"];
const KEY_KEYS: &[&str] = &["files", "files_commits", "prefix"];
const POLICIES: &[(&str, &str)] = &[("pull-push", "pull-push"), ("push", "push"), ("pull", "pull")];
const MAX_CACHES: usize = 4;
const MAX_FALLBACK_KEYS: usize = 5;
const MAX_KEY_FILES: usize = 2;

/// Reads `cache`: a mapping or a list of them.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<Cache>> {
    match &node.value {
        Value::Map(map) => Some(vec![one(reader, at, map)]),
        Value::List(items) => {
            if items.len() > MAX_CACHES {
                let message = format!("{at} config no more than {MAX_CACHES} caches can be created");
                reader.report(Diagnostic::error("cache-limit", message).at(node.span));
            }
            let items = node.flat_items().unwrap_or_default();
            Some(items.into_iter().filter_map(|item| reader.map(at, item).map(|map| one(reader, at, map))).collect())
        }
        _ => {
            reader.wrong_type(at, node, "a hash or an array of hashes");
            None
        }
    }
}

fn one(reader: &mut Reader<'_>, at: &str, map: &Map) -> Cache {
    reader.unknown_keys(at, map, KEYS);
    let texts = |reader: &mut Reader<'_>, key: &str| {
        present(map, key).and_then(|entry| reader.texts(&format!("{at}:{key}"), &entry.value)).unwrap_or_default()
    };
    let fallback_keys = texts(reader, "fallback_keys");
    if let Some(entry) = map.get("fallback_keys").filter(|_| fallback_keys.len() > MAX_FALLBACK_KEYS) {
        let message = format!("{at}:fallback_keys config has too many entries (maximum {MAX_FALLBACK_KEYS})");
        reader.report(Diagnostic::error("cache-limit", message).at(entry.key));
    }
    Cache {
        key: present(map, "key")
            .and_then(|entry| key(reader, &format!("{at}:key"), &entry.value))
            .unwrap_or_else(|| CacheKey::Text("default".to_owned())),
        untracked: present(map, "untracked").and_then(|entry| reader.boolean(&format!("{at}:untracked"), &entry.value)).unwrap_or(false),
        paths: texts(reader, "paths"),
        when: present(map, "when").and_then(|entry| reader.one_of(&format!("{at} when"), &entry.value, KEEP_WHEN)).unwrap_or_default(),
        policy: policy(reader, at, map),
        fallback_keys,
    }
}

fn policy(reader: &mut Reader<'_>, at: &str, map: &Map) -> String {
    let Some(entry) = present(map, "policy") else { return "pull-push".to_owned() };
    match entry.value.as_text().filter(|text| text.contains('$')) {
        Some(variable) => variable.to_owned(),
        None => reader.one_of(&format!("{at} policy"), &entry.value, POLICIES).unwrap_or("pull-push").to_owned(),
    }
}

fn key(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<CacheKey> {
    let Value::Map(map) = &node.value else {
        let Some(text) = node.scalar_text() else {
            reader.wrong_type(at, node, "a hash, a string or a symbol");
            return None;
        };
        check_text(reader, at, &text, node.span);
        return Some(CacheKey::Text(text));
    };
    reader.unknown_keys(at, map, KEY_KEYS);
    let prefix = present(map, "prefix").and_then(|entry| reader.text(&format!("{at}:prefix"), &entry.value));
    match (present(map, "files"), present(map, "files_commits")) {
        (Some(entry), None) => Some(CacheKey::Files { files: files(reader, &format!("{at}:files"), &entry.value)?, prefix }),
        (None, Some(entry)) => Some(CacheKey::FilesCommits { files: files(reader, &format!("{at}:files_commits"), &entry.value)?, prefix }),
        _ => {
            let message = format!("{at} config must use exactly one of these keys: files, files_commits");
            reader.report(Diagnostic::error("cache-key", message).at(node.span));
            None
        }
    }
}

fn check_text(reader: &mut Reader<'_>, at: &str, text: &str, span: Span) {
    let message = if text.contains('/') || text.to_lowercase().contains("%2f") {
        format!("{at} config cannot contain the \"/\" character")
    } else if matches!(text, "." | ".." | "%2E" | "%2e") {
        format!("{at} config cannot be \".\" or \"..\"")
    } else {
        return;
    };
    reader.report(Diagnostic::error("cache-key", message).at(span).help("variables such as `$CI_COMMIT_REF_SLUG` hold no slashes"));
}

fn files(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<String>> {
    let files = reader.texts(at, node)?;
    if files.is_empty() || files.len() > MAX_KEY_FILES {
        let message = format!("{at} config requires at least 1 item and at most {MAX_KEY_FILES}");
        reader.report(Diagnostic::error("cache-key", message).at(node.span));
    }
    Some(files)
}

/// Describes `cache`.
pub(super) fn shape() -> Shape {
    Shape::nested(Shape::map(KEYS, |key| match key {
        "key" => {
            ("Name of the cache: jobs with the same key share it.", Shape::Either(vec![Shape::Scalar, Shape::map(KEY_KEYS, key_shape)]))
        }
        "untracked" => ("Keeps all files that Git does not track.", Shape::Boolean),
        "paths" => ("Files and directories to keep, relative to the project.", Shape::list(Shape::Text)),
        "when" => ("After which results of the job it is saved.", Shape::words(KEEP_WHEN)),
        "policy" => ("Whether the job fetches the cache, saves it, or both.", Shape::Either(vec![Shape::words(POLICIES), Shape::Text])),
        "unprotect" => ("Shares the cache between protected and other branches.", Shape::Boolean),
        "fallback_keys" => ("Keys that are tried in turn when there is no cache of `key`.", Shape::list(Shape::Text)),
        _ => UNDESCRIBED,
    }))
}

fn key_shape(key: &str) -> (&'static str, Shape) {
    match key {
        "files" => ("Files whose content makes the key.", Shape::list(Shape::Text)),
        "files_commits" => ("Files whose last commits make the key.", Shape::list(Shape::Text)),
        "prefix" => ("Text before the key that the files make.", Shape::Text),
        _ => UNDESCRIBED,
    }
}
