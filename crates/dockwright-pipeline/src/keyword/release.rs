//! `release`: what GitLab makes of the tag after the job has succeeded.

use super::{
    Reader, present,
    server_side::required,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    pipeline::{Release, ReleaseLink},
    yaml::{Map, Node},
};

const KEYS: &[&str] = &["tag_name", "tag_message", "name", "description", "ref", "released_at", "milestones", "assets"];
const ASSET_KEYS: &[&str] = &["links"];
const LINK_KEYS: &[&str] = &["name", "url", "filepath", "link_type"];

/// Reads `release` of a job.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Release> {
    let map = reader.map(at, node)?;
    reader.unknown_keys(at, map, KEYS);
    required(reader, at, node, map, &["tag_name", "description"]);
    let text = |reader: &mut Reader<'_>, key: &str| present(map, key).and_then(|entry| reader.text(&format!("{at}:{key}"), &entry.value));
    let milestones = present(map, "milestones").and_then(|entry| reader.text_or_texts(&format!("{at}:milestones"), &entry.value));
    let links = present(map, "assets").map(|entry| assets(reader, &format!("{at}:assets"), &entry.value));
    Some(Release {
        tag_name: text(reader, "tag_name")?,
        tag_message: text(reader, "tag_message"),
        name: text(reader, "name"),
        description: text(reader, "description")?,
        ref_name: text(reader, "ref"),
        released_at: text(reader, "released_at"),
        milestones: milestones.unwrap_or_default(),
        links: links.unwrap_or_default(),
    })
}

fn assets(reader: &mut Reader<'_>, at: &str, node: &Node) -> Vec<ReleaseLink> {
    let Some(map) = reader.map(at, node) else { return Vec::new() };
    reader.unknown_keys(at, map, ASSET_KEYS);
    let Some(links) = present(map, "links") else { return Vec::new() };
    let at = format!("{at}:links");
    let Some(items) = links.value.as_list() else {
        reader.wrong_type(&at, &links.value, "an array of hashes");
        return Vec::new();
    };
    items.iter().filter_map(|item| reader.map(&at, item).cloned().and_then(|map| link(reader, &at, item, &map))).collect()
}

fn link(reader: &mut Reader<'_>, at: &str, node: &Node, map: &Map) -> Option<ReleaseLink> {
    reader.unknown_keys(at, map, LINK_KEYS);
    required(reader, at, node, map, &["name", "url"]);
    let mut text = |key: &str| present(map, key).and_then(|entry| reader.text(&format!("{at}:{key}"), &entry.value));
    Some(ReleaseLink { name: text("name")?, url: text("url")?, filepath: text("filepath"), link_type: text("link_type") })
}

/// Describes `release`.
pub(super) fn shape() -> Shape {
    Shape::map(KEYS, |key| match key {
        "tag_name" => ("The tag that the release is of.", Shape::Text),
        "tag_message" => ("Message of the tag when it is made.", Shape::Text),
        "name" => ("Title of the release.", Shape::Text),
        "description" => ("Text of the release, or a file with it.", Shape::Text),
        "ref" => ("What the tag is made of when it does not exist.", Shape::Text),
        "released_at" => ("Date of the release, in ISO 8601.", Shape::Text),
        "milestones" => ("Milestones of the release.", Shape::one_or_list(Shape::Text)),
        "assets" => ("Files of the release.", Shape::map(ASSET_KEYS, asset_shape)),
        _ => UNDESCRIBED,
    })
}

fn asset_shape(key: &str) -> (&'static str, Shape) {
    match key {
        "links" => ("Links to files.", Shape::list(Shape::map(LINK_KEYS, asset_shape))),
        "name" => ("Text of the link.", Shape::Text),
        "url" => ("Address of the file.", Shape::Text),
        "filepath" => ("Path of a lasting address on GitLab.", Shape::Text),
        "link_type" => ("Kind of the file, such as `package`.", Shape::Text),
        _ => UNDESCRIBED,
    }
}
