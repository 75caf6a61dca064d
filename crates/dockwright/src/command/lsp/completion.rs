//! What may be typed at the cursor: keys, values, names and variables.

use std::collections::{BTreeMap, BTreeSet};

use dockwright_pipeline::{Cursor, Key, Keys, Name, Outline, Shape, Step, language, variables_of};
use lsp_types::{CompletionItem, CompletionItemKind, CompletionTextEdit, Documentation, Range, TextEdit};

use super::{analysis::Analysis, document, server::Place, symbols::is_keyword};

pub(super) fn complete(place: &Place<'_>) -> Vec<CompletionItem> {
    let (text, offset) = (place.document.text.as_str(), place.offset);
    let Some(cursor) = Cursor::at(text, offset) else { return Vec::new() };
    if let Some(start) = variable_start(text, offset) {
        let range = document::range(text, start..offset);
        return variables(&place.analysis, &cursor).into_iter().map(|(name, origin)| variable(name, origin, range)).collect();
    }
    if cursor.is_text {
        return Vec::new();
    }
    let offer = Offer { analysis: &place.analysis, text, cursor: &cursor, range: document::range(text, cursor.prefix.clone()) };
    let mut items: Vec<CompletionItem> = language().at(&cursor.path).into_iter().flat_map(|shape| offer.of_shape(shape)).collect();
    let mut seen = BTreeSet::new();
    items.retain(|item| seen.insert(item.label.clone()));
    items
}

/// Returns where the name of a variable begins that is being typed: after `$` or `${`.
fn variable_start(text: &str, offset: usize) -> Option<usize> {
    let before = text.get(..offset)?;
    let name = before.len() - before.trim_end_matches(|next: char| next.is_ascii_alphanumeric() || next == '_').len();
    let start = offset - name;
    let before = &before[..start];
    (before.ends_with('$') || before.ends_with("${")).then_some(start)
}

/// Returns the variables that may be meant, each with where it comes from.
fn variables(analysis: &Analysis, cursor: &Cursor) -> BTreeMap<String, String> {
    let predefined = analysis.context.predefined.keys().map(|name| (name.clone(), "predefined".to_owned()));
    let mut variables: BTreeMap<String, String> = predefined.collect();
    let mut add = |path: &[&str], origin: &str| {
        if let Some(found) = analysis.find(path) {
            for index in found.outline.children(Some(found.index)) {
                if let Step::Key(name) = &found.outline.marks()[index].step {
                    variables.insert(name.clone(), origin.to_owned());
                }
            }
        }
    };
    add(&["variables"], "variables");
    let Some(Step::Key(job)) = cursor.path.first() else { return variables };
    add(&[job, "variables"], job);
    let known = analysis.config.jobs_named(job).first().and_then(|job| variables_of(&analysis.config, &analysis.context, job));
    for variable in known.unwrap_or_default() {
        variables.entry(variable.key).or_insert_with(|| variable.origin.as_str().to_owned());
    }
    variables
}

fn variable(name: String, origin: String, range: Range) -> CompletionItem {
    CompletionItem { detail: Some(origin), ..item(name.clone(), name, CompletionItemKind::VARIABLE, range) }
}

fn item(label: String, text: String, kind: CompletionItemKind, range: Range) -> CompletionItem {
    let text_edit = Some(CompletionTextEdit::Edit(TextEdit { range, new_text: text }));
    CompletionItem { label, kind: Some(kind), text_edit, ..CompletionItem::default() }
}

/// Where something is offered.
struct Offer<'a> {
    analysis: &'a Analysis,
    text: &'a str,
    cursor: &'a Cursor,
    /// What is replaced.
    range: Range,
}

impl Offer<'_> {
    fn of_shape(&self, shape: &Shape) -> Vec<CompletionItem> {
        match shape {
            Shape::Map(keys) if self.may_be_key() => self.keys(keys),
            // The dash is not typed yet.
            Shape::List(inner) | Shape::Nested(inner) if !self.cursor.is_after_key => {
                let values = inner.alternatives().into_iter().flat_map(|shape| self.values(shape));
                values.map(|(label, kind)| item(label.clone(), format!("- {label}"), kind, self.range)).collect()
            }
            shape => self.values(shape).into_iter().map(|(label, kind)| item(label.clone(), label, kind, self.range)).collect(),
        }
    }

    /// After `key: `, only braces can begin a mapping.
    fn may_be_key(&self) -> bool {
        self.cursor.is_flow || !self.cursor.is_after_key
    }

    fn keys(&self, keys: &Keys) -> Vec<CompletionItem> {
        let present = self.present();
        let offered = keys.known.iter().enumerate().filter(|(_, key)| !present.contains(key.name));
        offered.map(|(rank, key)| self.key(rank, key)).collect()
    }

    fn key(&self, rank: usize, key: &Key) -> CompletionItem {
        let is_written =
            self.text[self.cursor.prefix.end..].trim_start_matches(|next: char| next.is_alphanumeric() || next == '_').starts_with(':');
        let text = if is_written { key.name.to_owned() } else { format!("{}: ", key.name) };
        CompletionItem {
            documentation: Some(Documentation::String(key.meaning.to_owned())),
            // The common ones first, as the language lists them.
            sort_text: Some(format!("{rank:03}")),
            filter_text: Some(key.name.to_owned()),
            ..item(key.name.to_owned(), text, CompletionItemKind::PROPERTY, self.range)
        }
    }

    /// Returns the keys that the mapping has already.
    fn present(&self) -> BTreeSet<String> {
        let outline = Outline::read(self.text);
        let owner = self.cursor.owner.and_then(|start| outline.marks().iter().position(|mark| mark.name.start == start));
        let words = outline.children(owner).filter(|index| outline.marks()[*index].name.start != self.cursor.prefix.start);
        words.filter_map(|index| if let Step::Key(name) = &outline.marks()[index].step { Some(name.clone()) } else { None }).collect()
    }

    fn values(&self, shape: &Shape) -> Vec<(String, CompletionItemKind)> {
        let words = |words: &[&str], kind| words.iter().map(|word| ((*word).to_owned(), kind)).collect();
        match shape {
            Shape::Words(allowed) => words(allowed, CompletionItemKind::ENUM_MEMBER),
            Shape::Boolean => words(&["true", "false"], CompletionItemKind::VALUE),
            Shape::Name(name) => self.names(*name),
            _ => Vec::new(),
        }
    }

    fn names(&self, name: Name) -> Vec<(String, CompletionItemKind)> {
        let own = match self.cursor.path.first() {
            Some(Step::Key(own)) => own.as_str(),
            _ => "",
        };
        let mut entries = self.analysis.entries().map(|(entry, _)| entry).filter(|entry| !is_keyword(entry) && *entry != own);
        let all = |names: &mut dyn Iterator<Item = &str>, kind| names.map(|name| (quoted(name), kind)).collect();
        match name {
            Name::Job => {
                let made = self.analysis.config.job_names().filter(|job| *job != own);
                all(&mut entries.filter(|entry| !entry.starts_with('.')).chain(made), CompletionItemKind::FUNCTION)
            }
            Name::Entry => all(&mut entries, CompletionItemKind::CLASS),
            Name::Stage => all(&mut self.stages().iter().map(String::as_str), CompletionItemKind::ENUM_MEMBER),
            Name::File => all(&mut self.analysis.files.iter().map(String::as_str), CompletionItemKind::FILE),
            Name::Variable => {
                let root = self.analysis.find(&["variables"]);
                let marks = root.map(|root| root.outline.children(Some(root.index)).map(move |index| &root.outline.marks()[index].step));
                let mut names =
                    marks.into_iter().flatten().filter_map(|step| if let Step::Key(name) = step { Some(name.as_str()) } else { None });
                all(&mut names, CompletionItemKind::VARIABLE)
            }
        }
    }

    /// Returns the stages, from the text when the configuration cannot be understood at this moment.
    fn stages(&self) -> Vec<String> {
        if !self.analysis.config.stages().is_empty() {
            return self.analysis.config.stages().to_vec();
        }
        let Some(found) = self.analysis.find(&["stages"]) else {
            return [".pre", "build", "test", "deploy", ".post"].map(str::to_owned).to_vec();
        };
        let values = found.outline.children(Some(found.index)).filter_map(|index| found.outline.marks()[index].value.clone());
        values.map(|value| found.source.text[value].to_owned()).collect()
    }
}

/// Returns a name as it is written in a list: in quotes where it would be something else.
fn quoted(name: &str) -> String {
    let is_plain = |next: char| next.is_alphanumeric() || "-_./ ".contains(next);
    let is_safe = name.chars().all(is_plain) && !name.starts_with(['-', ' ']) && !name.starts_with(|first: char| first.is_ascii_digit());
    if is_safe { name.to_owned() } else { format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")) }
}
