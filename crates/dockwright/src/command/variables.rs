//! `dockwright variables JOB`.

use dockwright_pipeline::variables_of;
use serde::Serialize;

use crate::{
    cli::VariablesArgs,
    error::CommandError,
    exit_code::ExitCode,
    report::Streams,
    settings::{GlobalSettings, ProjectSettings},
    wire::{Checkout, LoadedPipeline, select_jobs},
};

/// What stands for a value that is not shown.
const HIDDEN: &str = "[masked]";

#[derive(Serialize)]
struct Line<'v> {
    key: &'v str,
    value: &'v str,
    origin: &'static str,
}

pub(super) fn run(arguments: &VariablesArgs, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let project = ProjectSettings::decide(&arguments.project, &settings.file.run)?;
    let checkout = Checkout::temporary()?;
    let loaded = LoadedPipeline::load(&project, settings, None, checkout.path())?;
    loaded.report_problems()?;
    // Explains a name that is no job of the pipeline.
    select_jobs(loaded.pipeline.clone(), &loaded.config, std::slice::from_ref(&arguments.job))?;
    if loaded.pipeline.job(&arguments.job).is_none() {
        return Err(CommandError::usage(format!("`{}` makes several jobs, each with its own variables", arguments.job))
            .hint(format!("name one of them: `{}`", loaded.config.jobs_named(&arguments.job).join("`, `"))));
    }
    let variables = variables_of(&loaded.config, &loaded.context, &arguments.job).unwrap_or_default();
    let is_masked = |key: &str| loaded.trigger.variables.iter().any(|given| given.masked && given.key == key);
    let lines: Vec<Line<'_>> = variables
        .iter()
        .map(|variable| Line {
            key: &variable.key,
            value: if is_masked(&variable.key) { HIDDEN } else { &variable.value },
            origin: variable.origin.as_str(),
        })
        .collect();
    if arguments.json {
        streams.json(&lines);
    } else {
        print_table(&lines, streams);
    }
    Ok(ExitCode::Success)
}

fn print_table(lines: &[Line<'_>], streams: Streams) {
    let keys = lines.iter().map(|line| line.key.len()).max().unwrap_or(0);
    let origins = lines.iter().map(|line| line.origin.len()).max().unwrap_or(0);
    for line in lines {
        // A value of several lines stays in its row.
        let value = line.value.replace('\n', "\\n");
        streams.data(format!("{:keys$}  {:origins$}  {value}", line.key, line.origin).trim_end());
    }
}
