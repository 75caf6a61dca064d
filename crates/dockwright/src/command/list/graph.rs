//! The pipeline as a graph in text: stages in order, their jobs, and what a job waits for when that is not the stages before it.

use std::fmt::Write as _;

use dockwright_pipeline::Pipeline;

use super::Line;

pub(super) fn text(pipeline: &Pipeline, lines: &[Line<'_>]) -> String {
    let mut output = String::new();
    for stage in &pipeline.stages {
        let jobs: Vec<&Line<'_>> = lines.iter().filter(|line| line.stage == stage).collect();
        let _ = writeln!(output, "{stage}");
        for (number, line) in jobs.iter().enumerate() {
            let branch = if number + 1 == jobs.len() { "└─" } else { "├─" };
            let _ = writeln!(output, "{branch} {}{}{}", line.name, remarks(line), waits_for(line));
        }
    }
    output
}

/// What sets a job apart from one that runs after success.
pub(super) fn remarks(line: &Line<'_>) -> String {
    let mut remarks = Vec::new();
    if line.when != "on_success" {
        remarks.push(line.when);
    }
    // A manual job may fail by itself, which says nothing.
    if line.allow_failure && line.when != "manual" {
        remarks.push("may fail");
    }
    remarks.extend(line.starts.as_deref());
    if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join(", ")) }
}

fn waits_for(line: &Line<'_>) -> String {
    match line.needs.as_deref() {
        None => String::new(),
        Some([]) => "  ← nothing".to_owned(),
        Some(needs) => format!("  ← {}", needs.join(", ")),
    }
}
