//! `rules` of an input: its options and its default, depending on the inputs before it.
//!
//! Their expressions name inputs by `$[[ inputs.name ]]`. For the parser each becomes a variable, undefined when the input is null, or
//! `true` and `false` when it is a boolean.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use ::regex::{Captures, Regex};
use indexmap::IndexMap;

use super::{
    declaration::{Declaration, options, wrong_type},
    plain_text,
};
use crate::{
    diagnostic::Diagnostic,
    expression::Expression,
    keyword::Reader,
    suggestion::did_you_mean,
    yaml::{Map, Node, Value},
};

static OPERAND: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\$\[\[\s*inputs\.([\w-]+)\s*\]\]").expect("constant"));

/// One of `rules`.
#[derive(Debug)]
pub(super) struct Rule {
    /// Absent: it always matches.
    condition: Option<Condition>,
    pub(super) default: Option<Arc<Node>>,
    options: Option<Vec<Arc<Node>>>,
}

/// An expression that parses whatever the inputs are.
#[derive(Debug)]
struct Condition {
    text: String,
}

impl Condition {
    /// Returns the inputs that it names.
    fn inputs(&self) -> impl Iterator<Item = String> {
        OPERAND.captures_iter(&self.text).map(|found| found[1].to_owned())
    }

    fn is_true(&self, value: &dyn Fn(&str) -> Option<Arc<Node>>) -> bool {
        let mut variables = IndexMap::new();
        let translated = OPERAND.replace_all(&self.text, |found: &Captures<'_>| {
            let node = value(&found[1]);
            match node.as_ref().map(|node| &node.value) {
                Some(Value::Bool(value)) => return value.to_string(),
                None | Some(Value::Null) => {}
                Some(_) => {
                    variables.insert(variable(&found[1]), node.map(|node| plain_text(&node)).unwrap_or_default());
                }
            }
            format!("${}", variable(&found[1]))
        });
        Expression::parse(&translated).is_ok_and(|expression| expression.is_true(&variables))
    }
}

/// What applies to an input.
#[derive(Debug, Default)]
pub(super) struct Choice<'a> {
    pub(super) default: Option<&'a Arc<Node>>,
    pub(super) options: Option<&'a [Arc<Node>]>,
}

/// Reads `rules`.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<Rule>> {
    let Some(items) = node.as_list() else {
        reader.report(wrong_type(at, "an array", node));
        return None;
    };
    Some(items.iter().filter_map(|item| one(reader, &format!("{at}:rule"), item)).collect())
}

fn one(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Rule> {
    let Some(map) = node.as_map() else {
        reader.report(wrong_type(at, "a hash", node));
        return None;
    };
    reader.unknown_keys(at, map, &["if", "options", "default"]);
    let condition = match map.get("if") {
        Some(entry) => Some(condition(reader, at, &entry.value)?),
        None => None,
    };
    let options = map.get("options").and_then(|entry| options(reader, &format!("{at}:options"), &entry.value));
    let default = map.get("default").map(|entry| entry.value.clone());
    let Some(default) = default else {
        let message = format!("{at} rule must define 'options' with at least one value and a 'default'");
        reader.report(Diagnostic::error("spec-rules", message).at(node.span));
        return None;
    };
    let is_option = |options: &Vec<Arc<Node>>| options.iter().any(|option| super::equal(option, &default));
    if !default.is_null() && options.as_ref().is_some_and(|options| !is_option(options)) {
        let message = format!("{at} default '{}' must be one of the options", plain_text(&default));
        reader.report(Diagnostic::error("spec-rules", message).at(default.span));
    }
    Some(Rule { condition, default: Some(default), options })
}

fn condition(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Condition> {
    let Some(text) = node.as_text() else {
        reader.report(Diagnostic::error("wrong-type", format!("{at} if should be a string")).at(node.span));
        return None;
    };
    let translated = OPERAND.replace_all(text, |found: &Captures<'_>| format!("${}", variable(&found[1])));
    match Expression::parse(&translated) {
        Ok(_) => Some(Condition { text: text.to_owned() }),
        Err(error) => {
            let message = format!("{at} if invalid expression syntax: {}", error.message);
            reader.report(Diagnostic::error("invalid-expression", message).at(node.span).help_if(error.help));
            None
        }
    }
}

/// Names of variables hold no dashes.
fn variable(input: &str) -> String {
    format!("0_input_{}", input.replace('-', "_0_"))
}

/// Checks what rules say about other inputs: these exist, and do not depend on each other in a circle. Tells whether all is well.
pub(in crate::compose) fn check(inputs: &IndexMap<String, Declaration>, problems: &mut Vec<Diagnostic>) -> bool {
    let before = problems.len();
    // For each input, those whose rules name it, and how many it names itself.
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); inputs.len()];
    let mut open: Vec<usize> = vec![0; inputs.len()];
    for (index, (name, declaration)) in inputs.iter().enumerate() {
        let rules = declaration.rules.iter().flatten();
        let named: HashSet<String> = rules.filter_map(|rule| rule.condition.as_ref()).flat_map(Condition::inputs).collect();
        for other in named {
            if let Some(other) = inputs.get_index_of(&other) {
                waiting[other].push(index);
                open[index] += 1;
                continue;
            }
            let message = format!("`{name}` input: its rules name the input `{other}`, which is not declared");
            let help = did_you_mean(&other, inputs.keys().map(String::as_str));
            problems.push(Diagnostic::error("spec-rules", message).at(declaration.key).help_if(help));
        }
    }
    // Whatever waits for nothing is settled and lets others go on; what is left in the end waits for itself.
    let mut settled: Vec<usize> = (0..inputs.len()).filter(|index| open[*index] == 0).collect();
    while let Some(index) = settled.pop() {
        for dependent in &waiting[index] {
            open[*dependent] -= 1;
            if open[*dependent] == 0 {
                settled.push(*dependent);
            }
        }
    }
    let circle: Vec<(&String, &Declaration)> = inputs.iter().zip(&open).filter(|(_, open)| **open > 0).map(|(input, _)| input).collect();
    if let Some((_, first)) = circle.first() {
        let names: Vec<&str> = circle.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!("the rules of the inputs `{}` depend on each other in a circle", names.join("`, `"));
        problems.push(Diagnostic::error("spec-rules", message).at(first.key));
    }
    problems.len() == before
}

/// Finds the rule that applies; without rules, what the input itself says.
pub(super) fn choose<'a>(declaration: &'a Declaration, resolved: &Map, given: &Map) -> Choice<'a> {
    let Some(rules) = &declaration.rules else {
        return Choice { default: declaration.default.as_ref(), options: declaration.options.as_deref() };
    };
    let value = |name: &str| resolved.get(name).or_else(|| given.get(name)).map(|entry| entry.value.clone());
    let matches = |condition: &Condition| condition.is_true(&value);
    let rule = rules.iter().find(|rule| rule.condition.as_ref().is_none_or(matches));
    rule.map_or_else(Choice::default, |rule| Choice { default: rule.default.as_ref(), options: rule.options.as_deref() })
}
