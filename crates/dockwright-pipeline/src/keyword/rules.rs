//! `rules`: the first rule that matches decides whether and how a job is part of the pipeline.

pub(crate) mod changes;
pub(crate) mod exists;

use std::sync::Arc;

use indexmap::IndexMap;

use super::{
    Reader, allow_failure, needs, present,
    shape::{Shape, UNDESCRIBED},
    start_in, variables, workflow,
};
use crate::{
    diagnostic::Diagnostic,
    expression::{self, Expression, Pattern},
    pipeline::{AllowFailure, Need, Variable, When},
    repository::Repository,
    source::Span,
    variables::{ExpandableVariable, expand_existing, sort_and_expand},
    yaml::{Entry, Node, Value},
};
use changes::Changes;
use exists::Exists;

/// A rule of `rules` or `workflow:rules`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// `if`. A rule matches when all of its clauses hold, so one without any always does.
    pub(crate) condition: Option<Condition>,
    pub(crate) changes: Option<Changes>,
    pub(crate) exists: Option<Exists>,
    pub(crate) when: Option<RuleWhen>,
    pub(crate) start_in_secs: Option<u64>,
    pub(crate) allow_failure: Option<AllowFailure>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) needs: Option<Vec<Need>>,
    pub(crate) interruptible: Option<bool>,
    pub(crate) span: Span,
}

/// `if` of a rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    pub(crate) text: String,
    pub(crate) expression: Expression,
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

/// A clause of a rule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clause<'r> {
    If(&'r Condition),
    Changes(&'r Changes),
    Exists(&'r Exists),
}

/// What rules look at.
pub(crate) struct Scope<'a> {
    pub(crate) variables: &'a IndexMap<String, String>,
    /// Absent: nothing is known, and nothing there.
    pub(crate) repository: Option<&'a dyn Repository>,
}

impl Scope<'_> {
    /// Expands references in a path, with variables expanded among themselves; unknown ones stay.
    fn expand(&self, text: &str) -> String {
        if !text.contains(['$', '%']) {
            return text.to_owned();
        }
        let plain =
            |(key, value): (&String, &String)| ExpandableVariable { key: key.clone(), value: value.clone(), raw: false, file: false };
        match sort_and_expand(self.variables.iter().map(plain).collect()) {
            Ok(expanded) => expand_existing(text, &expanded.into_iter().map(|variable| (variable.key, variable.value)).collect()),
            Err(_) => expand_existing(text, self.variables),
        }
    }

    /// Compiles a pattern with its variables. One that they break matches nothing.
    fn pattern(&self, text: &str) -> Option<Pattern> {
        expression::compile_plain(&self.expand(text)).ok()
    }
}

impl Clause<'_> {
    /// Tells whether it holds. An error means that the question makes no sense in this repository.
    pub(crate) fn holds(&self, scope: &Scope<'_>) -> Result<bool, Diagnostic> {
        match self {
            Self::If(condition) => Ok(condition.expression.is_true(scope.variables)),
            Self::Changes(changes) => changes.holds(scope),
            Self::Exists(exists) => Ok(exists.holds(scope)),
        }
    }
}

impl Rule {
    /// Returns the clauses in the order in which they are looked at.
    pub(crate) fn clauses(&self) -> impl Iterator<Item = Clause<'_>> {
        let condition = self.condition.iter().map(Clause::If);
        condition.chain(self.changes.iter().map(Clause::Changes)).chain(self.exists.iter().map(Clause::Exists))
    }

    /// Tells whether all clauses hold.
    pub(crate) fn matches(&self, scope: &Scope<'_>) -> Result<bool, Diagnostic> {
        for clause in self.clauses() {
            if !clause.holds(scope)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Returns the first rule that matches.
pub(crate) fn first_match<'r>(rules: &'r [Rule], scope: &Scope<'_>) -> Result<Option<&'r Rule>, Diagnostic> {
    for rule in rules {
        if rule.matches(scope)? {
            return Ok(Some(rule));
        }
    }
    Ok(None)
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
    ("delayed", RuleWhen::Run(When::Delayed)),
];
const WORKFLOW_WHEN: &[(&str, RuleWhen)] = &[("always", RuleWhen::Run(When::Always)), ("never", RuleWhen::Never)];

/// Most paths of a clause.
const MAX_PATHS: usize = 50;
/// Longest `regexp`.
const MAX_REGEXP_CHARS: usize = 255;
/// Most comparisons of a path and a pattern for one clause; beyond, it holds.
const MAX_COMPARISONS: usize = 50_000;
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
    let condition = match present(map, "if") {
        Some(entry) => Some(condition(reader, at, entry)?),
        None => None,
    };
    let when = present(map, "when").and_then(|entry| reader.one_of(&format!("{at} when"), &entry.value, whens));
    let is_delayed = when == Some(RuleWhen::Run(When::Delayed));
    let variables = present(map, "variables").and_then(|entry| variables::read_rule(reader, &format!("{at}:variables"), &entry.value));
    Some(Rule {
        condition,
        changes: present(map, "changes").and_then(|entry| changes::read(reader, &format!("{at}:changes"), &entry.value)),
        exists: present(map, "exists").and_then(|entry| exists::read(reader, &format!("{at}:exists"), &entry.value)),
        when,
        start_in_secs: start_in::read(reader, at, map, is_delayed),
        allow_failure: present(map, "allow_failure")
            .and_then(|entry| allow_failure::read_rule(reader, &format!("{at}:allow_failure"), &entry.value)),
        variables: variables.unwrap_or_default().into_values().collect(),
        needs: present(map, "needs").and_then(|entry| needs::read_own(reader, &format!("{at}:needs"), &entry.value)),
        interruptible: present(map, "interruptible").and_then(|entry| reader.boolean(&format!("{at}:interruptible"), &entry.value)),
        span: map.first().map_or(node.span, |(_, entry)| entry.key),
    })
}

fn condition(reader: &mut Reader<'_>, at: &str, entry: &Entry) -> Option<Condition> {
    let node = &entry.value;
    let Some(text) = node.as_text() else {
        let help = "an expression that begins with `!` or holds `: ` needs quotes around all of it";
        let message = format!("{at} if should be a string");
        reader.report(Diagnostic::error("wrong-type", message).at(node.span).help(help));
        return None;
    };
    let expression = parse(reader, &format!("{at} if"), node, text)?;
    Some(Condition { text: text.to_owned(), expression })
}

/// Parses an expression written at a node.
pub(super) fn parse(reader: &mut Reader<'_>, at: &str, node: &Node, text: &str) -> Option<Expression> {
    match Expression::parse(text) {
        Ok(expression) => Some(expression),
        Err(error) => {
            let mut problem = Diagnostic::error("invalid-expression", format!("{at} invalid expression syntax: {}", error.message));
            problem = problem.at(reader.within(node.span, text, error.start, error.end)).help_if(error.help);
            reader.report(problem);
            None
        }
    }
}

/// Reads the paths of a clause.
fn paths(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<String>> {
    let paths = reader.texts(at, node)?;
    if paths.len() > MAX_PATHS {
        let message = format!("{at} config has too many entries (maximum {MAX_PATHS})");
        reader.report(Diagnostic::error("rules-limit", message).at(node.span).help("name directories, as in `src/**/*`"));
    }
    Some(paths)
}

/// Reads the pattern of a clause. Variables in it are known later only.
fn regexp(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<String> {
    let text = reader.text(at, node)?;
    let problem = if text.chars().count() > MAX_REGEXP_CHARS {
        Some(format!("is too long (maximum is {MAX_REGEXP_CHARS} characters)"))
    } else {
        expression::compile_plain(&text).err().map(|problem| format!("must be a valid regular expression: {problem}"))
    };
    if let Some(problem) = problem {
        reader.report(Diagnostic::error("invalid-pattern", format!("{at} config {problem}")).at(node.span));
        return None;
    }
    Some(text)
}

/// Describes `rules` of a job.
pub(super) fn job_shape() -> Shape {
    shape(JOB_KEYS, JOB_WHEN)
}

/// Describes `workflow:rules`.
pub(super) fn workflow_shape() -> Shape {
    shape(WORKFLOW_KEYS, WORKFLOW_WHEN)
}

/// Describes `include:rules`.
pub(crate) fn include_shape() -> Shape {
    shape(INCLUDE_KEYS, WORKFLOW_WHEN)
}

fn shape(keys: &[&'static str], whens: &[(&'static str, RuleWhen)]) -> Shape {
    let rule = Shape::map(keys, |key| match key {
        "if" => ("An expression that must be true, such as `$CI_COMMIT_BRANCH == \"main\"`.", Shape::Text),
        "changes" => ("Paths of which one must have changed.", changes::shape()),
        "exists" => ("Files of which one must exist.", exists::shape()),
        "when" => ("What becomes of it when this rule decides.", Shape::words(whens)),
        "start_in" => ("How long a delayed job waits, such as `30 minutes`.", Shape::Text),
        "allow_failure" => ("Whether the pipeline goes on when the job fails.", Shape::Boolean),
        "variables" => ("Variables that are set when this rule decides.", variables::rule_shape()),
        "needs" => ("Replaces `needs` of the job when this rule decides.", needs::shape()),
        "interruptible" => ("Replaces `interruptible` of the job when this rule decides.", Shape::Boolean),
        "auto_cancel" => ("Replaces `workflow:auto_cancel` when this rule decides.", workflow::auto_cancel_shape()),
        _ => UNDESCRIBED,
    });
    Shape::Nested(Box::new(rule))
}
