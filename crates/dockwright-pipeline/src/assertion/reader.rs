//! From the bytes of a file to its cases.

use super::{Case, ExpectedJob, Property, Situation};
use crate::{
    diagnostic::Diagnostic,
    source::{SourceId, Sources, Span},
    suggestion::did_you_mean,
    yaml::{Entry, Map, Node, Value, read as read_yaml},
};

const CASE_KEYS: [&str; 4] = ["pipeline", "jobs", "absent", "exact"];
const PIPELINE_KEYS: [&str; 7] = ["ref", "tag", "event", "target_branch", "changes", "variables", "inputs"];
const JOB_KEYS: [&str; 6] = ["stage", "when", "allow_failure", "image", "needs", "variables"];

pub(super) fn read(source: SourceId, sources: &Sources, problems: &mut Vec<Diagnostic>) -> Vec<Case> {
    let Some(document) = read_yaml(source, sources, problems) else { return Vec::new() };
    let mut reader = Reader { problems };
    let cases = document.body.as_map().into_iter().flatten();
    cases.filter_map(|(name, entry)| reader.case(name, entry)).collect()
}

struct Reader<'p> {
    problems: &'p mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn case(&mut self, name: &str, entry: &Entry) -> Option<Case> {
        let map = self.map(&entry.value, "a test")?;
        self.known_keys(map, &CASE_KEYS, "a test");
        let situation = map.get("pipeline").map(|entry| self.situation(&entry.value)).unwrap_or_default();
        let jobs = map.get("jobs").map(|entry| self.jobs(&entry.value)).unwrap_or_default();
        let absent = map.get("absent").map(|entry| self.texts(&entry.value, "`absent`")).unwrap_or_default();
        let exact = map.get("exact").is_some_and(|entry| self.boolean(&entry.value, "`exact`") == Some(true));
        if !["jobs", "absent", "exact"].iter().any(|key| map.contains_key(*key)) {
            let message = format!("test `{name}` asserts nothing");
            self.problems.push(Diagnostic::error("test-empty", message).at(entry.key).help("add `jobs` or `absent`"));
        }
        Some(Case { name: name.to_owned(), span: entry.key, situation, jobs, absent, exact })
    }

    fn situation(&mut self, node: &Node) -> Situation {
        let Some(map) = self.map(node, "`pipeline`") else { return Situation::default() };
        self.known_keys(map, &PIPELINE_KEYS, "`pipeline`");
        if let (Some(_), Some(tag)) = (map.get("ref"), map.get("tag")) {
            self.problems.push(Diagnostic::error("test-invalid", "a pipeline is for a `ref` or for a `tag`, not for both").at(tag.key));
        }
        let changes = map.get("changes").map(|entry| self.texts(&entry.value, "`changes`"));
        Situation {
            reference: self.text_of(map, "ref"),
            tag: self.text_of(map, "tag"),
            event: self.text_of(map, "event"),
            target_branch: self.text_of(map, "target_branch"),
            changes: changes.map(|paths| paths.into_iter().map(|(path, _)| path).collect()),
            variables: self.pairs(map, "variables"),
            inputs: self.pairs(map, "inputs"),
        }
    }

    /// Reads `jobs`: names in a list, or a mapping with what each is like.
    fn jobs(&mut self, node: &Node) -> Vec<ExpectedJob> {
        if let Value::List(_) = node.value {
            let names = self.texts(node, "`jobs`");
            return names.into_iter().map(|(name, span)| ExpectedJob { name, span, properties: Vec::new() }).collect();
        }
        let Some(map) = node.as_map() else {
            self.wrong(node, "`jobs`", "a mapping or a list");
            return Vec::new();
        };
        map.iter().map(|(name, entry)| self.job(name, entry)).collect()
    }

    fn job(&mut self, name: &str, entry: &Entry) -> ExpectedJob {
        let mut properties = Vec::new();
        if !entry.value.is_null()
            && let Some(map) = self.map(&entry.value, "a job")
        {
            self.known_keys(map, &JOB_KEYS, "a job");
            for (key, entry) in map {
                self.properties(key, &entry.value, &mut properties);
            }
        }
        ExpectedJob { name: name.to_owned(), span: entry.key, properties }
    }

    fn properties(&mut self, key: &str, node: &Node, properties: &mut Vec<(Property, Span)>) {
        let property = match key {
            "stage" => self.text(node, "`stage`").map(Property::Stage),
            "when" => self.text(node, "`when`").map(Property::When),
            "allow_failure" => self.boolean(node, "`allow_failure`").map(Property::AllowFailure),
            "image" if node.is_null() => Some(Property::Image(None)),
            "image" => self.text(node, "`image`").map(|name| Property::Image(Some(name))),
            "needs" => Some(Property::Needs(self.texts(node, "`needs`").into_iter().map(|(name, _)| name).collect())),
            "variables" => {
                for (key, entry) in self.map(node, "`variables`").into_iter().flatten() {
                    let value = if entry.value.is_null() { Some(None) } else { self.text(&entry.value, "a variable").map(Some) };
                    properties.extend(value.map(|value| (Property::Variable(key.clone(), value), entry.value.span)));
                }
                None
            }
            _ => None,
        };
        properties.extend(property.map(|property| (property, node.span)));
    }

    fn known_keys(&mut self, map: &Map, known: &[&str], what: &str) {
        for (key, entry) in map {
            if !known.contains(&key.as_str()) {
                let problem = Diagnostic::error("test-unknown-key", format!("{what} has no key `{key}`")).at(entry.key);
                let all = format!("the keys are `{}`", known.join("`, `"));
                self.problems.push(problem.help(did_you_mean(key, known.iter().copied()).unwrap_or(all)));
            }
        }
    }

    fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Map> {
        let map = node.as_map();
        if map.is_none() {
            self.wrong(node, what, "a mapping");
        }
        map
    }

    fn texts(&mut self, node: &Node, what: &str) -> Vec<(String, Span)> {
        let Some(items) = node.as_list() else {
            self.wrong(node, what, "a list");
            return Vec::new();
        };
        items.iter().filter_map(|item| Some((self.text(item, what)?, item.span))).collect()
    }

    fn text_of(&mut self, map: &Map, key: &str) -> Option<String> {
        self.text(&map.get(key)?.value, &format!("`{key}`"))
    }

    fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = node.scalar_text().filter(|_| !node.is_null());
        if text.is_none() {
            self.wrong(node, what, "text");
        }
        text
    }

    fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        self.wrong(node, what, "true or false");
        None
    }

    fn pairs(&mut self, map: &Map, key: &str) -> Vec<(String, String)> {
        let Some(entry) = map.get(key) else { return Vec::new() };
        let Some(pairs) = self.map(&entry.value, &format!("`{key}`")) else { return Vec::new() };
        pairs.iter().filter_map(|(name, entry)| Some((name.clone(), self.text(&entry.value, &format!("`{name}`"))?))).collect()
    }

    fn wrong(&mut self, node: &Node, what: &str, wanted: &str) {
        self.problems.push(Diagnostic::error("test-invalid", format!("{what} must be {wanted}, but it is {}", node.kind())).at(node.span));
    }
}
