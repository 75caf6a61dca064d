//! The keywords of `.gitlab-ci.yml`, one file each: which values GitLab accepts, and what they mean.
//!
//! Locations in messages are written as GitLab writes them: `jobs:build:image config should be …`.

pub(crate) mod allow_failure;
pub(crate) mod artifacts;
pub(crate) mod cache;
pub(crate) mod coverage;
pub(crate) mod default;
pub(crate) mod duration;
pub(crate) mod environment;
pub(crate) mod image;
pub(crate) mod inherit;
pub(crate) mod job;
pub(crate) mod needs;
pub(crate) mod only;
pub(crate) mod pages;
pub(crate) mod parallel;
pub(crate) mod release;
pub(crate) mod retry;
pub(crate) mod root;
pub(crate) mod rules;
pub(crate) mod run;
pub(crate) mod script;
pub(crate) mod server_side;
pub(crate) mod shape;
pub(crate) mod start_in;
pub(crate) mod trigger;
pub(crate) mod unsupported;
pub(crate) mod variables;
pub(crate) mod workflow;

use crate::{
    diagnostic::Diagnostic,
    source::Span,
    suggestion::did_you_mean,
    yaml::{Entry, Map, Node, Value},
};

/// Deepest nesting of lists that are flattened.
const MAX_LIST_DEPTH: usize = 10;

/// Reads values, and collects what is wrong with them.
pub(crate) struct Reader<'a> {
    problems: &'a mut Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(problems: &'a mut Vec<Diagnostic>) -> Self {
        Self { problems }
    }

    /// Adds a problem, unless the same place is wrong already: one mistake, one report.
    pub(crate) fn report(&mut self, problem: Diagnostic) {
        let is_known = |known: &Diagnostic| known.is_error() && known.span.is_some() && known.span == problem.span;
        if !self.problems.iter().any(is_known) {
            self.problems.push(problem);
        }
    }

    /// Reports a value of a wrong type: `LOCATION config should be …`.
    fn wrong_type(&mut self, at: &str, node: &Node, should: &str) {
        let help = format!("it is {}", node.kind());
        self.report(Diagnostic::error("wrong-type", format!("{at} config should be {should}")).at(node.span).help(help));
    }

    /// Returns the entries of a mapping.
    fn map<'n>(&mut self, at: &str, node: &'n Node) -> Option<&'n Map> {
        if node.as_map().is_none() {
            self.wrong_type(at, node, "a hash");
        }
        node.as_map()
    }

    /// Reports keys that do not exist.
    pub(crate) fn unknown_keys(&mut self, at: &str, map: &Map, known: &[&str]) {
        for (key, entry) in map.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let problem = Diagnostic::error("unknown-key", format!("{at} config contains unknown keys: {key}")).at(entry.key);
            self.report(match did_you_mean(key, known.iter().copied()) {
                Some(help) => problem.help(help),
                None => problem.help(format!("known keys are `{}`", known.join("`, `"))),
            });
        }
    }

    /// Returns a text; numbers and booleans are none here.
    fn text(&mut self, at: &str, node: &Node) -> Option<String> {
        if node.as_text().is_none() {
            self.wrong_type(at, node, "a string");
        }
        node.as_text().map(str::to_owned)
    }

    fn boolean(&mut self, at: &str, node: &Node) -> Option<bool> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.wrong_type(at, node, "a boolean value");
                None
            }
        }
    }

    /// Returns the place of a part of a scalar's text. Escapes and folded lines are not followed: then it is the whole scalar.
    fn within(&self, span: Span, text: &str, start: usize, end: usize) -> Span {
        let width = (span.end - span.start) as usize;
        let margin = match width.checked_sub(text.len()) {
            Some(0) => 0,
            // Quotes around the same number of bytes.
            Some(2) => 1,
            _ => return span,
        };
        let at = |offset: usize| span.start + margin + u32::try_from(offset).unwrap_or(0);
        Span { start: at(start.min(text.len())), end: at(end.min(text.len())), ..span }
    }

    /// Returns a flat list of texts.
    fn texts(&mut self, at: &str, node: &Node) -> Option<Vec<String>> {
        let texts = node.as_list().and_then(|items| items.iter().map(|item| item.as_text().map(str::to_owned)).collect());
        if texts.is_none() {
            let wrong = node.as_list().and_then(|items| items.iter().find(|item| item.as_text().is_none()));
            self.wrong_type(at, wrong.map_or(node, |item| item), "an array of strings");
        }
        texts
    }

    /// Returns a text or a flat list of texts.
    fn text_or_texts(&mut self, at: &str, node: &Node) -> Option<Vec<String>> {
        match node.as_text() {
            Some(text) => Some(vec![text.to_owned()]),
            None => self.texts(at, node),
        }
    }

    /// Returns one of some words.
    pub(crate) fn one_of<T: Copy>(&mut self, at: &str, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let found = node.as_text().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let help = node.as_text().and_then(|text| did_you_mean(text, names.iter().copied()));
            let message = format!("{at} should be one of: {}", names.join(", "));
            self.report(Diagnostic::error("wrong-value", message).at(node.span).help_if(help));
        }
        found.map(|(_, value)| *value)
    }

    /// Returns texts of a list that may hold lists; a single text is a list of one.
    fn nested_texts(&mut self, at: &str, node: &Node) -> Option<Vec<String>> {
        let mut output = Vec::new();
        match flatten(node, 0, &mut output) {
            Ok(()) => Some(output),
            Err(wrong) => {
                let should = format!("config should be a string or a nested array of strings up to {MAX_LIST_DEPTH} levels deep");
                let help = match &wrong.value {
                    // `- echo "a: b"` without outer quotes is a mapping in YAML.
                    Value::Map(_) => {
                        "this is read as a mapping because of a `: `; put the whole line in single quotes, or write it as a block (`- |`)"
                            .to_owned()
                    }
                    Value::Bool(_) | Value::Integer(_) | Value::Float(_) => "put it in quotes".to_owned(),
                    _ => format!("this is {}", wrong.kind()),
                };
                self.report(Diagnostic::error("wrong-type", format!("{at} {should}")).at(wrong.span).help(help));
                None
            }
        }
    }
}

fn flatten<'n>(node: &'n Node, depth: usize, output: &mut Vec<String>) -> Result<(), &'n Node> {
    match &node.value {
        Value::Text(text) => {
            output.push(text.clone());
            Ok(())
        }
        Value::List(items) if depth < MAX_LIST_DEPTH => items.iter().try_for_each(|item| flatten(item, depth + 1, output)),
        _ => Err(node),
    }
}

/// Returns the entry of a key, unless it is null: writing nothing is the same as not writing the key.
fn present<'n>(map: &'n Map, key: &str) -> Option<&'n Entry> {
    map.get(key).filter(|entry| !entry.value.is_null())
}
