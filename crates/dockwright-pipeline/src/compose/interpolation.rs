//! `$[[ inputs.name | function ]]` in the body of a file with a header.
//!
//! Every text is looked at, keys too. A text that is one block takes over the value with its type, and a list element that becomes a list
//! is spliced into the list around it; in a longer text the value is inserted as text. What was inserted is not looked at again.

mod access;
mod function;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use indexmap::IndexMap;
use regex::Regex;

use super::inputs::plain_text;
use crate::{
    diagnostic::Diagnostic,
    source::{Sources, Span},
    yaml::{Entry, Map, Node, Value},
};

const MAX_BLOCKS: usize = 10_000;
const MAX_VISITED_NODES: usize = 500_000;
const TEXT_SIZE_BYTES: usize = 1024 * 1024;
/// Most text that blocks may insert into one file. GitLab has no such limit; it guards against values that multiply.
const INSERTED_SIZE_BYTES: usize = 16 * 1024 * 1024;
const MAX_FUNCTIONS: usize = 3;

static BLOCK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\$\[\[\s*(\S.*?\S)\s*\]\]").expect("constant"));

/// What blocks can name, and the variables that `expand_vars` sees.
pub(super) struct Scope<'a> {
    /// A mapping of `inputs` and `component`.
    pub(super) roots: Node,
    pub(super) variables: &'a IndexMap<String, String>,
    pub(super) sources: &'a Sources,
}

/// Replaces the blocks of a body. Nothing is returned when one of them is wrong.
pub(super) fn interpolate(body: &Arc<Node>, scope: &Scope<'_>, problems: &mut Vec<Diagnostic>) -> Option<Arc<Node>> {
    let before = problems.len();
    let mut interpolator = Interpolator { scope, blocks: HashMap::new(), visited: 0, inserted_bytes: 0, problems };
    let result = interpolator.node(body).unwrap_or_else(|problem| {
        interpolator.problems.push(*problem);
        body.clone()
    });
    if result.is_too_big() {
        interpolator.problems.push(Diagnostic::error("yaml-too-big", "config too large").at(result.span));
    }
    (problems.len() == before).then_some(result)
}

/// A limit that ends the work.
type Limit = Box<Diagnostic>;

struct Interpolator<'a> {
    scope: &'a Scope<'a>,
    /// Values of blocks by their text; nothing for those that were reported.
    blocks: HashMap<String, Option<Arc<Node>>>,
    visited: usize,
    inserted_bytes: usize,
    problems: &'a mut Vec<Diagnostic>,
}

impl Interpolator<'_> {
    // The depth is limited by that of the document.
    fn node(&mut self, node: &Arc<Node>) -> Result<Arc<Node>, Limit> {
        self.visit(node.span)?;
        let value = match &node.value {
            Value::Text(text) => return Ok(self.text(text, node.span)?.unwrap_or_else(|| node.clone())),
            Value::List(items) => match self.list(items)? {
                Some(items) => Value::List(items),
                None => return Ok(node.clone()),
            },
            Value::Map(map) => match self.map(map)? {
                Some(map) => Value::Map(map),
                None => return Ok(node.clone()),
            },
            Value::Reference(Some(path)) => {
                let parts = path.iter().map(|part| self.inserted(part, node.span)).collect::<Result<Vec<_>, Limit>>()?;
                Value::Reference(Some(parts))
            }
            _ => return Ok(node.clone()),
        };
        Ok(Arc::new(Node::new(value, node.span)))
    }

    /// Returns nothing when nothing changes.
    fn list(&mut self, items: &[Arc<Node>]) -> Result<Option<Vec<Arc<Node>>>, Limit> {
        let mut output = Vec::with_capacity(items.len());
        let mut is_changed = false;
        for item in items {
            let new = self.node(item)?;
            is_changed |= !Arc::ptr_eq(item, &new);
            match (&item.value, &new.value) {
                (Value::Text(_), Value::List(spliced)) => output.extend(spliced.iter().cloned()),
                _ => output.push(new),
            }
        }
        Ok(is_changed.then_some(output))
    }

    fn map(&mut self, map: &Map) -> Result<Option<Map>, Limit> {
        let mut output = Map::with_capacity(map.len());
        let mut is_changed = false;
        for (key, entry) in map {
            let new_key = if key.contains("$[[") { self.inserted(key, entry.key)? } else { key.clone() };
            let value = self.node(&entry.value)?;
            is_changed |= new_key != *key || !Arc::ptr_eq(&value, &entry.value);
            output.insert(new_key, Entry { value, ..entry.clone() });
        }
        Ok(is_changed.then_some(output))
    }

    /// Returns what a text becomes, or nothing when it holds no block.
    fn text(&mut self, text: &str, span: Span) -> Result<Option<Arc<Node>>, Limit> {
        if text.len() > TEXT_SIZE_BYTES {
            return Err(Box::new(Diagnostic::error("yaml-too-big", "config node too large").at(span)));
        }
        if !text.contains("$[[") {
            return Ok(None);
        }
        let whole = BLOCK.captures(text).filter(|found| found[0].len() == text.len());
        if let Some(found) = whole {
            let value = self.block(text, &found[1], span)?;
            return Ok(value.map(|value| Arc::new(Node::new(value.value.clone(), span))));
        }
        if !BLOCK.is_match(text) {
            return Ok(None);
        }
        let text = self.inserted(text, span)?;
        Ok(Some(Arc::new(Node::new(Value::Text(text), span))))
    }

    /// Returns a text with the values of its blocks in their places.
    fn inserted(&mut self, text: &str, span: Span) -> Result<String, Limit> {
        let mut output = String::new();
        let mut end = 0;
        for found in BLOCK.captures_iter(text) {
            let (Some(block), Some(data)) = (found.get(0), found.get(1)) else { continue };
            output.push_str(&text[end..block.start()]);
            end = block.end();
            let Some(value) = self.block(block.as_str(), data.as_str(), span)? else { continue };
            let value = plain_text(&value);
            self.inserted_bytes += value.len();
            if self.inserted_bytes > INSERTED_SIZE_BYTES {
                return Err(Box::new(Diagnostic::error("yaml-too-big", "config too large").at(span)));
            }
            output.push_str(&value);
        }
        output.push_str(&text[end..]);
        Ok(output)
    }

    /// Returns the value of a block, or nothing when it is wrong, which is reported once.
    fn block(&mut self, block: &str, data: &str, span: Span) -> Result<Option<Arc<Node>>, Limit> {
        if let Some(known) = self.blocks.get(block) {
            return Ok(known.clone());
        }
        if self.blocks.len() >= MAX_BLOCKS {
            return Err(Box::new(Diagnostic::error("interpolation-limit", "too many interpolation blocks").at(span)));
        }
        let value = match evaluate(block, data, self.scope) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(problem.at(self.place(block, span)));
                None
            }
        };
        self.blocks.insert(block.to_owned(), value.clone());
        Ok(value)
    }

    /// Finds a block in the scalar that starts at a place. A block stands in the file as it stands in the value, unless it is escaped.
    fn place(&self, block: &str, span: Span) -> Span {
        let rest = self.scope.sources.get(span.source).text.get(span.start as usize..).unwrap_or_default();
        let Some(start) = rest.find(block) else { return span };
        let at = |offset: usize| span.start.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
        Span { start: at(start), end: at(start + block.len()), ..span }
    }

    fn visit(&mut self, span: Span) -> Result<(), Limit> {
        self.visited += 1;
        if self.visited > MAX_VISITED_NODES {
            return Err(Box::new(Diagnostic::error("yaml-too-big", "config too large").at(span)));
        }
        Ok(())
    }
}

/// Evaluates what stands between the brackets: a path, then functions.
fn evaluate(block: &str, data: &str, scope: &Scope<'_>) -> Result<Arc<Node>, Diagnostic> {
    let mut parts = data.split('|').map(str::trim);
    let path = parts.next().unwrap_or_default();
    if path.split('.').next() == Some("matrix") {
        // Of the jobs of a matrix, and known only when they are made.
        return Ok(Arc::new(Node::new(Value::Text(block.to_owned()), scope.roots.span)));
    }
    let value = access::find(path, &scope.roots)?;
    let functions: Vec<&str> = parts.collect();
    if functions.len() > MAX_FUNCTIONS {
        return Err(Diagnostic::error("interpolation", "too many functions in interpolation block")
            .help(format!("at most {MAX_FUNCTIONS} functions may follow each other")));
    }
    function::apply(&functions, value, scope.variables)
}
