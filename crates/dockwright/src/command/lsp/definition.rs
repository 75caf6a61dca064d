//! Where what is named at the cursor is written.

use std::ops::Range;

use dockwright_pipeline::{Name, Outline, Shape, Step, language};
use lsp_types::{Location, Position};

use super::{
    analysis::{Analysis, Definition},
    document,
    server::Place,
};

pub(super) fn define(place: &Place<'_>) -> Option<Location> {
    if let Some(variable) = variable_at(&place.document.text, place.offset) {
        return variable_definition(place, &variable);
    }
    match named_at(&place.document.text, place.offset)? {
        Named::Key(path) => key(&place.analysis, &path),
        Named::Thing(Name::File, file) => file_start(&place.analysis, &file),
        Named::Thing(Name::Stage, stage) => stage_definition(&place.analysis, &stage),
        Named::Thing(_, name) => entry(&place.analysis, &name),
    }
}

/// What is at the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    Thing(Name, String),
    /// A part of a `!reference`, with the parts before it.
    Key(Vec<String>),
}

/// Returns what the value at a byte names.
pub(super) fn named_at(text: &str, offset: usize) -> Option<Named> {
    let outline = Outline::read(text);
    let index = outline.at(offset)?;
    let mark = &outline.marks()[index];
    let value = mark.value.clone()?;
    if let Some(path) = reference_path(text, &outline, index) {
        return Some(Named::Key(path));
    }
    let name = text[value].to_owned();
    let shapes = language().at(&outline.path(index));
    shapes.into_iter().find_map(|shape| if let Shape::Name(kind) = shape { Some(Named::Thing(*kind, name.clone())) } else { None })
}

/// Returns the parts of a `!reference` up to the item.
fn reference_path(text: &str, outline: &Outline, item: usize) -> Option<Vec<String>> {
    let mark = &outline.marks()[item];
    let before = &text[..mark.name.start];
    let bracket = before.rfind('[')?;
    if mark.step != Step::Item || !before[..bracket].trim_end().ends_with("!reference") || before[bracket..].contains(']') {
        return None;
    }
    let parts = outline.children(mark.parent).filter(|index| (bracket..=mark.name.start).contains(&outline.marks()[*index].name.start));
    parts.map(|index| outline.marks()[index].value.clone().map(|value| text[value].to_owned())).collect()
}

/// Returns the name of the variable whose `$NAME` or `${NAME}` is at a byte.
pub(super) fn variable_at(text: &str, offset: usize) -> Option<String> {
    let is_name = |next: char| next.is_ascii_alphanumeric() || next == '_';
    let before = text.get(..offset)?.trim_end_matches(is_name);
    // The cursor may be on the dollar itself.
    let (start, before) = match text[before.len()..].strip_prefix("${").or_else(|| text[before.len()..].strip_prefix('$')) {
        Some(rest) if before.len() == offset => (text.len() - rest.len(), "$"),
        _ => (before.len(), before),
    };
    let name: String = text[start..].chars().take_while(|next| is_name(*next)).collect();
    let is_variable = before.ends_with('$') || before.ends_with("${");
    (is_variable && !name.is_empty()).then_some(name)
}

/// Returns the entry of the root that a byte is in.
pub(super) fn entry_at(text: &str, offset: usize) -> Option<String> {
    let outline = Outline::read(text);
    let index = outline.children(None).filter(|index| outline.marks()[*index].name.start <= offset).last()?;
    match &outline.marks()[index].step {
        Step::Key(name) => Some(name.clone()),
        Step::Item => None,
    }
}

/// Finds a variable in the job, or else at the root.
fn variable_definition(place: &Place<'_>, name: &str) -> Option<Location> {
    let own =
        entry_at(&place.document.text, place.offset).and_then(|job| key(&place.analysis, &[job, "variables".to_owned(), name.to_owned()]));
    own.or_else(|| location(&place.analysis, place.analysis.find(&["variables", name])?))
}

/// Finds a path of keys, in the entry itself or in what it extends.
fn key(analysis: &Analysis, path: &[String]) -> Option<Location> {
    let (first, rest) = path.split_first()?;
    // Circles of `extends` end by counting.
    const MAX_ENTRIES: usize = 100;
    let mut names = vec![first.clone()];
    let mut next = 0;
    while let Some(name) = names.get(next).cloned().filter(|_| next < MAX_ENTRIES) {
        next += 1;
        let whole: Vec<&str> = std::iter::once(name.as_str()).chain(rest.iter().map(String::as_str)).collect();
        if let Some(found) = analysis.find(&whole) {
            return location(analysis, found);
        }
        names.extend(parents(analysis, &name));
    }
    None
}

/// Returns what an entry extends, the strongest first.
fn parents(analysis: &Analysis, name: &str) -> Vec<String> {
    let Some(found) = analysis.find(&[name, "extends"]) else { return Vec::new() };
    let text = |range: &Range<usize>| found.source.text[range.clone()].to_owned();
    let own = found.outline.marks()[found.index].value.iter();
    let items: Vec<usize> = found.outline.children(Some(found.index)).collect();
    own.chain(items.iter().rev().filter_map(|index| found.outline.marks()[*index].value.as_ref())).map(text).collect()
}

/// Finds an entry; a job that `parallel` makes is that of its group.
fn entry(analysis: &Analysis, name: &str) -> Option<Location> {
    let group = |name: &str| {
        let made = analysis
            .entries()
            .map(|(entry, _)| entry)
            .filter(|entry| name.strip_prefix(entry).is_some_and(|rest| rest.starts_with(": [") || rest.starts_with(' ')));
        made.max_by_key(|entry| entry.len()).map(str::to_owned)
    };
    let found = analysis.find(&[name]).or_else(|| analysis.find(&[&group(name)?]))?;
    location(analysis, found)
}

fn stage_definition(analysis: &Analysis, stage: &str) -> Option<Location> {
    let stages = analysis.find(&["stages"])?;
    let is_it = |index: &usize| stages.outline.marks()[*index].value.clone().is_some_and(|value| &stages.source.text[value] == stage);
    let index = stages.outline.children(Some(stages.index)).find(is_it)?;
    let value = stages.outline.marks()[index].value.clone()?;
    at(analysis, stages, value)
}

fn file_start(analysis: &Analysis, file: &str) -> Option<Location> {
    let path = analysis.root.join(file.trim_start_matches('/'));
    let start = Position::default();
    let is_own = analysis.has(file.trim_start_matches('/')) || analysis.files.iter().any(|known| known == file.trim_start_matches('/'));
    is_own.then(|| Some(Location { uri: document::uri_of(&path)?, range: lsp_types::Range { start, end: start } })).flatten()
}

fn location(analysis: &Analysis, found: Definition<'_>) -> Option<Location> {
    at(analysis, found, found.outline.marks()[found.index].name.clone())
}

fn at(analysis: &Analysis, found: Definition<'_>, range: Range<usize>) -> Option<Location> {
    let uri = document::uri_of(&analysis.path_of(found.source)?)?;
    Some(Location { uri, range: document::range(&found.source.text, range) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the text without its `│`, and where that was.
    fn cursor(text: &str) -> (String, usize) {
        (text.replace('│', ""), text.find('│').expect("the text has a cursor"))
    }

    #[test]
    fn names_are_what_their_keyword_says() {
        for (text, expected) in [
            ("a:\n  needs: [b│]\n", Some(Named::Thing(Name::Job, "b".to_owned()))),
            ("a:\n  needs:\n    - job: b│\n", Some(Named::Thing(Name::Job, "b".to_owned()))),
            ("a:\n  extends: .│x\n", Some(Named::Thing(Name::Entry, ".x".to_owned()))),
            ("a:\n  stage: t│est\n", Some(Named::Thing(Name::Stage, "test".to_owned()))),
            ("include:\n  - local: │a.yml\n", Some(Named::Thing(Name::File, "a.yml".to_owned()))),
            ("a:\n  script: !reference [.x, scr│ipt]\n", Some(Named::Key(vec![".x".to_owned(), "script".to_owned()]))),
            ("a:\n  script:\n    - !reference [.x│, script]\n", Some(Named::Key(vec![".x".to_owned()]))),
            ("a:\n  script: m│ake\n", None),
        ] {
            let (text, offset) = cursor(text);
            assert_eq!(named_at(&text, offset), expected, "{text}");
        }
    }

    #[test]
    fn variables_are_found_by_their_dollar() {
        for (text, expected) in [
            ("echo $│NAME", Some("NAME")),
            ("echo $NAME│", Some("NAME")),
            ("echo │$NAME", Some("NAME")),
            ("echo ${NA│ME}x", Some("NAME")),
            ("echo NA│ME", None),
            ("│", None),
            ("$│", None),
        ] {
            let (text, offset) = cursor(text);
            assert_eq!(variable_at(&text, offset).as_deref(), expected, "{text}");
        }
    }
}
