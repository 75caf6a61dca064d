//! `dockwright list`.

use dockwright_pipeline::{AllowFailure, Downstream, Job};
use serde::Serialize;

use crate::{
    cli::ListArgs,
    error::CommandError,
    exit_code::ExitCode,
    report::Streams,
    settings::{GlobalSettings, ProjectSettings},
    wire::{Checkout, LoadedPipeline},
};

#[derive(Serialize)]
struct Line<'pipeline> {
    name: &'pipeline str,
    stage: &'pipeline str,
    when: &'static str,
    allow_failure: bool,
    /// Absent: runs in the shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'pipeline str>,
    /// The job starts another pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    starts: Option<String>,
    /// Absent: waits for all earlier stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<Vec<&'pipeline str>>,
}

pub(super) fn run(arguments: &ListArgs, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let project = ProjectSettings::decide(&arguments.project, &settings.file.run)?;
    let checkout = Checkout::temporary()?;
    let loaded = LoadedPipeline::load(&project, settings, None, checkout.path())?;
    loaded.report_problems()?;
    let lines: Vec<Line<'_>> = loaded.pipeline.jobs.iter().map(line).collect();
    if arguments.json {
        streams.json(&serde_json::json!({ "stages": loaded.pipeline.stages, "jobs": lines }));
    } else {
        print_table(&lines, streams);
        say_left_out(&loaded, streams);
    }
    Ok(ExitCode::Success)
}

fn line(job: &Job) -> Line<'_> {
    Line {
        name: &job.name,
        stage: &job.stage,
        when: job.when.as_str(),
        allow_failure: job.allow_failure == AllowFailure::Always,
        image: job.image.as_ref().filter(|_| job.bridge.is_none()).map(|image| image.name.as_str()),
        starts: job.bridge.as_ref().map(|bridge| match &bridge.downstream {
            Downstream::Child(_) => "child pipeline".to_owned(),
            Downstream::Project(path) => format!("pipeline of {path}"),
        }),
        needs: job.needs.as_ref().map(|needs| needs.iter().map(|need| need.job.as_str()).collect()),
    }
}

fn print_table(lines: &[Line<'_>], streams: Streams) {
    let names = width(lines.iter().map(|line| line.name), "JOB");
    let stages = width(lines.iter().map(|line| line.stage), "STAGE");
    streams.data(format!("{:names$}  {:stages$}  {:10}  RUNS IN", "JOB", "STAGE", "WHEN"));
    for line in lines {
        let place = line.starts.as_deref().or(line.image).unwrap_or("shell");
        let needs =
            line.needs.as_ref().map(|needs| format!("  needs {}", if needs.is_empty() { "nothing".to_owned() } else { needs.join(", ") }));
        let row = format!("{:names$}  {:stages$}  {:10}  {place}{}", line.name, line.stage, line.when, needs.unwrap_or_default());
        streams.data(row.trim_end());
    }
}

fn width<'a>(column: impl Iterator<Item = &'a str>, title: &str) -> usize {
    column.map(|text| text.chars().count()).fold(title.len(), usize::max)
}

fn say_left_out(loaded: &LoadedPipeline, streams: Streams) {
    let left_out: Vec<&str> = loaded.config.job_names().filter(|name| loaded.pipeline.job(name).is_none()).collect();
    if !left_out.is_empty() {
        streams.say(format!("left out by their rules: {}", left_out.join(", ")));
    }
}
