//! `include`: other files of the same repository.

use std::sync::Arc;

use indexmap::IndexMap;

use super::merge_maps;
use crate::{
    diagnostic::Diagnostic,
    glob,
    keyword::{self, Reader, rules::Scope},
    loader::{LoadError, Loader},
    pipeline::PipelineContext,
    repository::Repository,
    source::{Sources, Span},
    suggestion::did_you_mean,
    variables::expand_blank,
    yaml::{self, Map, Node, Value},
};

/// Most includes of a configuration, at all depths.
const MAX_INCLUDES: usize = 150;

const KINDS: &[&str] = &["local", "project", "remote", "template", "component", "artifact"];
const KEYS: &[&str] =
    &["local", "project", "remote", "template", "component", "artifact", "file", "ref", "job", "inputs", "rules", "integrity", "cache"];

/// Reads a file and its includes, merged: each include over those before it, the file itself over all.
pub(super) fn read(
    path: &str,
    loader: &dyn Loader,
    context: &PipelineContext,
    sources: &mut Sources,
    problems: &mut Vec<Diagnostic>,
) -> Option<Map> {
    let mut variables = context.predefined.clone();
    variables.extend(context.variables.clone());
    let mut includer =
        Includer { loader, variables, repository: context.repository.as_deref(), sources, problems, stack: Vec::new(), count: 0 };
    match includer.loader.load_local(path) {
        Ok(text) => includer.file(path, text),
        Err(error) => {
            let problem = match error {
                LoadError::NotFound => Diagnostic::error("config-not-found", format!("there is no `{path}` in this repository"))
                    .help("create it, or name another file"),
                LoadError::Unreadable(reason) => Diagnostic::error("config-unreadable", format!("cannot read `{path}`: {reason}")),
            };
            includer.problems.push(problem);
            None
        }
    }
}

struct Includer<'a> {
    loader: &'a dyn Loader,
    variables: IndexMap<String, String>,
    repository: Option<&'a dyn Repository>,
    sources: &'a mut Sources,
    problems: &'a mut Vec<Diagnostic>,
    /// Files that are being read, the outermost first.
    stack: Vec<String>,
    count: usize,
}

impl Includer<'_> {
    fn file(&mut self, path: &str, text: String) -> Option<Map> {
        let source = self.sources.add(path, text);
        let document = yaml::read(source, self.sources, self.problems)?;
        if let Some(header) = &document.header {
            self.header(header);
        }
        let Value::Map(own) = &document.body.value else { return None };
        let mut own = own.clone();
        let mut merged = Map::new();
        if let Some(include) = own.shift_remove("include").filter(|entry| !entry.value.is_null()) {
            self.stack.push(path.to_owned());
            let entries = match &include.value.value {
                Value::List(items) => items.clone(),
                _ => vec![include.value.clone()],
            };
            for entry in &entries {
                for included in self.entry(entry) {
                    merged = merge_maps(&merged, &included);
                }
            }
            self.stack.pop();
        }
        Some(merge_maps(&merged, &own))
    }

    fn header(&mut self, header: &Arc<Node>) {
        let spec = header.as_map().and_then(|map| map.get("spec"));
        if let Some(spec) = spec.filter(|spec| spec.value.as_map().is_some_and(|map| !map.is_empty())) {
            self.problems.push(
                Diagnostic::error("unsupported-keyword", "`spec` is not supported yet")
                    .at(spec.key)
                    .help("replace `$[[ inputs.… ]]` by variables"),
            );
        }
    }

    fn entry(&mut self, node: &Arc<Node>) -> Vec<Map> {
        match &node.value {
            Value::Text(text) => {
                let text = expand_blank(text, &self.variables);
                if text.contains("://") {
                    self.unsupported("remote", node.span);
                    return Vec::new();
                }
                self.local(&text, node.span)
            }
            Value::Map(map) => self.mapping(map, node.span),
            _ => {
                self.problems.push(
                    Diagnostic::error(
                        "include-form",
                        format!("include config should be a text, a mapping or a list of them, but it is {}", node.kind()),
                    )
                    .at(node.span)
                    .help("for example `include: path/to/file.yml`"),
                );
                Vec::new()
            }
        }
    }

    fn mapping(&mut self, map: &Map, span: Span) -> Vec<Map> {
        let kinds: Vec<&&str> = KINDS.iter().filter(|kind| map.contains_key(**kind)).collect();
        Reader::new(self.problems).unknown_keys("include", map, KEYS);
        let kind = match kinds.as_slice() {
            [kind] => **kind,
            [] => {
                self.problems.push(Diagnostic::error("include-form", "the include does not have a valid subkey. Valid subkeys are: `local`, `project`, `remote`, `template`, `artifact`, `component`").at(span));
                return Vec::new();
            }
            [_, second, ..] => {
                self.problems.push(
                    Diagnostic::error(
                        "include-form",
                        "Each include must use only one of: `local`, `project`, `remote`, `template`, `artifact`, `component`",
                    )
                    .at(map[**second].key)
                    .help("make two entries of a list"),
                );
                return Vec::new();
            }
        };
        if !self.rules_hold(map) {
            return Vec::new();
        }
        if kind != "local" {
            self.unsupported(kind, map[kind].key);
            return Vec::new();
        }
        if let Some(inputs) = map.get("inputs") {
            self.problems.push(
                Diagnostic::error("unsupported-keyword", "`include:inputs` is not supported yet")
                    .at(inputs.key)
                    .help("use variables instead"),
            );
        }
        let Some(path) = map["local"].value.as_text() else {
            self.problems.push(Diagnostic::error("include-form", "include:local config should be a text").at(map["local"].value.span));
            return Vec::new();
        };
        let path = expand_blank(path, &self.variables);
        self.local(&path, map["local"].value.span)
    }

    fn rules_hold(&mut self, map: &Map) -> bool {
        let Some(rules) = map.get("rules") else { return true };
        let rules = keyword::rules::read_include_rules(&mut Reader::new(self.problems), &rules.value);
        let scope = Scope { variables: &self.variables, repository: self.repository };
        match keyword::rules::first_match(&rules, &scope) {
            Ok(rule) => rule.is_some_and(|rule| !rule.is_never()),
            Err(problem) => {
                self.problems.push(problem);
                false
            }
        }
    }

    fn unsupported(&mut self, kind: &str, span: Span) {
        self.problems.push(
            Diagnostic::error("unsupported-keyword", format!("`include:{kind}` is not supported yet"))
                .at(span)
                .help("copy the file into this repository and use `include:local`"),
        );
    }

    fn local(&mut self, pattern: &str, span: Span) -> Vec<Map> {
        let pattern = pattern.trim_start_matches('/');
        if !pattern.contains('*') {
            return self.include(pattern, span).into_iter().collect();
        }
        let matcher = glob::include_pattern(pattern);
        let mut paths = self.loader.list_files();
        paths.retain(|path| matcher.is_match(path) && has_yaml_extension(path) && self.stack.last() != Some(path));
        paths.sort();
        if paths.is_empty() {
            self.problems.push(Diagnostic::error("include-not-found", format!("Local file `{pattern}` does not exist!")).at(span));
        }
        paths.iter().filter_map(|path| self.include(path, span)).collect()
    }

    fn include(&mut self, path: &str, span: Span) -> Option<Map> {
        self.count += 1;
        if self.count > MAX_INCLUDES {
            if self.count == MAX_INCLUDES + 1 {
                let problem = Diagnostic::error("include-limit", format!("Maximum of {MAX_INCLUDES} nested includes are allowed!"));
                self.problems.push(problem.at(span));
            }
            return None;
        }
        if self.stack.iter().any(|outer| outer == path) {
            let chain = self.stack.join("` → `");
            self.problems.push(
                Diagnostic::error("include-cycle", format!("`{path}` includes itself"))
                    .at(span)
                    .help(format!("the chain is `{chain}` → `{path}`")),
            );
            return None;
        }
        if !has_yaml_extension(path) {
            self.problems.push(
                Diagnostic::error("include-extension", format!("Included file `{path}` does not have YAML extension!"))
                    .at(span)
                    .help("its name must end in `.yml` or `.yaml`"),
            );
            return None;
        }
        let leaves_the_root = path.split('/').any(|part| part == "..");
        let loaded = if leaves_the_root { Err(LoadError::NotFound) } else { self.loader.load_local(path) };
        match loaded {
            Ok(text) => self.file(path, text),
            Err(LoadError::NotFound) => {
                let files = self.loader.list_files();
                let near = did_you_mean(path, files.iter().map(String::as_str));
                self.problems.push(
                    Diagnostic::error("include-not-found", format!("Local file `{path}` does not exist!"))
                        .at(span)
                        .help(near.unwrap_or_else(|| "paths start at the root of the repository, also in included files".to_owned())),
                );
                None
            }
            Err(LoadError::Unreadable(reason)) => {
                self.problems.push(Diagnostic::error("include-unreadable", format!("cannot read `{path}`: {reason}")).at(span));
                None
            }
        }
    }
}

fn has_yaml_extension(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.ends_with(".yml") || path.ends_with(".yaml")
}
