//! `trigger`: a job that starts another pipeline instead of a script.

use super::{Reader, present};
use crate::{
    diagnostic::Diagnostic,
    pipeline::{Bridge, ChildInclude, Downstream, Strategy},
    yaml::{Map, Node, Value},
};

/// Keys of a job with `trigger`.
pub(super) const JOB_KEYS: &[&str] = &[
    "trigger",
    "parallel",
    "extends",
    "stage",
    "only",
    "except",
    "rules",
    "variables",
    "inherit",
    "allow_failure",
    "when",
    "needs",
    "resource_group",
    "environment",
    "interruptible",
];
const KEYS: &[&str] = &["project", "branch", "include", "strategy", "forward", "inputs"];
const STRATEGIES: &[(&str, Strategy)] = &[("depend", Strategy::Depend), ("mirror", Strategy::Mirror)];
/// Most files of a child pipeline.
const MAX_INCLUDES: usize = 3;

/// Reads `trigger`: a project, or a mapping.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Bridge> {
    let bridge = match &node.value {
        Value::Text(project) => Bridge { downstream: Downstream::Project(project.clone()), ..Bridge::default() },
        Value::Map(map) => mapping(reader, at, node, map)?,
        _ => {
            reader.wrong_type(at, node, "a hash or a string");
            return None;
        }
    };
    if let Downstream::Project(project) = &bridge.downstream {
        let message = format!("{at}: the pipeline of `{project}` is not started locally");
        let help = "the job succeeds at once, as on GitLab without `strategy`; run the other project's pipeline in a clone of it";
        reader.report(Diagnostic::warning("not-done-locally", message).at(node.span).help(help));
    }
    Some(bridge)
}

fn mapping(reader: &mut Reader<'_>, at: &str, node: &Node, map: &Map) -> Option<Bridge> {
    reader.unknown_keys(at, map, KEYS);
    let downstream = match (present(map, "project"), present(map, "include")) {
        (Some(project), None) => Downstream::Project(reader.text(&format!("{at}:project"), &project.value)?),
        (None, Some(include)) => Downstream::Child(includes(reader, &format!("{at}:include"), &include.value)?),
        (Some(project), Some(include)) => {
            let message = format!("{at} config these keys cannot be used together: project, include");
            reader.report(Diagnostic::error("exclusive-keys", message).at(include.key).also(project.key, "the other one"));
            return None;
        }
        (None, None) => {
            let message = format!("{at} config should contain either a project or an include");
            reader.report(Diagnostic::error("missing-key", message).at(node.span).help("add `include: FILE` for a child pipeline"));
            return None;
        }
    };
    let branch = present(map, "branch").and_then(|branch| reader.text(&format!("{at}:branch"), &branch.value));
    if let Some(inputs) = present(map, "inputs") {
        let message = format!("{at}: `inputs` are not supported yet");
        reader.report(Diagnostic::error("unsupported-keyword", message).at(inputs.key).help("use `variables`"));
    }
    let forward = present(map, "forward").map(|entry| forward(reader, &format!("{at}:forward"), &entry.value));
    let (yaml_variables, pipeline_variables) = forward.unwrap_or((true, false));
    let strategy = present(map, "strategy").and_then(|entry| reader.one_of(&format!("{at} strategy"), &entry.value, STRATEGIES));
    Some(Bridge { downstream, branch, strategy, yaml_variables, pipeline_variables })
}

fn forward(reader: &mut Reader<'_>, at: &str, node: &Node) -> (bool, bool) {
    let Some(map) = reader.map(at, node) else { return (true, false) };
    reader.unknown_keys(at, map, &["yaml_variables", "pipeline_variables"]);
    let mut boolean = |key: &str, default: bool| {
        present(map, key).and_then(|entry| reader.boolean(&format!("{at}:{key}"), &entry.value)).unwrap_or(default)
    };
    (boolean("yaml_variables", true), boolean("pipeline_variables", false))
}

fn includes(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<ChildInclude>> {
    let items: Vec<&Node> = match &node.value {
        Value::List(items) => items.iter().map(|item| &**item).collect(),
        _ => vec![node],
    };
    if items.len() > MAX_INCLUDES {
        let message = format!("{at} config is too long (maximum is {MAX_INCLUDES})");
        reader.report(Diagnostic::error("trigger-include", message).at(node.span).help("include the others from one of them"));
    }
    items.into_iter().map(|item| include(reader, at, item)).collect()
}

fn include(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<ChildInclude> {
    let map = match &node.value {
        Value::Text(path) => return Some(ChildInclude::Local(path.clone())),
        _ => reader.map(at, node)?,
    };
    if let Some(entry) = ["project", "template", "component", "remote", "inputs"].iter().find_map(|key| present(map, key)) {
        let message = format!("{at}: only `local` and `artifact` are supported yet");
        let help = "use a file of this repository that includes the other";
        reader.report(Diagnostic::error("unsupported-keyword", message).at(entry.key).help(help));
        return None;
    }
    reader.unknown_keys(at, map, &["local", "artifact", "job"]);
    match (present(map, "local"), present(map, "artifact"), present(map, "job")) {
        (Some(local), None, None) => Some(ChildInclude::Local(reader.text(&format!("{at}:local"), &local.value)?)),
        (None, Some(artifact), Some(job)) => Some(ChildInclude::Artifact {
            path: reader.text(&format!("{at}:artifact"), &artifact.value)?,
            job: reader.text(&format!("{at}:job"), &job.value)?,
        }),
        (None, Some(artifact), None) => {
            let message = format!("{at} config must specify the job where to fetch the artifact from");
            reader.report(Diagnostic::error("trigger-include", message).at(artifact.key).help("add `job: JOB`"));
            None
        }
        _ => {
            let message = format!("{at} config must use exactly one of these keys: local, artifact");
            reader.report(Diagnostic::error("trigger-include", message).at(node.span));
            None
        }
    }
}
