//! `dockwright lint`.

mod code_quality;
mod finding;
mod json;
mod sarif;

use crate::{
    cli::{LintArgs, LintFormat},
    error::CommandError,
    exit_code::ExitCode,
    report::Streams,
    settings::{GlobalSettings, ProjectSettings},
    wire::{Checkout, LoadedPipeline},
};

pub(super) fn run(arguments: &LintArgs, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    if arguments.schema {
        streams.json(&dockwright_pipeline::json_schema());
        return Ok(ExitCode::Success);
    }
    let project = ProjectSettings::decide(&arguments.project, &settings.file.run)?;
    let checkout = Checkout::temporary()?;
    let loaded = LoadedPipeline::load(&project, settings, None, checkout.path())?;
    let findings = || finding::of(&loaded, &project.file.to_string_lossy());
    match if arguments.json { LintFormat::Json } else { arguments.format } {
        LintFormat::Text => return print_text(&loaded, &project, streams),
        LintFormat::Json => streams.json(&json::report(&loaded)),
        LintFormat::Sarif => streams.json(&sarif::log(&findings())),
        LintFormat::CodeQuality => streams.json(&code_quality::report(&findings())),
    }
    let valid = !dockwright_pipeline::has_errors(&loaded.problems);
    Ok(if valid { ExitCode::Success } else { ExitCode::Configuration })
}

fn print_text(loaded: &LoadedPipeline, project: &ProjectSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    loaded.report_problems()?;
    let remark = if loaded.is_empty { ", but its rules leave out every job for this ref and event" } else { "" };
    streams.say(format!("{} is valid{remark}", project.file.display()));
    Ok(ExitCode::Success)
}
