//! `spec:inputs`: what a file lets its includer decide, and the values that come of it.
//!
//! The header declares; `include:inputs`, or whoever starts the pipeline, gives. Values are typed before they are compared: a text is
//! first tried as JSON for numbers, booleans and arrays, and everything becomes a text for inputs of type `string`.

mod declaration;
mod json;
mod rules;

use std::sync::Arc;

use indexmap::IndexMap;

use declaration::{Declaration, Kind};
pub(super) use declaration::{Spec, declarations, read_header, shape};
pub(super) use rules::check as check_rules;

use crate::{
    diagnostic::Diagnostic,
    source::{Sources, Span},
    suggestion::did_you_mean,
    yaml::{Entry, Map, Node, Value},
};

/// Most inputs that a pipeline can be started with.
const MAX_PIPELINE_INPUTS: usize = 20;

/// Inputs that are given to a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    pub(super) values: Map,
    /// Where the file is included; absent for the configuration itself.
    pub(super) at: Option<Span>,
}

impl Given {
    /// Takes the inputs that a pipeline is started with. They become a source of their own, so that problems can point at them.
    pub(super) fn by_starter(inputs: &IndexMap<String, String>, sources: &mut Sources, problems: &mut Vec<Diagnostic>) -> Self {
        if inputs.is_empty() {
            return Self::default();
        }
        let lines: Vec<String> =
            inputs.iter().map(|(name, value)| format!("{name}={}", value.lines().next().unwrap_or_default())).collect();
        let source = sources.add("inputs of the pipeline", lines.join("\n"));
        let mut values = Map::new();
        let mut at = 0;
        for ((name, value), line) in inputs.iter().zip(&lines) {
            let span = |start: usize, end: usize| Span {
                source,
                start: u32::try_from(at + start).unwrap_or(u32::MAX),
                end: u32::try_from(at + end).unwrap_or(u32::MAX),
            };
            let node = Node::new(Value::Text(value.clone()), span(name.len() + 1, line.len()));
            values.insert(name.clone(), Entry { key: span(0, name.len()), key_is_text: true, value: Arc::new(node) });
            at += line.len() + 1;
        }
        if values.len() > MAX_PIPELINE_INPUTS {
            let message = format!("a pipeline can be started with at most {MAX_PIPELINE_INPUTS} inputs, but {} are given", values.len());
            problems.push(Diagnostic::error("input-limit", message));
        }
        Self { values, at: None }
    }
}

/// Returns the value of every declared input, or nothing when one of them is wrong. `file` begins the messages about an included file.
pub(super) fn resolve(spec: &Spec, given: &Given, file: Option<&str>, problems: &mut Vec<Diagnostic>) -> Option<Map> {
    let before = problems.len();
    let mut resolver = Resolver { spec, given, file, values: Map::new(), problems };
    for (name, declaration) in &spec.inputs {
        resolver.input(name, declaration);
    }
    resolver.report_unknown();
    let values = resolver.values;
    (problems.len() == before).then_some(values)
}

struct Resolver<'a> {
    spec: &'a Spec,
    given: &'a Given,
    file: Option<&'a str>,
    values: Map,
    problems: &'a mut Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn input(&mut self, name: &str, declaration: &Declaration) {
        let is_blank = |node: &Node| node.as_text().is_some_and(str::is_empty) && declaration.rules.is_some();
        let given = self.given.values.get(name).filter(|entry| !entry.value.is_null() && !is_blank(&entry.value));
        let choice = rules::choose(declaration, &self.values, &self.given.values);
        if given.is_none() && !declaration.has_default() {
            self.missing(name, declaration);
            return;
        }
        if let Some(default) = choice.default.filter(|default| !default.is_null()) {
            self.check(name, declaration, choice.options, default, "default");
        }
        let value = match given {
            Some(entry) => self.check(name, declaration, choice.options, &entry.value, "provided"),
            None => coerced(declaration.kind, choice.default.unwrap_or(&declaration.nothing)),
        };
        self.values.insert(name.to_owned(), Entry { key: declaration.key, key_is_text: true, value });
    }

    /// Checks a value, and returns it in its type.
    fn check(&mut self, name: &str, declaration: &Declaration, options: Option<&[Arc<Node>]>, value: &Arc<Node>, whose: &str) -> Arc<Node> {
        let value = coerced(declaration.kind, value);
        let text = plain_text(&value);
        if !declaration.kind.accepts(&value) {
            let message = format!("{whose} value is not {}", declaration.kind.with_article());
            let problem = self.problem("input-type", name, &message).at(value.span).also(declaration.key, "declared here");
            self.problems.push(problem.help(format!("it is {}", value.kind())));
            return value;
        }
        if let Some(wrong) = options.and_then(|options| outside(declaration.kind, &value, options)) {
            let allowed: Vec<String> = options.unwrap_or_default().iter().map(|option| plain_text(option)).collect();
            let help = did_you_mean(&wrong, allowed.iter().map(String::as_str))
                .unwrap_or_else(|| format!("allowed are `{}`", allowed.join("`, `")));
            let message = format!("`{wrong}` cannot be used because it is not in the list of allowed options");
            let problem = self.problem("input-option", name, &message).at(value.span).also(declaration.key, "declared here");
            self.problems.push(problem.help(help));
        }
        if let Some(pattern) = declaration.pattern.as_ref().filter(|pattern| !pattern.is_match(&text)) {
            let message = format!("{whose} value does not match required RegEx pattern");
            let problem = self.problem("input-pattern", name, &message).at(value.span);
            self.problems.push(problem.also(pattern.span, "this is the pattern"));
        }
        value
    }

    fn missing(&mut self, name: &str, declaration: &Declaration) {
        let problem = self.problem("input-missing", name, "required value has not been provided");
        self.problems.push(match self.given.at {
            Some(at) => problem
                .at(at)
                .also(declaration.key, "it has no default here")
                .help(format!("add `{name}` to `inputs` of the include, or a `default` to its declaration")),
            None => problem.at(declaration.key).help(format!("start the pipeline with `--input {name}=VALUE`, or give it a `default`")),
        });
    }

    fn report_unknown(&mut self) {
        for (name, entry) in self.given.values.iter().filter(|(name, _)| !self.spec.inputs.contains_key(*name)) {
            let prefix = self.file.map_or_else(String::new, |file| format!("`{file}`: "));
            let known = self.spec.inputs.keys().map(String::as_str);
            let help = did_you_mean(name, known.clone()).or_else(|| {
                let known: Vec<&str> = known.collect();
                (!known.is_empty()).then(|| format!("the file declares `{}`", known.join("`, `")))
            });
            self.problems
                .push(Diagnostic::error("input-unknown", format!("{prefix}unknown input arguments: {name}")).at(entry.key).help_if(help));
        }
    }

    fn problem(&self, code: &'static str, name: &str, message: &str) -> Diagnostic {
        let prefix = self.file.map_or_else(String::new, |file| format!("`{file}`: "));
        Diagnostic::error(code, format!("{prefix}`{name}` input: {message}"))
    }
}

/// Reports inputs for a file that declares none.
pub(super) fn report_undeclared(given: &Given, file: Option<&str>, problems: &mut Vec<Diagnostic>) {
    let Some((_, first)) = given.values.first() else { return };
    let prefix = file.map_or_else(String::new, |file| format!("`{file}`: "));
    problems.push(
        Diagnostic::error(
            "inputs-without-spec",
            format!("{prefix}Given inputs not defined in the `spec` section of the included configuration file"),
        )
        .at(first.key)
        .help("a file declares its inputs in a header: `spec: {inputs: {name: {}}}`, then a line `---`"),
    );
}

/// Brings a value into the type of its input. What cannot be brought there stays as it is.
fn coerced(kind: Kind, value: &Arc<Node>) -> Arc<Node> {
    if kind == Kind::String {
        return match &value.value {
            Value::Text(_) => value.clone(),
            _ => Arc::new(Node::new(Value::Text(plain_text(value)), value.span)),
        };
    }
    let parsed = value.as_text().and_then(|text| json::parse(text, value.span));
    parsed.map_or_else(|| value.clone(), Arc::new)
}

/// Returns what of a value is not among the options.
fn outside(kind: Kind, value: &Node, options: &[Arc<Node>]) -> Option<String> {
    match kind {
        Kind::Array => {
            let items = value.as_list()?.iter();
            let wrong: Vec<String> =
                items.filter(|item| !options.iter().any(|option| equal(option, item))).map(|item| plain_text(item)).collect();
            (!wrong.is_empty()).then(|| wrong.join(", "))
        }
        Kind::String => {
            let text = plain_text(value);
            (!options.iter().any(|option| plain_text(option) == text)).then_some(text)
        }
        Kind::Number | Kind::Boolean => (!options.iter().any(|option| equal(option, value))).then(|| plain_text(value)),
    }
}

fn equal(left: &Node, right: &Node) -> bool {
    match (&left.value, &right.value) {
        (Value::Integer(whole), Value::Float(float)) | (Value::Float(float), Value::Integer(whole)) => *whole as f64 == *float,
        _ => plain_text(left) == plain_text(right) && left.kind() == right.kind(),
    }
}

/// Returns a value as Ruby's `to_s` prints it: what a text gets in place of a `$[[ … ]]` block.
pub(super) fn plain_text(node: &Node) -> String {
    match &node.value {
        Value::Null => String::new(),
        Value::List(_) | Value::Map(_) | Value::Reference(_) => inspected(node),
        _ => node.scalar_text().unwrap_or_default(),
    }
}

/// Returns a value as Ruby's `inspect` prints it.
fn inspected(node: &Node) -> String {
    match &node.value {
        Value::Null => "nil".to_owned(),
        Value::Text(text) => format!("{text:?}"),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| inspected(item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entries: Vec<String> = map.iter().map(|(key, entry)| format!("{key:?}=>{}", inspected(&entry.value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Reference(path) => format!("!reference {:?}", path.as_deref().unwrap_or_default()),
        _ => node.scalar_text().unwrap_or_default(),
    }
}
