//! `dockwright list`.

mod graph;
mod svg;

use dockwright_coordinator::LockMode;
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
    let mut project = ProjectSettings::decide(&arguments.project, &settings.file.run)?;
    let checkout = Checkout::temporary()?;
    if arguments.names {
        project.lock = LockMode::Frozen;
        let loaded = LoadedPipeline::load(&project, settings, None, checkout.path())?;
        // While a problem is being mended, the jobs that could be understood are still of use.
        loaded.config.selectable_names().for_each(|name| streams.data(name));
        return Ok(ExitCode::Success);
    }
    let loaded = LoadedPipeline::load(&project, settings, None, checkout.path())?;
    loaded.report_problems()?;
    let lines: Vec<Line<'_>> = loaded.pipeline.jobs.iter().map(line).collect();
    if arguments.json {
        streams.json(&serde_json::json!({ "stages": loaded.pipeline.stages, "jobs": lines }));
    } else if arguments.svg {
        streams.raw_data(svg::document(&loaded.pipeline, &lines).as_bytes());
    } else if arguments.graph {
        streams.raw_data(graph::text(&loaded.pipeline, &lines).as_bytes());
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

#[cfg(test)]
mod tests {
    use dockwright_pipeline::{Pipeline, PipelineContext, evaluate, parse};
    use expect_test::expect;

    use super::*;

    fn pipeline(text: &str) -> Pipeline {
        let context = PipelineContext::default();
        let files = indexmap::IndexMap::from([("ci.yml".to_owned(), text.to_owned())]);
        let parsed = parse("ci.yml", &files, &context);
        assert_eq!(parsed.problems, []);
        evaluate(&parsed.config, &context).0
    }

    const FILE: &str = "
stages: [build, test, deploy]
compile: {stage: build, script: [make]}
link: {stage: build, script: [make], needs: [compile]}
unit: {stage: test, script: [make], needs: [link], allow_failure: true}
docs: {stage: test, script: [make], needs: []}
'a<b> & \"c\"': {stage: deploy, script: [make], when: manual}
";

    #[test]
    fn a_graph_in_text() {
        let pipeline = pipeline(FILE);
        let lines: Vec<Line<'_>> = pipeline.jobs.iter().map(line).collect();
        expect![[r#"
            build
            ├─ compile
            └─ link  ← compile
            test
            ├─ unit (may fail)  ← link
            └─ docs  ← nothing
            deploy
            └─ a<b> & "c" (manual)
        "#]]
        .assert_eq(&graph::text(&pipeline, &lines));
    }

    #[test]
    fn a_graph_as_a_picture() {
        let pipeline = pipeline(FILE);
        let lines: Vec<Line<'_>> = pipeline.jobs.iter().map(line).collect();
        let picture = svg::document(&pipeline, &lines);
        assert_eq!((picture.matches("<g class").count(), picture.matches("<path ").count()), (5, 2), "{picture}");
        assert!(picture.contains("a&lt;b&gt; &amp; &quot;c&quot; (manual)</text>"), "{picture}");
        // `link` needs a job of its own stage, so it stands to the right of it, and its curve leads there.
        expect![[r#"
            <path d="M100 65 C130 65 130 65 160 65"/>
            <path d="M216 65 C246 65 246 65 276 65"/>
        "#]]
        .assert_eq(&picture.lines().filter(|line| line.starts_with("<path")).map(|line| format!("{line}\n")).collect::<String>());
    }

    #[test]
    fn an_empty_pipeline_is_a_picture_too() {
        assert!(svg::document(&Pipeline::default(), &[]).ends_with("</svg>\n"));
    }
}
