//! What is known of the word under the cursor.

use std::fmt::Write as _;

use dockwright_pipeline::{Name, Outline, Shape, Step, language, variables_of};
use lsp_types::{Hover, HoverContents, MarkupContent, MarkupKind};

use super::{
    analysis::Analysis,
    definition::{Named, entry_at, named_at, variable_at},
    server::Place,
    symbols::is_keyword,
};

pub(super) fn hover(place: &Place<'_>) -> Option<Hover> {
    let value = text(place)?;
    Some(Hover { contents: HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value }), range: None })
}

fn text(place: &Place<'_>) -> Option<String> {
    let (text, offset) = (place.document.text.as_str(), place.offset);
    let entry = entry_at(text, offset);
    if let Some(name) = variable_at(text, offset) {
        return variable(&place.analysis, entry.as_deref(), &name);
    }
    if let Some(Named::Thing(Name::Job | Name::Entry, name)) = named_at(text, offset) {
        return job(&place.analysis, &name);
    }
    let outline = Outline::read(text);
    let path = outline.path(outline.at(offset)?);
    match path.as_slice() {
        [Step::Key(name)] if !is_keyword(name) => job(&place.analysis, name),
        [.., Step::Key(parent), Step::Key(name)] if parent == "variables" => variable(&place.analysis, entry.as_deref(), name),
        [before @ .., Step::Key(name)] => keyword(before, name),
        // A value in a list is explained by the key of the list.
        _ => {
            let end = path.iter().rposition(|step| matches!(step, Step::Key(_)))?;
            let Step::Key(name) = &path[end] else { return None };
            keyword(&path[..end], name)
        }
    }
}

/// Says what a key does, and which words it takes.
fn keyword(before: &[Step], name: &str) -> Option<String> {
    let key = language().at(before).into_iter().find_map(|shape| if let Shape::Map(keys) = shape { keys.get(name) } else { None })?;
    let mut text = format!("`{name}`: {}", key.meaning);
    let words = key.shape.alternatives().into_iter().find_map(|shape| if let Shape::Words(words) = shape { Some(words) } else { None });
    if let Some(words) = words {
        let _ = write!(text, "\n\nOne of `{}`.", words.join("`, `"));
    }
    Some(text)
}

/// Shows an entry as it is with what it takes over.
fn job(analysis: &Analysis, name: &str) -> Option<String> {
    let yaml = analysis.merged.as_ref()?.entry_to_yaml(name)?;
    let what = if name.starts_with('.') { "hidden entry, with what it extends" } else { "job, with what it takes over" };
    // A fence in the text would end the block.
    let fence = "`".repeat(longest_run(&yaml).max(2) + 1);
    Some(format!("`{name}`: {what}\n\n{fence}yaml\n{yaml}{fence}"))
}

fn longest_run(text: &str) -> usize {
    text.split(|next| next != '`').map(str::len).max().unwrap_or(0)
}

/// Says what a variable is in a job, and where it comes from.
fn variable(analysis: &Analysis, entry: Option<&str>, name: &str) -> Option<String> {
    let job = entry.and_then(|entry| analysis.config.jobs_named(entry).first().copied());
    let known = job.and_then(|job| variables_of(&analysis.config, &analysis.context, job)).unwrap_or_default();
    if let Some(variable) = known.iter().find(|variable| variable.key == name) {
        return Some(format!("`{name}`: from {}\n\n```text\n{}\n```", variable.origin.as_str(), variable.value));
    }
    if let Some(value) = analysis.context.predefined.get(name) {
        return Some(format!("`{name}`: predefined\n\n```text\n{value}\n```"));
    }
    let found = analysis.find(&["variables", name]).or_else(|| analysis.find(&[entry?, "variables", name]))?;
    let value = found.outline.marks()[found.index].value.clone().map_or("", |value| &found.source.text[value]);
    Some(format!("`{name}`: from {}\n\n```text\n{value}\n```", found.source.name))
}
