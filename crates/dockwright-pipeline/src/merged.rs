//! The configuration as one document: files included, parents merged, references resolved.

use std::sync::Arc;

use crate::{
    keyword::default,
    yaml::{self, Entry, Map, Node, Value},
};

/// A configuration after composition, as GitLab's editor shows it.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    root: Map,
}

impl Merged {
    /// Takes a composed configuration. Where stages are written, the first and the last are written too.
    pub(crate) fn new(root: &Map) -> Self {
        let mut root = root.clone();
        if let Some(entry) = root.get_mut("stages")
            && let Some(stages) = entry.value.as_list()
        {
            let span = entry.value.span;
            let edge = |name: &str| Arc::new(Node::new(Value::Text(name.to_owned()), span));
            let is_edge = |stage: &Arc<Node>| matches!(stage.as_text(), Some(".pre" | ".post"));
            let between = stages.iter().filter(|stage| !is_edge(stage)).cloned();
            let stages = std::iter::once(edge(".pre")).chain(between).chain([edge(".post")]).collect();
            entry.value = Arc::new(Node::new(Value::List(stages), span));
        }
        Self { root }
    }

    /// Writes it as YAML.
    pub fn to_yaml(&self) -> String {
        yaml::to_yaml(&self.root)
    }

    /// Writes it as JSON, in the order of the configuration.
    pub fn to_json(&self) -> String {
        yaml::to_json(&self.root)
    }

    /// Writes one entry as YAML, with what it takes over from its parents and from `default`. Absent: there is no such mapping.
    pub fn entry_to_yaml(&self, name: &str) -> Option<String> {
        let written = self.root.get(name)?;
        let effective = default::effective(&self.root, name)?;
        let value = Arc::new(Node::new(Value::Map(effective), written.value.span));
        let document = yaml::to_yaml(&Map::from([(name.to_owned(), Entry { value, ..written.clone() })]));
        Some(document.trim_start_matches("---\n").to_owned())
    }
}
