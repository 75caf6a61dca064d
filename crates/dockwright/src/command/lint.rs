//! `dockwright lint`.

use dockwright_pipeline::{Diagnostic, Severity, Sources};
use serde::Serialize;

use crate::{
    cli::LintArgs,
    error::CommandError,
    exit_code::ExitCode,
    report::Streams,
    settings::{GlobalSettings, ProjectSettings},
    wire::{Checkout, LoadedPipeline},
};

#[derive(Serialize)]
struct Report<'pipeline> {
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

pub(super) fn run(arguments: &LintArgs, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let project = ProjectSettings::decide(&arguments.project, &settings.file.run)?;
    let checkout = Checkout::temporary()?;
    let loaded = LoadedPipeline::load(&project, settings, None, checkout.path())?;
    let valid = !dockwright_pipeline::has_errors(&loaded.problems);
    if arguments.json {
        let problems = loaded.problems.iter().map(|problem| problem_line(problem, &loaded.sources)).collect();
        streams.json(&Report { valid, problems });
        return Ok(if valid { ExitCode::Success } else { ExitCode::Configuration });
    }
    loaded.report_problems()?;
    let remark = if loaded.is_empty { ", but its rules leave out every job for this ref and event" } else { "" };
    streams.say(format!("{} is valid{remark}", project.file.display()));
    Ok(ExitCode::Success)
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
