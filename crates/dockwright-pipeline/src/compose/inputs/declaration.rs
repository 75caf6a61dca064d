//! The header `spec:` and the inputs that it declares.

use std::sync::Arc;

use indexmap::IndexMap;

use super::rules::{self, Rule};
use crate::{
    diagnostic::Diagnostic,
    expression::regex::{self, Pattern},
    keyword::{
        Reader,
        shape::{Shape, UNDESCRIBED},
    },
    source::Span,
    yaml::{Map, Node, Value},
};

const MAX_OPTIONS: usize = 50;
const MAX_DESCRIPTION_CHARS: usize = 256;
const SPEC_KEYS: &[&str] = &["inputs", "include", "component", "description"];
const INPUT_KEYS: &[&str] = &["default", "description", "options", "regex", "type", "rules"];
const COMPONENT_KEYS: &[(&str, ())] = &[("name", ()), ("sha", ()), ("version", ()), ("reference", ())];

/// What a header says.
#[derive(Debug, Default)]
pub(in crate::compose) struct Spec {
    pub(in crate::compose) inputs: IndexMap<String, Declaration>,
    /// What of a component its body may show.
    pub(in crate::compose) component: Vec<String>,
    /// `spec:include`, to be read by who reads includes.
    pub(in crate::compose) include: Option<Arc<Node>>,
}

/// One input.
#[derive(Debug)]
pub(in crate::compose) struct Declaration {
    pub(in crate::compose) key: Span,
    pub(super) kind: Kind,
    /// Present when it was written, even as null: then the input is not required.
    pub(super) default: Option<Arc<Node>>,
    pub(super) options: Option<Vec<Arc<Node>>>,
    pub(super) pattern: Option<InputPattern>,
    pub(super) rules: Option<Vec<Rule>>,
    /// The value when neither a default nor anything else applies.
    pub(super) nothing: Arc<Node>,
}

impl Declaration {
    pub(super) fn has_default(&self) -> bool {
        self.default.is_some() || self.rules.iter().flatten().any(|rule| rule.default.is_some())
    }
}

/// `regex` of an input: found anywhere in the value.
#[derive(Debug)]
pub(super) struct InputPattern {
    pub(super) span: Span,
    pattern: Pattern,
}

impl InputPattern {
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.pattern.is_match(text)
    }
}

/// `type` of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    String,
    Number,
    Boolean,
    Array,
}

impl Kind {
    const WORDS: &'static [(&'static str, Self)] =
        &[("array", Self::Array), ("boolean", Self::Boolean), ("number", Self::Number), ("string", Self::String)];

    pub(super) fn accepts(self, node: &Node) -> bool {
        match self {
            Self::String => true,
            Self::Number => matches!(node.value, Value::Integer(_) | Value::Float(_)),
            Self::Boolean => matches!(node.value, Value::Bool(_)),
            Self::Array => matches!(node.value, Value::List(_)),
        }
    }

    pub(super) fn with_article(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Array => "an array",
        }
    }
}

/// Reads the header of a file. Nothing is returned when it is wrong.
pub(in crate::compose) fn read_header(header: &Node, problems: &mut Vec<Diagnostic>) -> Option<Spec> {
    let before = problems.len();
    let root = header.as_map()?;
    let mut reader = Reader::new(problems);
    reader.unknown_keys("header", root, &["spec"]);
    let spec = root.get("spec").map(|entry| &entry.value).filter(|node| !node.is_null());
    let spec = match spec.map(|node| (node, node.as_map())) {
        None => Spec::default(),
        Some((_, Some(map))) => read_spec(&mut reader, map),
        Some((node, None)) => {
            problems.push(wrong_type("header:spec", "a hash", node));
            return None;
        }
    };
    (problems.len() == before).then_some(spec)
}

fn read_spec(reader: &mut Reader<'_>, map: &Map) -> Spec {
    reader.unknown_keys("header:spec", map, SPEC_KEYS);
    let present = |key: &str| map.get(key).map(|entry| &entry.value).filter(|node| !node.is_null());
    if let Some(description) = present("description") {
        let is_fine = description.as_text().is_some_and(|text| text.chars().count() <= MAX_DESCRIPTION_CHARS);
        if !is_fine {
            let should = format!("a string of at most {MAX_DESCRIPTION_CHARS} characters");
            reader.report(wrong_type("header:spec:description", &should, description));
        }
    }
    let component = present("component").map_or_else(Vec::new, |node| component_keys(reader, node));
    let inputs = present("inputs").map_or_else(IndexMap::new, |node| declarations(reader, node));
    Spec { inputs, component, include: present("include").cloned() }
}

fn component_keys(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let Some(items) = node.as_list() else {
        reader.report(wrong_type("header:spec:component", "an array of strings", node));
        return Vec::new();
    };
    let mut keys = Vec::new();
    for item in items {
        if reader.one_of("header:spec:component config", item, COMPONENT_KEYS).is_some() {
            keys.extend(item.as_text().map(str::to_owned));
        }
    }
    keys
}

/// Reads a mapping of inputs.
pub(in crate::compose) fn declarations(reader: &mut Reader<'_>, node: &Node) -> IndexMap<String, Declaration> {
    let Some(map) = node.as_map() else {
        reader.report(wrong_type("header:spec:inputs", "a hash", node));
        return IndexMap::new();
    };
    let one = |(name, entry): (&String, &crate::yaml::Entry)| Some((name.clone(), declaration(reader, name, entry)?));
    map.iter().filter_map(one).collect()
}

fn declaration(reader: &mut Reader<'_>, name: &str, entry: &crate::yaml::Entry) -> Option<Declaration> {
    let at = format!("header:spec:inputs:{name}");
    let nothing = Arc::new(Node::new(Value::Null, entry.value.span));
    let mut declaration =
        Declaration { key: entry.key, kind: Kind::String, default: None, options: None, pattern: None, rules: None, nothing };
    if entry.value.is_null() {
        return Some(declaration);
    }
    let Some(map) = entry.value.as_map() else {
        reader.report(wrong_type(&at, "a hash", &entry.value));
        return None;
    };
    reader.unknown_keys(&at, map, INPUT_KEYS);
    if let Some(kind) = map.get("type") {
        declaration.kind = reader.one_of(&format!("{at} type"), &kind.value, Kind::WORDS)?;
    }
    declaration.default = map.get("default").map(|entry| entry.value.clone());
    declaration.options = map.get("options").and_then(|entry| options(reader, &format!("{at}:options"), &entry.value));
    if let Some(entry) = map.get("regex") {
        declaration.pattern = Some(pattern(reader, &at, declaration.kind, &entry.value)?);
    }
    if declaration.kind == Kind::Boolean
        && let Some(entry) = map.get("options")
    {
        let message = format!("`{name}` input: Options can only be used with string, number, and array inputs");
        reader.report(Diagnostic::error("spec-options", message).at(entry.key));
    }
    if let Some(entry) = map.get("rules") {
        for key in ["options", "default"] {
            if let Some(other) = map.get(key) {
                let message = format!("{at} config these keys cannot be used together: rules, {key}");
                reader.report(Diagnostic::error("exclusive-keys", message).at(other.key).also(entry.key, "the other one"));
            }
        }
        declaration.rules = rules::read(reader, &format!("{at}:rules"), &entry.value);
    }
    Some(declaration)
}

/// Reads `options` of an input or of one of its rules.
pub(super) fn options(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<Arc<Node>>> {
    let Some(items) = node.as_list() else {
        reader.report(wrong_type(at, "an array", node));
        return None;
    };
    if items.len() > MAX_OPTIONS {
        let message = format!("{at} config cannot define more than {MAX_OPTIONS} options");
        reader.report(Diagnostic::error("spec-options", message).at(node.span));
    }
    if let Some(null) = items.iter().find(|item| item.is_null()) {
        reader.report(Diagnostic::error("spec-options", format!("{at} config cannot contain null values")).at(null.span));
    }
    Some(items.to_vec())
}

fn pattern(reader: &mut Reader<'_>, at: &str, kind: Kind, node: &Node) -> Option<InputPattern> {
    let Some(text) = node.as_text() else {
        reader.report(wrong_type(&format!("{at}:regex"), "a string", node));
        return None;
    };
    if kind != Kind::String {
        let message = format!("{at}: RegEx validation can only be used with string inputs");
        reader.report(Diagnostic::error("spec-regex", message).at(node.span).help(format!("this input is {}", kind.with_article())));
        return None;
    }
    match regex::compile(&format!("/{text}/")) {
        Ok(pattern) => Some(InputPattern { span: node.span, pattern }),
        Err(reason) => {
            reader.report(Diagnostic::error("spec-regex", format!("{at}: invalid regular expression")).at(node.span).help(reason));
            None
        }
    }
}

pub(super) fn wrong_type(at: &str, should: &str, node: &Node) -> Diagnostic {
    Diagnostic::error("wrong-type", format!("{at} config should be {should}")).at(node.span).help(format!("it is {}", node.kind()))
}

/// Describes `spec`; `include` is described by who reads includes.
pub(in crate::compose) fn shape(include: &Shape) -> Shape {
    Shape::map(SPEC_KEYS, |key| match key {
        "inputs" => {
            ("Values that whoever includes or starts the file may give, by name.", Shape::named(Shape::map(INPUT_KEYS, input_shape)))
        }
        "include" => ("Files with more inputs.", include.clone()),
        "component" => ("What of the component `$[[ component.… ]]` may show.", Shape::list(Shape::words(COMPONENT_KEYS))),
        "description" => ("What the file is for.", Shape::Text),
        _ => UNDESCRIBED,
    })
}

fn input_shape(key: &str) -> (&'static str, Shape) {
    match key {
        "default" => ("The value when none is given; without it, one must be.", Shape::Any),
        "description" => ("What the input is for.", Shape::Text),
        "options" => ("The values that are allowed.", Shape::list(Shape::Any)),
        "regex" => ("A pattern that the value must match.", Shape::Text),
        "type" => ("What kind of value it is.", Shape::words(Kind::WORDS)),
        "rules" => ("Options and defaults that depend on other inputs.", Shape::list(Shape::Any)),
        _ => UNDESCRIBED,
    }
}
