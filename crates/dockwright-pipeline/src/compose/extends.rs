//! `extends`: a job takes over what other entries say.

use std::sync::Arc;

use indexmap::IndexMap;

use super::{merge, merge_into};
use crate::{
    diagnostic::Diagnostic,
    source::Span,
    suggestion::did_you_mean,
    yaml::{Map, Node, Value},
};

/// Most ancestors in a chain.
const MAX_DEPTH: usize = 10;

/// Resolves `extends` of every entry of the root.
pub(super) fn resolve(root: &Map, problems: &mut Vec<Diagnostic>) -> Map {
    let mut resolver = Resolver { root, resolved: IndexMap::new(), stack: Vec::new(), problems };
    for name in root.keys() {
        resolver.entry(name);
    }
    let Resolver { mut resolved, .. } = resolver;
    let mut output = root.clone();
    for (name, entry) in &mut output {
        if let Some(done) = resolved.swap_remove(name) {
            entry.value = done.node;
        }
    }
    output
}

struct Resolver<'a> {
    root: &'a Map,
    /// Entries that are done.
    resolved: IndexMap<String, Resolved>,
    /// Entries that are being resolved, the outermost first.
    stack: Vec<String>,
    problems: &'a mut Vec<Diagnostic>,
}

/// An entry that is done.
#[derive(Clone)]
struct Resolved {
    node: Arc<Node>,
    /// Ancestors in its longest chain.
    ancestors: usize,
}

impl Resolver<'_> {
    fn entry(&mut self, name: &str) -> Resolved {
        if let Some(done) = self.resolved.get(name) {
            return done.clone();
        }
        let node = self.root[name].value.clone();
        let parents = node.as_map().and_then(|map| map.get("extends")).filter(|entry| !entry.value.is_null()).cloned();
        let Some(parents) = parents else { return Resolved { node, ancestors: 0 } };
        let mut merged = Map::new();
        let mut ancestors = 0;
        self.stack.push(name.to_owned());
        for (parent, span) in self.parent_names(name, &parents.value) {
            let Some(parent) = self.parent(name, &parent, span) else { continue };
            ancestors = ancestors.max(parent.ancestors + 1);
            if let Some(map) = parent.node.as_map() {
                merge_into(&mut merged, map);
            }
        }
        self.stack.pop();
        let merged = merge(&Arc::new(Node::new(Value::Map(merged), node.span)), &node);
        let done = Resolved { node: merged, ancestors };
        self.resolved.insert(name.to_owned(), done.clone());
        done
    }

    fn parent_names(&mut self, name: &str, node: &Arc<Node>) -> Vec<(String, Span)> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let names: Option<Vec<_>> = items.iter().map(|item| Some((item.as_text()?.to_owned(), item.span))).collect();
        names.unwrap_or_else(|| {
            let message = format!("jobs:{name}:extends config should be an array of strings or a string");
            self.problems.push(Diagnostic::error("extends-type", message).at(node.span));
            Vec::new()
        })
    }

    fn parent(&mut self, name: &str, parent: &str, span: Span) -> Option<Resolved> {
        let Some(entry) = self.root.get(parent) else {
            self.problems.push(
                Diagnostic::error("extends-unknown", format!("{name}: unknown keys in `extends` ({parent})"))
                    .at(span)
                    .help_if(did_you_mean(parent, self.root.keys().map(String::as_str))),
            );
            return None;
        };
        if entry.value.as_map().is_none() {
            self.problems.push(
                Diagnostic::error("extends-invalid", format!("{name}: invalid base hashes in `extends` ({parent})"))
                    .at(span)
                    .also(entry.key, format!("this is {}, but only a mapping can be extended", entry.value.kind())),
            );
            return None;
        }
        if self.stack.iter().any(|outer| outer == parent) {
            self.problems.push(Diagnostic::error("extends-cycle", format!("{name}: circular dependency detected in `extends`")).at(span));
            return None;
        }
        // The first keeps the recursion short, the second finds chains whose upper part was resolved before.
        if self.stack.len() > MAX_DEPTH {
            self.too_deep(name, span);
            return None;
        }
        let parent = self.entry(parent);
        if parent.ancestors >= MAX_DEPTH {
            self.too_deep(name, span);
            return None;
        }
        Some(parent)
    }

    fn too_deep(&mut self, name: &str, span: Span) {
        self.problems.push(
            Diagnostic::error("extends-depth", format!("{name}: nesting too deep in `extends`"))
                .at(span)
                .help(format!("at most {MAX_DEPTH} ancestors are allowed")),
        );
    }
}
