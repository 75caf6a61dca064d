//! `trigger`: a job that starts another pipeline instead of a script.

use super::{
    Reader, present, rules,
    shape::{Name, Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::{Bridge, ChildInclude, Downstream, Strategy},
    yaml::{Map, Node, Value, node_to_json},
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
const FORWARD_KEYS: &[&str] = &["yaml_variables", "pipeline_variables"];
const INCLUDE_KINDS: &[&str] = &["local", "project", "remote", "template", "artifact", "component"];
const INCLUDE_KEYS: &[&str] =
    &["local", "project", "remote", "template", "artifact", "component", "file", "ref", "job", "inputs", "rules", "integrity"];
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
        reader.map(&format!("{at}:inputs"), &inputs.value);
        if let Downstream::Child(_) = downstream {
            let message = format!("{at} config contains unknown keys: inputs");
            let help = "the files of a child pipeline have inputs of their own: `include: [{local: FILE, inputs: {…}}]`";
            reader.report(Diagnostic::error("unknown-key", message).at(inputs.key).help(help));
        }
    }
    let forward = present(map, "forward").map(|entry| forward(reader, &format!("{at}:forward"), &entry.value));
    let (yaml_variables, pipeline_variables) = forward.unwrap_or((true, false));
    let strategy = present(map, "strategy").and_then(|entry| reader.one_of(&format!("{at} strategy"), &entry.value, STRATEGIES));
    Some(Bridge { downstream, branch, strategy, yaml_variables, pipeline_variables })
}

fn forward(reader: &mut Reader<'_>, at: &str, node: &Node) -> (bool, bool) {
    let Some(map) = reader.map(at, node) else { return (true, false) };
    reader.unknown_keys(at, map, FORWARD_KEYS);
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

/// Reads an entry. Files of jobs are for triggers only; the rest is what `include` takes, which looks closer when the child is made.
fn include(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<ChildInclude> {
    let map = match &node.value {
        Value::Text(_) => return Some(ChildInclude::Entry(node_to_json(node))),
        _ => reader.map(at, node)?,
    };
    reader.unknown_keys(at, map, INCLUDE_KEYS);
    let kinds: Vec<&str> = INCLUDE_KINDS.iter().copied().filter(|kind| present(map, kind).is_some()).collect();
    let [kind] = kinds[..] else {
        let message = format!("{at} config must use exactly one of these keys: {}", INCLUDE_KINDS.join(", "));
        reader.report(Diagnostic::error("trigger-include", message).at(node.span));
        return None;
    };
    let text = reader.text(&format!("{at}:{kind}"), &map[kind].value)?;
    let inputs = match present(map, "inputs") {
        Some(inputs) => {
            reader.map(&format!("{at}:inputs"), &inputs.value)?;
            Some(node_to_json(&inputs.value))
        }
        None => None,
    };
    let required = |reader: &mut Reader<'_>, key: &str, message: &str| {
        if present(map, key).is_none() {
            let message = format!("{at} config must specify the {message}");
            reader.report(Diagnostic::error("trigger-include", message).at(map[kind].key).help(format!("add `{key}: …`")));
        }
        present(map, key)
    };
    match kind {
        "artifact" => {
            let job = required(reader, "job", "job where to fetch the artifact from")?;
            Some(ChildInclude::Artifact { path: text, job: reader.text(&format!("{at}:job"), &job.value)?, inputs })
        }
        "project" => {
            required(reader, "file", "file where to fetch the config from")?;
            Some(ChildInclude::Entry(node_to_json(node)))
        }
        _ => Some(ChildInclude::Entry(node_to_json(node))),
    }
}

/// Describes `trigger`.
pub(super) fn shape() -> Shape {
    let keys = Shape::map(KEYS, |key| match key {
        "project" => ("The project whose pipeline is started.", Shape::Text),
        "branch" => ("The branch of that project.", Shape::Text),
        "include" => ("The configuration of a child pipeline.", Shape::one_or_list(include_shape())),
        "strategy" => ("Whether the job waits for the pipeline and takes over its result.", Shape::words(STRATEGIES)),
        "forward" => ("Which variables the pipeline gets.", Shape::map(FORWARD_KEYS, forward_shape)),
        "inputs" => ("Values of the inputs of the pipeline.", Shape::named(Shape::Any)),
        _ => UNDESCRIBED,
    });
    Shape::Either(vec![Shape::Text, keys])
}

fn forward_shape(key: &str) -> (&'static str, Shape) {
    match key {
        "yaml_variables" => ("Those of this job's configuration.", Shape::Boolean),
        "pipeline_variables" => ("Those that this pipeline was started with.", Shape::Boolean),
        _ => UNDESCRIBED,
    }
}

fn include_shape() -> Shape {
    let keys = Shape::map(INCLUDE_KEYS, |key| match key {
        "local" => ("A file of this repository.", Shape::Name(Name::File)),
        "artifact" => ("A file that an earlier job makes.", Shape::Text),
        "job" => ("The job that makes the file.", Shape::Name(Name::Job)),
        "inputs" => ("Values of the inputs of the file.", Shape::named(Shape::Any)),
        "project" => ("Path of another project on the same server.", Shape::Text),
        "file" => ("Files of that project.", Shape::one_or_list(Shape::Text)),
        "ref" => ("The branch, tag or commit of that project.", Shape::Text),
        "remote" => ("Address of a file.", Shape::Text),
        "integrity" => ("Digest that the remote file must have: `sha256-` and Base64.", Shape::Text),
        "template" => ("A file that comes with GitLab.", Shape::Text),
        "component" => ("A component: `SERVER/PROJECT/NAME@VERSION`.", Shape::Text),
        "rules" => ("Whether the file is included: the first rule that matches decides.", rules::include_shape()),
        _ => UNDESCRIBED,
    });
    Shape::Either(vec![Shape::Name(Name::File), keys])
}
