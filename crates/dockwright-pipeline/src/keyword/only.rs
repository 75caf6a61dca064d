//! `only` and `except`: what `rules` replaced.
//!
//! A job runs when everything that `only` speaks of holds and nothing that `except` speaks of does. Without `rules`, a job has
//! `only: {refs: [branches, tags]}`, also where it speaks of other things: so it is not part of pipelines of merge requests.

use super::{
    Reader, present,
    rules::{self, Scope, changes, changes::Changes},
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    expression::{self, Expression, Pattern},
    source::Span,
    yaml::{Node, Value},
};

const KEYS: &[&str] = &["refs", "variables", "changes", "kubernetes"];
const KUBERNETES: &[(&str, ())] = &[("active", ())];

/// One of both keywords.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Policy {
    pub(crate) refs: Option<Vec<Reference>>,
    pub(crate) variables: Option<Vec<Expression>>,
    pub(crate) changes: Option<Changes>,
    /// `kubernetes: active`; there never is a cluster here.
    pub(crate) needs_kubernetes: bool,
    pub(crate) span: Option<Span>,
}

/// An entry of `refs`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reference {
    name: Name,
    /// `@group/project` behind it.
    project: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Name {
    /// A branch, a tag, `branches`, `tags`, or the source of a pipeline.
    Exact(String),
    Pattern(Pattern),
}

/// What pipelines a job without `rules` and `only` is part of.
pub(crate) fn branches_and_tags() -> Vec<Reference> {
    ["branches", "tags"].map(|name| Reference { name: Name::Exact(name.to_owned()), project: None }).into()
}

/// Reads `only` or `except`: refs, or a mapping.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Policy> {
    let mut policy = Policy { span: Some(node.span), ..Policy::default() };
    match &node.value {
        Value::List(_) => policy.refs = Some(refs(reader, at, node)?),
        Value::Map(map) => {
            reader.unknown_keys(at, map, KEYS);
            if let Some(entry) = present(map, "refs") {
                policy.refs = Some(refs(reader, &format!("{at}:refs"), &entry.value)?);
            }
            if let Some(entry) = present(map, "variables") {
                policy.variables = Some(expressions(reader, &format!("{at}:variables"), &entry.value)?);
            }
            if let Some(entry) = present(map, "changes") {
                policy.changes = changes::read(reader, &format!("{at}:changes"), &entry.value);
            }
            if let Some(entry) = present(map, "kubernetes") {
                reader.one_of(&format!("{at} kubernetes"), &entry.value, KUBERNETES)?;
                let message = format!("{at}: there is no Kubernetes cluster here");
                reader.report(Diagnostic::warning("not-done-locally", message).at(entry.key).help("the clause does not hold"));
                policy.needs_kubernetes = true;
            }
        }
        _ => {
            reader.wrong_type(at, node, "an array of strings, or a hash");
            return None;
        }
    }
    Some(policy)
}

fn refs(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<Reference>> {
    let texts = reader.texts(at, node)?;
    let spans = node.as_list()?.iter().map(|item| item.span);
    texts.iter().zip(spans).map(|(text, span)| reference(reader, at, text, span)).collect()
}

fn reference(reader: &mut Reader<'_>, at: &str, text: &str, span: Span) -> Option<Reference> {
    let (name, project) = text.split_once('@').map_or((text, None), |(name, project)| (name, Some(project.to_owned())));
    let is_pattern = name.starts_with('/') && name.len() > 1 && name[1..].contains('/');
    if !is_pattern {
        return Some(Reference { name: Name::Exact(name.to_owned()), project });
    }
    match expression::compile_pattern(name) {
        Ok(pattern) => Some(Reference { name: Name::Pattern(pattern), project }),
        Err(problem) => {
            let message = format!("{at} config should be an array of strings or regular expressions using re2 syntax: {problem}");
            reader.report(Diagnostic::error("invalid-pattern", message).at(span));
            None
        }
    }
}

fn expressions(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<Expression>> {
    let Some(items) = node.as_list() else {
        reader.wrong_type(at, node, "an array of strings");
        return None;
    };
    let one = |item: &std::sync::Arc<Node>| {
        let text = reader.text(at, item)?;
        rules::parse(reader, at, item, &text)
    };
    items.iter().map(one).collect()
}

impl Policy {
    /// Tells for each thing that the policy speaks of whether it holds.
    pub(crate) fn verdicts(&self, scope: &Scope<'_>) -> Result<Vec<(&'static str, bool)>, Diagnostic> {
        let mut verdicts = Vec::new();
        if let Some(refs) = &self.refs {
            let event = RefEvent::of(scope);
            verdicts.push(("refs", refs.iter().any(|reference| reference.names(&event))));
        }
        if let Some(variables) = &self.variables {
            verdicts.push(("variables", variables.iter().any(|expression| expression.is_true(scope.variables))));
        }
        if let Some(changes) = &self.changes {
            verdicts.push(("changes", changes.holds(scope)?));
        }
        if self.needs_kubernetes {
            verdicts.push(("kubernetes", false));
        }
        Ok(verdicts)
    }
}

/// What refs are compared with.
struct RefEvent<'a> {
    is_branch: bool,
    is_tag: bool,
    name: &'a str,
    /// Without `_event`, as GitLab compares it.
    source: &'a str,
    project: &'a str,
}

impl<'a> RefEvent<'a> {
    fn of(scope: &Scope<'a>) -> Self {
        let value = |name: &str| scope.variables.get(name).map(String::as_str);
        let source = value("CI_PIPELINE_SOURCE").unwrap_or_default();
        Self {
            // Without any event, as in an editor, it is taken for a branch.
            is_branch: value("CI_COMMIT_BRANCH").is_some() || (source.is_empty() && value("CI_COMMIT_TAG").is_none()),
            is_tag: value("CI_COMMIT_TAG").is_some(),
            name: value("CI_COMMIT_REF_NAME").unwrap_or_default(),
            source: source.strip_suffix("_event").unwrap_or(source),
            project: value("CI_PROJECT_PATH").unwrap_or_default(),
        }
    }

    /// `pushes`, `schedules`, …
    fn plural(&self) -> String {
        let ending = if self.source.ends_with("sh") { "es" } else { "s" };
        format!("{}{ending}", self.source)
    }
}

impl Reference {
    fn names(&self, event: &RefEvent<'_>) -> bool {
        if self.project.as_ref().is_some_and(|project| project != event.project) {
            return false;
        }
        // Names and patterns mean branches and tags only, not the source branch of a merge request.
        let has_ref = event.is_branch || event.is_tag;
        match &self.name {
            Name::Exact(name) => match name.as_str() {
                "branches" if event.is_branch => true,
                "tags" if event.is_tag => true,
                name => name == event.source || name == event.plural() || (has_ref && name == event.name),
            },
            Name::Pattern(pattern) => has_ref && pattern.is_match(event.name),
        }
    }
}

/// Describes `only` and `except`.
pub(super) fn shape() -> Shape {
    let keys = Shape::map(KEYS, |key| match key {
        "refs" => ("Branches, tags, `/patterns/` or sources of pipelines, such as `merge_requests`.", Shape::list(Shape::Text)),
        "variables" => ("Expressions of which one must be true.", Shape::list(Shape::Text)),
        "changes" => ("Paths of which one must have changed.", changes::shape()),
        "kubernetes" => ("Asks for a cluster.", Shape::words(KUBERNETES)),
        _ => UNDESCRIBED,
    });
    Shape::Either(vec![Shape::list(Shape::Text), keys])
}
