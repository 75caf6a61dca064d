//! Text in, text out: configurations, and the jobs or problems that come of them.

mod compose;
mod generated;
mod jobs;
mod merged;
mod problems;
mod robustness;
mod samples;
mod scale;
mod spec;
mod variables;

use std::{fmt::Write as _, sync::Arc};

use dockwright_pipeline::{
    AllowFailure, Diagnostic, Job, Pipeline, PipelineContext, Repository, Style, evaluate, has_errors, parse, render,
};
use expect_test::Expect;
use indexmap::IndexMap;

/// What a configuration is evaluated for.
#[derive(Clone)]
struct Context(PipelineContext);

impl Context {
    /// A push to a branch.
    fn push(branch: &str) -> Self {
        let pairs = [("CI", "true"), ("CI_COMMIT_BRANCH", branch), ("CI_COMMIT_REF_NAME", branch), ("CI_PIPELINE_SOURCE", "push")];
        let predefined = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Self(PipelineContext { predefined, ..PipelineContext::default() })
    }

    /// A push of a tag.
    fn tag(tag: &str) -> Self {
        Self::push(tag).without("CI_COMMIT_BRANCH").predefined("CI_COMMIT_TAG", tag)
    }

    /// An event other than a push.
    fn event(self, source: &str) -> Self {
        let context = self.predefined("CI_PIPELINE_SOURCE", source);
        if source == "merge_request_event" { context.without("CI_COMMIT_BRANCH") } else { context }
    }

    fn predefined(mut self, key: &str, value: &str) -> Self {
        self.0.predefined.insert(key.to_owned(), value.to_owned());
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.0.predefined.shift_remove(key);
        self
    }

    /// The event changed these paths, separated by commas.
    fn changed(mut self, paths: &str) -> Self {
        self.0.repository = Some(Arc::new(Files { changed: Some(list(paths)), files: self.files() }));
        self
    }

    /// The commit has these files, separated by commas.
    fn with_files(mut self, paths: &str) -> Self {
        let changed = self.0.repository.as_ref().and_then(|repository| repository.changed_paths());
        self.0.repository = Some(Arc::new(Files { changed, files: list(paths) }));
        self
    }

    fn files(&self) -> Arc<[String]> {
        self.0.repository.as_ref().map_or_else(|| [].into(), |repository| repository.files())
    }

    /// Starts the pipeline with a variable.
    fn with(mut self, key: &str, value: &str) -> Self {
        self.0.variables.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Starts the pipeline with an input.
    fn with_input(mut self, name: &str, value: &str) -> Self {
        self.0.inputs.insert(name.to_owned(), value.to_owned());
        self
    }
}

fn list(paths: &str) -> Arc<[String]> {
    paths.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

/// A repository of names. Every path changed since `main`.
#[derive(Debug)]
struct Files {
    changed: Option<Arc<[String]>>,
    files: Arc<[String]>,
}

impl Repository for Files {
    fn changed_paths(&self) -> Option<Arc<[String]>> {
        self.changed.clone()
    }

    fn changed_since(&self, reference: &str) -> Option<Arc<[String]>> {
        (reference == "main").then(|| self.files.clone())
    }

    fn files(&self) -> Arc<[String]> {
        self.files.clone()
    }
}

/// Evaluates `.gitlab-ci.yml` for a push to `main`.
#[track_caller]
fn check(text: &str, expected: Expect) {
    check_in(text, Context::push("main"), expected);
}

/// Evaluates `.gitlab-ci.yml` in a context.
#[track_caller]
fn check_in(text: &str, context: Context, expected: Expect) {
    check_files(&[(".gitlab-ci.yml", text)], context, expected);
}

/// Evaluates `.gitlab-ci.yml` among other files.
#[track_caller]
fn check_files(files: &[(&str, &str)], context: Context, expected: Expect) {
    let files: IndexMap<String, String> =
        files.iter().map(|(path, text)| ((*path).to_owned(), text.trim_start_matches('\n').to_owned())).collect();
    let parsed = parse(".gitlab-ci.yml", &files, &context.0);
    let mut problems = parsed.problems.clone();
    let mut output = String::new();
    if !has_errors(&problems) {
        let (pipeline, more) = evaluate(&parsed.config, &context.0);
        problems.extend(more);
        if !has_errors(&problems) {
            output = show(&pipeline);
        }
    }
    let rendered: Vec<String> = problems.iter().map(|problem: &Diagnostic| render(problem, &parsed.sources, Style::Plain)).collect();
    let rendered = rendered.join("\n");
    expected.assert_eq(&if rendered.is_empty() { output } else { format!("{rendered}\n{output}") });
}

/// One line for each stage and job, and one for each thing worth knowing about a job.
fn show(pipeline: &Pipeline) -> String {
    let mut output = String::new();
    if let Some(name) = &pipeline.name {
        writeln!(output, "name {name}").expect("writing to a string");
    }
    for stage in &pipeline.stages {
        writeln!(output, "stage {stage}").expect("writing to a string");
        for job in pipeline.jobs.iter().filter(|job| job.stage == *stage) {
            writeln!(output, "  {}{}", job.name, attributes(job)).expect("writing to a string");
            for detail in details(job) {
                writeln!(output, "    {detail}").expect("writing to a string");
            }
        }
    }
    output
}

fn attributes(job: &Job) -> String {
    let mut output = format!(" when={}", job.when.as_str());
    match &job.allow_failure {
        AllowFailure::Never => {}
        AllowFailure::Always => output.push_str(" allow_failure"),
        AllowFailure::ExitCodes(codes) => write!(output, " allow_failure={codes:?}").expect("writing to a string"),
    }
    if let Some(needs) = &job.needs {
        let needs: Vec<String> =
            needs.iter().map(|need| format!("{}{}", need.job, if need.artifacts { "" } else { " (no artifacts)" })).collect();
        write!(output, " needs={needs:?}").expect("writing to a string");
    }
    output
}

fn details(job: &Job) -> Vec<String> {
    let mut details = Vec::new();
    if let Some(image) = &job.image {
        details.push(format!("image {} entrypoint={:?}", image.name, image.entrypoint));
    }
    for service in &job.services {
        details.push(format!("service {} alias={:?} command={:?}", service.name, service.alias, service.command));
    }
    for variable in &job.variables {
        details.push(format!("{}={:?}{}", variable.key, variable.value, if variable.raw { " raw" } else { "" }));
    }
    details.extend(job.pre_get_sources_script.iter().map(|line| format!("before sources $ {line}")));
    details.extend(job.script.iter().map(|line| format!("$ {line}")));
    details.extend(job.after_script.iter().map(|line| format!("after $ {line}")));
    details.extend(job.artifacts.iter().map(|artifacts| format!("{artifacts:?}")));
    details.extend(job.cache.iter().map(|cache| format!("{cache:?}")));
    details.extend(job.other_needs.iter().map(|need| format!("needs {need:?}")));
    details.extend(job.dependencies.iter().map(|names| format!("dependencies {names:?}")));
    if !job.tags.is_empty() {
        details.push(format!("tags {:?}", job.tags));
    }
    details.extend(job.interruptible.then(|| "interruptible".to_owned()));
    details.extend(job.timeout_secs.iter().map(|secs| format!("timeout {secs} s")));
    if job.retry.max > 0 {
        details.push(format!("{:?}", job.retry));
    }
    details.extend(job.start_in_secs.iter().map(|secs| format!("starts after {secs} s")));
    details.extend(job.resource_group.iter().map(|group| format!("resource group {group}")));
    details.extend(job.bridge.iter().map(|bridge| format!("{bridge:?}")));
    details.extend(job.release.iter().map(|release| format!("{release:?}")));
    details.extend(job.environment.iter().map(|environment| format!("{environment:?}")));
    details
}
