//! `allow_failure`: a boolean, or the exit codes that may be.

use super::{
    Reader, present,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    pipeline::AllowFailure,
    yaml::{Node, Value},
};

const KEYS: &[&str] = &["exit_codes"];

/// Reads `allow_failure` of a job.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<AllowFailure> {
    match &node.value {
        Value::Bool(true) => Some(AllowFailure::Always),
        Value::Bool(false) => Some(AllowFailure::Never),
        Value::Map(map) => {
            reader.unknown_keys(at, map, KEYS);
            let entry = present(map, "exit_codes")?;
            exit_codes(reader, &format!("{at}:exit_codes"), &entry.value).map(AllowFailure::ExitCodes)
        }
        _ => {
            reader.wrong_type(at, node, "a hash or a boolean value");
            None
        }
    }
}

/// Reads `allow_failure` of a rule.
pub(super) fn read_rule(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<AllowFailure> {
    reader.boolean(at, node).map(|allowed| if allowed { AllowFailure::Always } else { AllowFailure::Never })
}

/// Reads a number or a list of numbers.
pub(super) fn exit_codes(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<i32>> {
    let code = |node: &Node| match node.value {
        Value::Integer(code) => i32::try_from(code).ok(),
        _ => None,
    };
    let codes = match &node.value {
        Value::List(items) => items.iter().map(|item| code(item)).collect(),
        _ => code(node).map(|code| vec![code]),
    };
    if codes.is_none() {
        reader.wrong_type(at, node, "an array of integers or an integer");
    }
    codes
}

/// Describes `allow_failure`.
pub(super) fn shape() -> Shape {
    let keys = Shape::map(KEYS, |key| match key {
        "exit_codes" => ("Only these exit codes may fail.", exit_codes_shape()),
        _ => UNDESCRIBED,
    });
    Shape::Either(vec![Shape::Boolean, keys])
}

/// Describes a number or a list of numbers.
pub(super) fn exit_codes_shape() -> Shape {
    Shape::one_or_list(Shape::Integer(i64::from(i32::MIN), i64::from(i32::MAX)))
}
