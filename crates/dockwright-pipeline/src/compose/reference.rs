//! `!reference [entry, key, …]`: any value of the merged configuration, inserted where it is named.

use std::{collections::HashMap, sync::Arc};

use crate::{
    diagnostic::Diagnostic,
    yaml::{Entry, Map, Node, Value},
};

/// Most references that lead to each other.
const MAX_CHAIN: usize = 20;

/// Replaces every reference. A reference that cannot be resolved is reported and stays.
pub(super) fn resolve(root: Map, problems: &mut Vec<Diagnostic>) -> Map {
    if !root.values().any(|entry| entry.value.has_reference) {
        return root;
    }
    let mut resolver = Resolver { root: &root, done: HashMap::new(), stack: Vec::new(), problems };
    root.iter().map(|(name, entry)| (name.clone(), Entry { value: resolver.node(&entry.value), ..entry.clone() })).collect()
}

struct Resolver<'a> {
    root: &'a Map,
    done: HashMap<Vec<String>, Arc<Node>>,
    /// References that are being resolved, the outermost first.
    stack: Vec<Vec<String>>,
    problems: &'a mut Vec<Diagnostic>,
}

impl Resolver<'_> {
    // The depth is limited by that of the document times the number of different references in a chain.
    fn node(&mut self, node: &Arc<Node>) -> Arc<Node> {
        if !node.has_reference {
            return node.clone();
        }
        let value = match &node.value {
            Value::List(items) => Value::List(items.iter().map(|item| self.node(item)).collect()),
            Value::Map(map) => Value::Map(
                map.iter().map(|(key, entry)| (key.clone(), Entry { value: self.node(&entry.value), ..entry.clone() })).collect(),
            ),
            Value::Reference(path) => return self.reference(path.as_deref(), node).unwrap_or_else(|| node.clone()),
            scalar => scalar.clone(),
        };
        Arc::new(Node::new(value, node.span))
    }

    fn reference(&mut self, path: Option<&[String]>, node: &Node) -> Option<Arc<Node>> {
        let span = node.span;
        let Some(path) = path else {
            self.problems.push(
                Diagnostic::error("reference-invalid", "!reference is not valid")
                    .at(span)
                    .help("name a list of keys from the root of the configuration: `!reference [job, script]`"),
            );
            return None;
        };
        if let Some(done) = self.done.get(path) {
            return Some(done.clone());
        }
        let text = format!("!reference {path:?}");
        if self.stack.iter().any(|outer| outer == path) {
            self.problems.push(Diagnostic::error("reference-cycle", format!("{text} is part of a circular chain")).at(span));
            return None;
        }
        if self.stack.len() >= MAX_CHAIN {
            self.problems.push(Diagnostic::error("reference-depth", format!("{text} is nested too deep")).at(span));
            return None;
        }
        let Some(target) = self.find(path) else {
            let mut problem = Diagnostic::error("reference-unknown", format!("{text} could not be found")).at(span);
            problem = problem.help_if(self.nearest(path));
            self.problems.push(problem);
            return None;
        };
        self.stack.push(path.to_owned());
        let resolved = self.node(&target);
        self.stack.pop();
        if resolved.is_too_big() {
            self.problems.push(Diagnostic::error("yaml-too-big", format!("{text} makes the configuration too big")).at(span));
            return None;
        }
        self.done.insert(path.to_owned(), resolved.clone());
        Some(resolved)
    }

    fn find(&self, path: &[String]) -> Option<Arc<Node>> {
        let (first, rest) = path.split_first()?;
        let start = self.root.get(first)?.value.clone();
        let found = rest.iter().try_fold(start, |node, key| Some(node.as_map()?.get(key)?.value.clone()))?;
        (!found.is_null()).then_some(found)
    }

    /// Points at the first part of the path that does not exist.
    fn nearest(&self, path: &[String]) -> Option<String> {
        let mut map = self.root;
        for key in path {
            match map.get(key) {
                Some(entry) => map = entry.value.as_map()?,
                None => return crate::suggestion::did_you_mean(key, map.keys().map(String::as_str)),
            }
        }
        None
    }
}
