//! `include`: other files, merged below the file that includes them.
//!
//! ```text
//! file ─► header and body ─► inputs ─► body with values ─► its includes, each like this ─► merged, the file itself over all
//! ```

mod entry;
mod failure;

use std::sync::Arc;

use indexmap::IndexMap;

use self::entry::Wanted;
pub(super) use self::entry::shape;
use super::{
    inputs::{self, Given, Spec},
    interpolation::{self, Scope},
    merge_into,
};
use crate::{
    diagnostic::Diagnostic,
    keyword::Reader,
    loader::{Component, LoadErrorKind, Loaded, Loader, Place, Request},
    pipeline::PipelineContext,
    repository::Repository,
    source::{SourceId, Sources, Span},
    yaml::{self, Document, Entry, Map, Node, Value},
};

/// Most includes of a configuration, at all depths.
const MAX_INCLUDES: usize = 150;
/// Most bytes of all files together (`ci_max_total_yaml_size_bytes`).
const TOTAL_SIZE_BYTES: usize = 300 * 1024 * 1024;

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
    let request = Request::Local { place: Place::Own, path: path.to_owned() };
    match loader.load(&request) {
        Ok(loaded) => {
            let source = sources.add(path, loaded.text.as_str());
            let given = Given::by_starter(&context.inputs, sources, problems);
            let repository = context.repository.as_deref();
            let mut includer = Includer { loader, variables, repository, sources, problems, stack: Vec::new(), count: 0, total_bytes: 0 };
            includer.file(source, &request, &loaded, &given)
        }
        Err(error) => {
            let problem = match error.kind {
                LoadErrorKind::Unreadable(reason) => Diagnostic::error("config-unreadable", format!("cannot read `{path}`: {reason}")),
                _ => Diagnostic::error("config-not-found", format!("there is no `{path}` in this repository"))
                    .help("create it, or name another file"),
            };
            problems.push(problem);
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
    stack: Vec<Frame>,
    count: usize,
    total_bytes: usize,
}

/// A file that is being read.
struct Frame {
    request: Request,
    /// Its inputs as text: a file may include itself with other inputs.
    inputs: String,
    /// Where its local files lie.
    place: Place,
}

impl Includer<'_> {
    fn file(&mut self, source: SourceId, request: &Request, loaded: &Loaded, given: &Given) -> Option<Map> {
        let document = yaml::read(source, self.sources, self.problems)?;
        self.stack.push(Frame { request: request.clone(), inputs: fingerprint(given), place: loaded.place.clone() });
        let map = self.composed(&document, loaded.component.as_ref(), given);
        self.stack.pop();
        map
    }

    /// Fills in the values of inputs, and merges the file's includes below it.
    fn composed(&mut self, document: &Document, component: Option<&Component>, given: &Given) -> Option<Map> {
        let body = self.body(document, component, given)?;
        let mut own = body.as_map()?.clone();
        let mut merged = Map::new();
        if let Some(include) = own.shift_remove("include").filter(|entry| !entry.value.is_null()) {
            for included in self.includes(&include.value) {
                merge_into(&mut merged, &included);
            }
        }
        merge_into(&mut merged, &own);
        Some(merged)
    }

    /// Returns the body with the values of its inputs. Without a header, nothing is looked for in it.
    fn body(&mut self, document: &Document, component: Option<&Component>, given: &Given) -> Option<Arc<Node>> {
        let name = (self.stack.len() > 1).then(|| self.name());
        let Some(header) = &document.header else {
            inputs::report_undeclared(given, name.as_deref(), self.problems);
            return given.values.is_empty().then(|| document.body.clone());
        };
        let mut spec = inputs::read_header(header, self.problems)?;
        if let Some(include) = spec.include.take() {
            self.header_includes(&include, component.is_some(), &mut spec)?;
        }
        if !inputs::check_rules(&spec.inputs, self.problems) {
            return None;
        }
        let values = inputs::resolve(&spec, given, name.as_deref(), self.problems)?;
        let variables = self.variables().clone();
        let scope = Scope { roots: roots(values, &spec, component, header.span), variables: &variables, sources: self.sources };
        interpolation::interpolate(&document.body, &scope, self.problems)
    }

    /// Reads files that hold nothing but inputs, and adds these to those of the header.
    fn header_includes(&mut self, include: &Arc<Node>, is_component: bool, spec: &mut Spec) -> Option<()> {
        if is_component {
            let message = format!("Component `{}` cannot use `spec:include`. This keyword is not supported in components", self.name());
            self.problems.push(Diagnostic::error("spec-include", message).at(include.span));
            return None;
        }
        for wanted in self.wanted(include) {
            if matches!(wanted.request, Request::Template { .. } | Request::Component(_)) {
                let message = "spec:include config can only use `local`, `remote` and `project`";
                self.problems.push(Diagnostic::error("spec-include", message).at(wanted.span));
                return None;
            }
            let (source, _) = self.load(&wanted)?;
            let document = yaml::read(source, self.sources, self.problems)?;
            let map = document.body.as_map()?;
            let mut reader = Reader::new(self.problems);
            reader.unknown_keys("header include", map, &["inputs"]);
            let Some(declared) = map.get("inputs").filter(|entry| !entry.value.is_null()) else { continue };
            for (name, declaration) in inputs::declarations(&mut reader, &declared.value) {
                let key = declaration.key;
                if let Some(earlier) = spec.inputs.insert(name.clone(), declaration) {
                    let message = format!("Duplicate input keys found: {name}");
                    self.problems.push(Diagnostic::error("spec-duplicate", message).at(earlier.key).also(key, "declared here too"));
                    return None;
                }
            }
        }
        Some(())
    }

    /// Reads the files that `include` names.
    fn includes(&mut self, include: &Arc<Node>) -> Vec<Map> {
        let wanted = self.wanted(include);
        let requests: Vec<Request> = wanted.iter().map(|wanted| wanted.request.clone()).collect();
        self.loader.prepare(&requests);
        let mut maps = Vec::new();
        for wanted in wanted {
            if let Some((source, loaded)) = self.load(&wanted) {
                let given = Given { values: wanted.inputs, at: Some(wanted.span) };
                maps.extend(self.file(source, &wanted.request, &loaded, &given));
            }
        }
        maps
    }

    fn load(&mut self, wanted: &Wanted) -> Option<(SourceId, Loaded)> {
        self.count += 1;
        if self.count > MAX_INCLUDES {
            if self.count == MAX_INCLUDES + 1 {
                let problem = Diagnostic::error("include-limit", format!("Maximum of {MAX_INCLUDES} nested includes are allowed!"));
                self.problems.push(problem.at(wanted.span));
            }
            return None;
        }
        if let Some(problem) = self.cycle(wanted).or_else(|| failure::of_request(&wanted.request)) {
            self.problems.push(problem.at(wanted.span));
            return None;
        }
        let loaded = match self.loader.load(&wanted.request) {
            Ok(loaded) if loaded.text.trim().is_empty() => {
                self.problems.push(failure::of_empty(&wanted.request).at(wanted.span));
                return None;
            }
            Ok(loaded) => loaded,
            Err(error) => {
                let span = if error.kind == LoadErrorKind::NoProject { wanted.project_span.unwrap_or(wanted.span) } else { wanted.span };
                let near = || self.loader.list_files(self.place());
                let problem = failure::of_loading(&wanted.request, error, &near);
                self.problems.push(problem.at(span));
                return None;
            }
        };
        self.total_bytes = self.total_bytes.saturating_add(loaded.text.len());
        if self.total_bytes > TOTAL_SIZE_BYTES {
            self.problems.push(Diagnostic::error("yaml-too-big", "Total size of combined CI/CD configuration is too big").at(wanted.span));
            return None;
        }
        let source = self.sources.add_included(wanted.request.to_string(), loaded.text.as_str(), wanted.span);
        Some((source, loaded))
    }

    fn cycle(&self, wanted: &Wanted) -> Option<Diagnostic> {
        let inputs = fingerprint(&Given { values: wanted.inputs.clone(), at: None });
        self.stack.iter().find(|frame| frame.request == wanted.request && frame.inputs == inputs)?;
        let chain: Vec<String> = self.stack.iter().map(|frame| frame.request.to_string()).collect();
        let name = wanted.request.to_string();
        Some(
            Diagnostic::error("include-cycle", format!("`{name}` includes itself"))
                .help(format!("the chain is `{}` → `{name}`", chain.join("` → `"))),
        )
    }

    /// Returns the name of the file that is being read.
    fn name(&self) -> String {
        self.stack.last().map(|frame| frame.request.to_string()).unwrap_or_default()
    }

    /// Returns where local files of the file that is being read lie.
    fn place(&self) -> &Place {
        self.stack.last().map_or(&Place::Own, |frame| &frame.place)
    }

    /// Returns what includes and `expand_vars` see: files that lie in no project see nothing, as in GitLab.
    fn variables(&self) -> &IndexMap<String, String> {
        static NOTHING: std::sync::LazyLock<IndexMap<String, String>> = std::sync::LazyLock::new(IndexMap::new);
        if *self.place() == Place::Nowhere { &NOTHING } else { &self.variables }
    }
}

fn fingerprint(given: &Given) -> String {
    given.values.iter().map(|(name, entry)| format!("{name}={}\n", inputs::plain_text(&entry.value))).collect()
}

/// Returns what blocks can name: the inputs, and of a component what its header asks for.
fn roots(values: Map, spec: &Spec, component: Option<&Component>, span: Span) -> Node {
    let entry = |value: Value| Entry { key: span, key_is_text: true, value: Arc::new(Node::new(value, span)) };
    let mut facts = Map::new();
    for key in component.map(|_| spec.component.as_slice()).unwrap_or_default() {
        let value = component.map(|component| match key.as_str() {
            "name" => &component.name,
            "sha" => &component.sha,
            "version" => &component.version,
            _ => &component.reference,
        });
        facts.insert(key.clone(), entry(Value::Text(value.cloned().unwrap_or_default())));
    }
    let roots = [("inputs".to_owned(), entry(Value::Map(values))), ("component".to_owned(), entry(Value::Map(facts)))];
    Node::new(Value::Map(Map::from(roots)), span)
}
