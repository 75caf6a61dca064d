//! `script`, `before_script`, `after_script`, `hooks`: commands, as a text or as lists that may hold lists.

use super::{
    Reader, present,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    yaml::{Entry, Node},
};

const HOOKS: &[&str] = &["pre_get_sources_script"];

/// Reads `script`, which must hold something.
pub(super) fn read_main(reader: &mut Reader<'_>, at: &str, entry: &Entry) -> Vec<String> {
    let lines = read(reader, at, &entry.value).unwrap_or_else(|| vec![String::new()]);
    if lines.is_empty() || (lines.len() == 1 && entry.value.as_text().is_some_and(str::is_empty)) {
        reader.report(Diagnostic::error("script-blank", format!("{at} can't be blank")).at(entry.key).help("list at least one command"));
    }
    lines
}

/// Reads a list of commands.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<String>> {
    reader.nested_texts(at, node)
}

/// Reads `hooks`.
pub(super) fn read_hooks(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<String>> {
    let map = reader.map(at, node)?;
    reader.unknown_keys(at, map, HOOKS);
    let entry = present(map, "pre_get_sources_script")?;
    read(reader, &format!("{at}:pre_get_sources_script"), &entry.value)
}

/// Describes commands.
pub(super) fn shape() -> Shape {
    Shape::nested(Shape::Text)
}

/// Describes `hooks`.
pub(super) fn hooks_shape() -> Shape {
    Shape::map(HOOKS, |key| match key {
        "pre_get_sources_script" => ("Commands before the sources are fetched.", shape()),
        _ => UNDESCRIBED,
    })
}
