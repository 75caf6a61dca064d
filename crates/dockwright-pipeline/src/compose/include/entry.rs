//! The forms of an entry of `include`, and the files that each asks for.

use std::sync::Arc;

use super::Includer;
use crate::{
    diagnostic::Diagnostic,
    glob,
    keyword::{
        self, Reader,
        shape::{Name, Shape, UNDESCRIBED},
    },
    loader::{ComponentAddress, Place, Request},
    source::Span,
    variables::expand_blank,
    yaml::{Map, Node, Value},
};

const KINDS: &[&str] = &["local", "project", "remote", "template", "artifact", "component"];
const KEYS: &[&str] =
    &["local", "project", "remote", "template", "component", "artifact", "file", "ref", "job", "inputs", "rules", "integrity", "cache"];
/// Beginning and length of the digest of a remote file: SHA-256 in Base64.
const INTEGRITY: (&str, usize) = ("sha256-", 44);

/// A file that is to be read.
pub(super) struct Wanted {
    pub(super) request: Request,
    /// Where it is named.
    pub(super) span: Span,
    /// Where its project is named, when that is another place.
    pub(super) project_span: Option<Span>,
    pub(super) inputs: Map,
}

impl Wanted {
    fn new(request: Request, span: Span, inputs: Map) -> Self {
        Self { request, span, project_span: None, inputs }
    }
}

impl Includer<'_> {
    /// Reads the value of `include`: one entry or a list of them.
    pub(super) fn wanted(&mut self, include: &Arc<Node>) -> Vec<Wanted> {
        let entries = match &include.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(include),
        };
        entries.iter().flat_map(|entry| self.entry(entry)).collect()
    }

    fn entry(&mut self, node: &Arc<Node>) -> Vec<Wanted> {
        match &node.value {
            Value::Text(text) => {
                let text = expand_blank(text, self.variables());
                if is_url(&text) {
                    return vec![Wanted::new(Request::Remote { url: text, integrity: None }, node.span, Map::new())];
                }
                self.local(&text, node.span, &Map::new())
            }
            Value::Map(map) => self.mapping(map, node.span),
            _ => {
                let message = format!("Each include must be a hash or a string, but this is {}", node.kind());
                self.problems
                    .push(Diagnostic::error("include-form", message).at(node.span).help("for example `include: path/to/file.yml`"));
                Vec::new()
            }
        }
    }

    fn mapping(&mut self, map: &Map, span: Span) -> Vec<Wanted> {
        Reader::new(self.problems).unknown_keys("include", map, KEYS);
        let Some(kind) = self.kind(map, span) else { return Vec::new() };
        if !self.rules_hold(map) {
            return Vec::new();
        }
        let Some(inputs) = self.inputs(map) else { return Vec::new() };
        if kind == "project" {
            return self.project(map, &inputs);
        }
        let entry = &map[kind];
        let Some(text) = entry.value.as_text() else {
            let message = "Included file needs to be a string".to_owned();
            self.problems
                .push(Diagnostic::error("include-form", message).at(entry.value.span).help(format!("it is {}", entry.value.kind())));
            return Vec::new();
        };
        if kind == "local" {
            return self.local(text, entry.value.span, &inputs);
        }
        let text = expand_blank(text, self.variables());
        let request = self.distant(kind, text, map, entry.value.span);
        request.map(|request| Wanted::new(request, entry.value.span, inputs)).into_iter().collect()
    }

    /// Returns the one key that says what is included.
    fn kind(&mut self, map: &Map, span: Span) -> Option<&'static str> {
        let kinds: Vec<&'static str> =
            KINDS.iter().filter(|kind| map.get(**kind).is_some_and(|entry| !entry.value.is_null())).copied().collect();
        let subkeys = KINDS.join("`, `");
        let problem = match kinds.as_slice() {
            ["artifact"] => Diagnostic::error("include-artifact", "`include:artifact` has a meaning only in `trigger:include`")
                .at(map["artifact"].key)
                .help("the file is made by a job, so it can only be the configuration of a child pipeline"),
            [kind] => return Some(kind),
            [] => {
                let message = format!("the include does not have a valid subkey for include. Valid subkeys are: `{subkeys}`");
                let problem = Diagnostic::error("include-form", message).at(span);
                problem.help_if(
                    map.contains_key("file").then(|| "`file` belongs to `project`; a file of this repository is `local`".to_owned()),
                )
            }
            [_, second, ..] => Diagnostic::error("include-form", format!("Each include must use only one of: `{subkeys}`"))
                .at(map[*second].key)
                .help("make two entries of a list"),
        };
        self.problems.push(problem);
        None
    }

    fn rules_hold(&mut self, map: &Map) -> bool {
        let Some(rules) = map.get("rules").filter(|entry| !entry.value.is_null()) else { return true };
        let rules = keyword::rules::read_include_rules(&mut Reader::new(self.problems), &rules.value);
        let scope = keyword::rules::Scope { variables: self.variables(), repository: self.repository };
        match keyword::rules::first_match(&rules, &scope) {
            Ok(rule) => rule.is_some_and(|rule| !rule.is_never()),
            Err(problem) => {
                self.problems.push(problem);
                false
            }
        }
    }

    fn inputs(&mut self, map: &Map) -> Option<Map> {
        let Some(entry) = map.get("inputs").filter(|entry| !entry.value.is_null()) else { return Some(Map::new()) };
        if entry.value.as_map().is_none() {
            let problem = Diagnostic::error("include-form", "Given inputs must be a hash").at(entry.value.span);
            self.problems.push(problem.help(format!("it is {}", entry.value.kind())));
        }
        entry.value.as_map().cloned()
    }

    /// `local`: a path, or a pattern that finds paths. GitLab looks for files before it expands variables.
    fn local(&mut self, text: &str, span: Span, inputs: &Map) -> Vec<Wanted> {
        let place = self.place().clone();
        let wanted = |path: String| Wanted::new(Request::Local { place: place.clone(), path }, span, inputs.clone());
        let pattern = text.trim_start_matches('/');
        if !pattern.contains('*') {
            return vec![wanted(expand_blank(text, self.variables()).trim_start_matches('/').to_owned())];
        }
        let own = match self.stack.last().map(|frame| &frame.request) {
            Some(Request::Local { path, .. } | Request::Project { path, .. }) => Some(path.as_str()),
            _ => None,
        };
        let matcher = glob::include_pattern(pattern);
        let mut paths = self.loader.list_files(&place);
        paths.retain(|path| matcher.is_match(path) && Some(path.as_str()) != own);
        paths.sort();
        if paths.is_empty() {
            let problem = Diagnostic::warning("include-glob-empty", format!("no file matches `{pattern}`, so nothing is included"));
            let help = if pattern.contains('$') {
                "variables in a pattern are not expanded"
            } else {
                "`*` finds files of one directory, `**` also below it"
            };
            self.problems.push(problem.at(span).help(help));
        }
        paths.into_iter().map(wanted).collect()
    }

    /// `project`: one file or several of another project.
    fn project(&mut self, map: &Map, inputs: &Map) -> Vec<Wanted> {
        let text = |key: &str| {
            let entry = map.get(key).filter(|entry| !entry.value.is_null())?;
            Some((expand_blank(&entry.value.scalar_text()?, self.variables()), entry.value.span))
        };
        let Some((project, project_span)) = text("project").filter(|(project, _)| !project.is_empty()) else {
            let problem =
                Diagnostic::error("include-form", "include:project config should be the path of a project").at(map["project"].value.span);
            self.problems.push(problem);
            return Vec::new();
        };
        let reference = text("ref").map(|(reference, _)| reference);
        let Some(file) = map.get("file").filter(|entry| !entry.value.is_null()) else {
            let problem = Diagnostic::error("include-form", "include config must specify the file where to fetch the config from");
            self.problems.push(problem.at(map["project"].key).help("add `file: path/to/file.yml`"));
            return Vec::new();
        };
        let files = match &file.value.value {
            Value::List(items) => items.clone(),
            _ => vec![file.value.clone()],
        };
        let mut wanted = Vec::new();
        for file in files {
            let Some(path) = file.as_text() else {
                let problem =
                    Diagnostic::error("include-form", "include:file config should be a string or an array of strings").at(file.span);
                self.problems.push(problem.help(format!("it is {}", file.kind())));
                continue;
            };
            let request = Request::Project {
                project: project.trim_matches('/').to_lowercase(),
                reference: reference.clone(),
                path: expand_blank(path, self.variables()).trim_start_matches('/').to_owned(),
            };
            wanted.push(Wanted { project_span: Some(project_span), ..Wanted::new(request, file.span, inputs.clone()) });
        }
        wanted
    }

    /// `remote`, `template` and `component`.
    fn distant(&mut self, kind: &str, text: String, map: &Map, span: Span) -> Option<Request> {
        match kind {
            "remote" => {
                let integrity = self.integrity(map)?;
                Some(Request::Remote { url: text, integrity })
            }
            "template" => Some(Request::Template { name: text }),
            _ if *self.place() == Place::Nowhere => {
                self.problems
                    .push(Diagnostic::error("include-component", "Unable to use components outside of a project context").at(span));
                None
            }
            _ => {
                let address = ComponentAddress::parse(&text);
                if address.is_none() {
                    let message = format!("component '{text}' - the component path is not supported");
                    let help = "write `$CI_SERVER_FQDN/group/project/name@version`";
                    self.problems.push(Diagnostic::error("include-component", message).at(span).help(help));
                }
                address.map(Request::Component)
            }
        }
    }

    /// Returns the digest that a remote file must have, if any; nothing when it is no digest.
    fn integrity(&mut self, map: &Map) -> Option<Option<String>> {
        let Some(entry) = map.get("integrity").filter(|entry| !entry.value.is_null()) else { return Some(None) };
        let (prefix, length) = INTEGRITY;
        let digest = entry.value.as_text().filter(|text| text.strip_prefix(prefix).is_some_and(|digits| digits.len() == length));
        if digest.is_none() {
            let problem = Diagnostic::error("include-integrity", "include:integrity config must be `sha256-` and a digest in Base64");
            self.problems.push(
                problem.at(entry.value.span).help("print it with `sha256sum`, or leave the key out to see it with `dockwright lint`"),
            );
        }
        digest.map(|digest| Some(digest.to_owned()))
    }
}

/// Tells a remote file from a local one as GitLab does: by what git could clone.
fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| ["http", "https", "ssh", "git"].contains(&scheme.as_str()))
}

/// Describes `include`.
pub(in crate::compose) fn shape() -> Shape {
    let keys = Shape::map(KEYS, |key| match key {
        "local" => ("A file of this repository; wildcards are allowed.", Shape::Name(Name::File)),
        "project" => ("Path of another project on the same server.", Shape::Text),
        "file" => ("Files of that project.", Shape::one_or_list(Shape::Text)),
        "ref" => ("The branch, tag or commit of that project.", Shape::Text),
        "remote" => ("Address of a file.", Shape::Text),
        "integrity" => ("Digest that the remote file must have: `sha256-` and Base64.", Shape::Text),
        "cache" => ("How long GitLab keeps the remote file.", Shape::Any),
        "template" => ("A file that comes with GitLab.", Shape::Text),
        "component" => ("A component: `SERVER/PROJECT/NAME@VERSION`.", Shape::Text),
        "inputs" => ("Values of the file's inputs.", Shape::named(Shape::Any)),
        "rules" => ("Whether the file is included: the first rule that matches decides.", keyword::rules::include_shape()),
        "artifact" => ("A file that a job makes; in `trigger:include` only.", Shape::Text),
        "job" => ("The job that makes the file; in `trigger:include` only.", Shape::Name(Name::Job)),
        _ => UNDESCRIBED,
    });
    Shape::one_or_list(Shape::Either(vec![Shape::Name(Name::File), keys]))
}
