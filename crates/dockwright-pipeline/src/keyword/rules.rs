//! `rules`: the first rule that matches decides whether and how a job is part of the pipeline.

use std::sync::Arc;

use super::{Reader, allow_failure, duration, needs, present, unsupported, variables};
use crate::{
    diagnostic::Diagnostic,
    expression::Expression,
    pipeline::{AllowFailure, Need, Variable, When},
    source::Span,
    yaml::{Entry, Map, Node, Value},
};

/// A rule of `rules` or `workflow:rules`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// Absent: the rule always matches.
    pub(crate) condition: Option<Expression>,
    pub(crate) when: Option<RuleWhen>,
    pub(crate) allow_failure: Option<AllowFailure>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) needs: Option<Vec<Need>>,
    pub(crate) interruptible: Option<bool>,
    pub(crate) span: Span,
}

/// `when` of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleWhen {
    Never,
    Run(When),
}

impl Rule {
    /// Tells whether a match leaves the job out.
    pub(crate) fn is_never(&self) -> bool {
        self.when == Some(RuleWhen::Never)
    }
}

const JOB_KEYS: &[&str] = &["if", "changes", "exists", "when", "start_in", "allow_failure", "variables", "needs", "interruptible"];
const WORKFLOW_KEYS: &[&str] = &["if", "changes", "exists", "when", "variables", "auto_cancel", "start_in", "allow_failure", "needs"];
const INCLUDE_KEYS: &[&str] = &["if", "changes", "exists", "when"];

const JOB_WHEN: &[(&str, RuleWhen)] = &[
    ("on_success", RuleWhen::Run(When::OnSuccess)),
    ("on_failure", RuleWhen::Run(When::OnFailure)),
    ("never", RuleWhen::Never),
    ("always", RuleWhen::Run(When::Always)),
    ("manual", RuleWhen::Run(When::Manual)),
];
const WORKFLOW_WHEN: &[(&str, RuleWhen)] = &[("always", RuleWhen::Run(When::Always)), ("never", RuleWhen::Never)];

/// Deepest nesting of lists of rules.
const MAX_DEPTH: usize = 10;

/// Reads `rules` of a job.
pub(super) fn read_job_rules(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<Rule>> {
    let rules = read(reader, at, node, JOB_KEYS, JOB_WHEN)?;
    if node.as_list().is_some_and(<[_]>::is_empty) {
        reader.report(
            Diagnostic::error("rules-blank", format!("{at} config can't be blank")).at(node.span).help("remove `rules`, or add a rule"),
        );
    }
    Some(rules)
}

/// Reads `workflow:rules`.
pub(super) fn read_workflow_rules(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Rule>> {
    read(reader, "workflow:rules", node, WORKFLOW_KEYS, WORKFLOW_WHEN)
}

/// Reads `include:rules`.
pub(crate) fn read_include_rules(reader: &mut Reader<'_>, node: &Node) -> Vec<Rule> {
    read(reader, "include:rules", node, INCLUDE_KEYS, WORKFLOW_WHEN).unwrap_or_default()
}

fn read(reader: &mut Reader<'_>, at: &str, node: &Node, keys: &[&str], when: &[(&str, RuleWhen)]) -> Option<Vec<Rule>> {
    let mut nodes = Vec::new();
    if node.as_list().is_none() || !flatten(node, 0, &mut nodes) {
        let should = format!("an array containing hashes and arrays of hashes up to {MAX_DEPTH} levels deep");
        reader.wrong_type(at, node, &should);
        return None;
    }
    Some(nodes.iter().filter_map(|node| one(reader, &format!("{at}:rule"), node, keys, when)).collect())
}

fn flatten(node: &Node, depth: usize, output: &mut Vec<Arc<Node>>) -> bool {
    node.as_list().is_some_and(|items| {
        items.iter().all(|item| match &item.value {
            Value::List(_) => depth < MAX_DEPTH && flatten(item, depth + 1, output),
            _ => {
                output.push(item.clone());
                true
            }
        })
    })
}

fn one(reader: &mut Reader<'_>, at: &str, node: &Node, keys: &[&str], whens: &[(&str, RuleWhen)]) -> Option<Rule> {
    let map = reader.map(at, node)?;
    reader.unknown_keys(at, map, keys);
    unsupported::report_in_rule(reader, at, map);
    let condition = match present(map, "if") {
        Some(entry) => Some(condition(reader, at, entry)?),
        None => None,
    };
    let variables = present(map, "variables").and_then(|entry| variables::read_rule(reader, &format!("{at}:variables"), &entry.value));
    Some(Rule {
        condition,
        when: when(reader, at, map, whens),
        allow_failure: present(map, "allow_failure")
            .and_then(|entry| allow_failure::read_rule(reader, &format!("{at}:allow_failure"), &entry.value)),
        variables: variables.unwrap_or_default().into_values().collect(),
        needs: present(map, "needs").and_then(|entry| needs::read(reader, &format!("{at}:needs"), &entry.value)),
        interruptible: present(map, "interruptible").and_then(|entry| reader.boolean(&format!("{at}:interruptible"), &entry.value)),
        span: map.first().map_or(node.span, |(_, entry)| entry.key),
    })
}

fn when(reader: &mut Reader<'_>, at: &str, map: &Map, whens: &[(&str, RuleWhen)]) -> Option<RuleWhen> {
    let entry = present(map, "when")?;
    if entry.value.as_text() == Some("delayed") {
        unsupported::report_delayed(reader, entry.value.span);
        if let Some(start_in) = present(map, "start_in") {
            duration::read(reader, &format!("{at}:start_in"), &start_in.value);
        }
        return None;
    }
    reader.one_of(&format!("{at} when"), &entry.value, whens)
}

fn condition(reader: &mut Reader<'_>, at: &str, entry: &Entry) -> Option<Expression> {
    let node = &entry.value;
    let Some(text) = node.as_text() else {
        let help = "an expression that begins with `!` or holds `: ` needs quotes around all of it";
        let message = format!("{at} if should be a string");
        reader.report(Diagnostic::error("wrong-type", message).at(node.span).help(help));
        return None;
    };
    match Expression::parse(text) {
        Ok(expression) => Some(expression),
        Err(error) => {
            let mut problem = Diagnostic::error("invalid-expression", format!("{at} if invalid expression syntax: {}", error.message));
            problem = problem.at(reader.within(node.span, text, error.start, error.end)).help_if(error.help);
            reader.report(problem);
            None
        }
    }
}
