//! `retry`: how often, and after which failures, a job runs again.

use super::{
    Reader, allow_failure, present,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::Retry,
    yaml::{Map, Node, Value},
};

const KEYS: &[&str] = &["max", "when", "exit_codes"];
const MAX_RETRIES: i64 = 2;

const REASONS: &[&str] = &[
    "always",
    "unknown_failure",
    "script_failure",
    "api_failure",
    "stuck_or_timeout_failure",
    "stuck_pending",
    "no_updates_running",
    "server_timeout_running",
    "server_timeout_canceling",
    "no_updates_canceling",
    "runner_system_failure",
    "runner_unsupported",
    "runner_configuration_error",
    "runner_external_dependency_failure",
    "runner_interrupted",
    "runner_provisioning_timeout",
    "image_pull_failure",
    "stale_schedule",
    "job_execution_timeout",
    "job_execution_server_timeout",
    "archived_failure",
    "unmet_prerequisites",
    "scheduler_failure",
    "data_integrity_failure",
    "missing_dependency_failure",
];

/// Reads `retry`: a number, or a mapping.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Retry> {
    match &node.value {
        Value::Integer(_) => Some(Retry { max: max(reader, at, node)?, when: vec!["always".to_owned()], exit_codes: Vec::new() }),
        Value::Map(map) => Some(mapping(reader, at, map)),
        _ => {
            reader.wrong_type(at, node, "a hash or an integer");
            None
        }
    }
}

fn max(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<u8> {
    match node.value {
        Value::Integer(max @ 0..=MAX_RETRIES) => u8::try_from(max).ok(),
        _ => {
            let message = format!("{at} config must be an integer between 0 and {MAX_RETRIES}");
            reader.report(Diagnostic::error("retry-max", message).at(node.span));
            None
        }
    }
}

fn mapping(reader: &mut Reader<'_>, at: &str, map: &Map) -> Retry {
    reader.unknown_keys(at, map, KEYS);
    let exit_codes = present(map, "exit_codes")
        .and_then(|entry| allow_failure::exit_codes(reader, &format!("{at}:exit_codes"), &entry.value))
        .unwrap_or_default();
    let when = match present(map, "when") {
        Some(entry) => reasons(reader, &format!("{at}:when"), &entry.value),
        // Exit codes alone stand for themselves; without either, every failure counts.
        None if exit_codes.is_empty() => vec!["always".to_owned()],
        None => Vec::new(),
    };
    Retry { max: present(map, "max").and_then(|entry| max(reader, &format!("{at}:max"), &entry.value)).unwrap_or(0), when, exit_codes }
}

fn reasons(reader: &mut Reader<'_>, at: &str, node: &Node) -> Vec<String> {
    let words: Vec<(&str, &str)> = REASONS.iter().map(|reason| (*reason, *reason)).collect();
    let items: Vec<&Node> = match node.as_list() {
        Some(items) => items.iter().map(|item| &**item).collect(),
        None => vec![node],
    };
    let mut reasons: Vec<String> = items.into_iter().filter_map(|item| reader.one_of(at, item, &words)).map(str::to_owned).collect();
    if reasons.iter().any(|reason| reason == "stuck_or_timeout_failure") {
        // The old name of what a runner reports as the second.
        reasons.push("job_execution_timeout".to_owned());
    }
    reasons
}

/// Describes `retry`.
pub(super) fn shape() -> Shape {
    let max = Shape::Integer(0, MAX_RETRIES);
    let keys = Shape::map(KEYS, |key| match key {
        "max" => ("How often the job runs again.", Shape::Integer(0, MAX_RETRIES)),
        "when" => ("After which failures.", Shape::one_or_list(Shape::Words(REASONS.to_vec()))),
        "exit_codes" => ("After which exit codes of the script.", allow_failure::exit_codes_shape()),
        _ => UNDESCRIBED,
    });
    Shape::Either(vec![max, keys])
}
