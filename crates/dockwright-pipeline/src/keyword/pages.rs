//! `pages` and `publish`: a directory that GitLab serves as a web site. Here it is kept as an artifact.

use super::{
    Reader, duration, present,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::Artifacts,
    yaml::{Map, Value},
};

const KEYS: &[&str] = &["publish", "path_prefix", "expire_in"];
const DEFAULT_DIRECTORY: &str = "public";

/// Reads both keywords, and adds the directory to a page job's artifacts. A job named `pages` is one, unless it says `pages: false`.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, name: &str, map: &Map, artifacts: &mut Option<Artifacts>) {
    let written = present(map, "pages");
    let mut directory = None;
    let is_page = match written.map(|entry| &entry.value.value) {
        None => name == "pages",
        Some(Value::Bool(is_page)) => *is_page,
        Some(Value::Map(pages)) => {
            let at = format!("{at}:pages");
            reader.unknown_keys(&at, pages, KEYS);
            directory = present(pages, "publish").and_then(|entry| reader.text(&format!("{at}:publish"), &entry.value));
            if let Some(entry) = present(pages, "path_prefix") {
                reader.text(&format!("{at}:path_prefix"), &entry.value);
            }
            if let Some(entry) = present(pages, "expire_in").filter(|entry| entry.value.as_text() != Some("never")) {
                duration::read(reader, &format!("{at}:expire_in"), &entry.value);
            }
            true
        }
        Some(_) => {
            reader.wrong_type(&format!("{at}:pages"), &written.expect("it was just looked at").value, "a hash or a boolean value");
            return;
        }
    };
    if let Some(publish) = present(map, "publish") {
        let message = if !is_page {
            format!("{at} publish can only be used within a `pages` job")
        } else if directory.is_some() {
            format!("{at}:publish config these keys cannot be used together: publish, pages:publish")
        } else {
            directory = reader.text(&format!("{at}:publish"), &publish.value);
            String::new()
        };
        if !message.is_empty() {
            reader.report(Diagnostic::error("pages-publish", message).at(publish.key).help("use `pages: {publish: DIRECTORY}`"));
        }
    }
    if is_page {
        let directory = directory.unwrap_or_else(|| DEFAULT_DIRECTORY.to_owned());
        let artifacts = artifacts.get_or_insert_with(Artifacts::default);
        if !artifacts.paths.contains(&directory) {
            artifacts.paths.push(directory);
        }
    }
}

/// Describes `pages`.
pub(super) fn shape() -> Shape {
    let keys = Shape::map(KEYS, |key| match key {
        "publish" => ("The directory that is served.", Shape::Text),
        "path_prefix" => ("Path below which this version of the site is served.", Shape::Text),
        "expire_in" => ("When this version is removed, such as `1 week`, or `never`.", Shape::Text),
        _ => UNDESCRIBED,
    });
    Shape::Either(vec![Shape::Boolean, keys])
}
