//! `workflow`: whether there is a pipeline at all.

use super::{
    Reader, present, rules,
    rules::Rule,
    shape::{Shape, UNDESCRIBED},
};
use crate::yaml::Node;

const KEYS: &[&str] = &["rules", "name", "auto_cancel"];
const AUTO_CANCEL_KEYS: &[&str] = &["on_new_commit", "on_job_failure"];
const NEW_COMMIT: &[(&str, ())] = &[("conservative", ()), ("interruptible", ()), ("none", ())];
const JOB_FAILURE: &[(&str, bool)] = &[("none", false), ("all", true)];

/// `workflow`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Workflow {
    /// Absent: there is always a pipeline.
    pub(crate) rules: Option<Vec<Rule>>,
    pub(crate) name: Option<String>,
    pub(crate) cancel_on_failure: bool,
}

/// Reads `workflow`.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Workflow {
    let Some(map) = reader.map("workflow", node) else { return Workflow::default() };
    reader.unknown_keys("workflow", map, KEYS);
    Workflow {
        rules: present(map, "rules").and_then(|entry| rules::read_workflow_rules(reader, &entry.value)),
        name: present(map, "name").and_then(|entry| reader.text("workflow:name", &entry.value)),
        cancel_on_failure: present(map, "auto_cancel").is_some_and(|entry| auto_cancel(reader, &entry.value)),
    }
}

fn auto_cancel(reader: &mut Reader<'_>, node: &Node) -> bool {
    let Some(map) = reader.map("workflow:auto_cancel", node) else { return false };
    reader.unknown_keys("workflow:auto_cancel", map, AUTO_CANCEL_KEYS);
    if let Some(entry) = present(map, "on_new_commit") {
        // Other pipelines of the branch do not exist here.
        reader.one_of("workflow:auto_cancel on new commit", &entry.value, NEW_COMMIT);
    }
    present(map, "on_job_failure")
        .and_then(|entry| reader.one_of("workflow:auto_cancel on job failure", &entry.value, JOB_FAILURE))
        .unwrap_or(false)
}

/// Describes `workflow`.
pub(super) fn shape() -> Shape {
    Shape::map(KEYS, |key| match key {
        "rules" => ("Whether there is a pipeline: the first rule that matches decides.", rules::workflow_shape()),
        "name" => ("Name of the pipeline; variables are allowed.", Shape::Text),
        "auto_cancel" => ("What is cancelled by itself.", auto_cancel_shape()),
        _ => UNDESCRIBED,
    })
}

/// Describes `auto_cancel`.
pub(super) fn auto_cancel_shape() -> Shape {
    Shape::map(AUTO_CANCEL_KEYS, |key| match key {
        "on_new_commit" => ("What a newer commit cancels of this pipeline.", Shape::words(NEW_COMMIT)),
        "on_job_failure" => ("What a failed job cancels.", Shape::words(JOB_FAILURE)),
        _ => UNDESCRIBED,
    })
}
