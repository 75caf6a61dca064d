//! Problems as a document of this program's own.

use dockwright_pipeline::{Diagnostic, Severity, Sources};
use serde::Serialize;

use crate::wire::LoadedPipeline;

#[derive(Serialize)]
pub(super) struct Report<'pipeline> {
    valid: bool,
    problems: Vec<ProblemLine<'pipeline>>,
}

#[derive(Serialize)]
struct ProblemLine<'pipeline> {
    severity: &'static str,
    /// Stable name in kebab case.
    code: &'static str,
    message: &'pipeline str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'pipeline str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    help: &'pipeline [String],
}

pub(super) fn report(loaded: &LoadedPipeline) -> Report<'_> {
    let problems = loaded.problems.iter().map(|problem| problem_line(problem, &loaded.sources)).collect();
    Report { valid: !dockwright_pipeline::has_errors(&loaded.problems), problems }
}

fn problem_line<'pipeline>(problem: &'pipeline Diagnostic, sources: &'pipeline Sources) -> ProblemLine<'pipeline> {
    let position = problem.span.map(|span| sources.position(span));
    ProblemLine {
        severity: match problem.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        },
        code: problem.code,
        message: &problem.message,
        file: problem.span.map(|span| sources.get(span.source).name.as_str()),
        line: position.map(|position| position.line),
        column: position.map(|position| position.column),
        help: &problem.help,
    }
}
