//! What jobs leave besides their state: reports, artifacts for jobs of other pipelines, and what would be released.

use std::sync::Arc;

use dockwright_job::JobId;
use dockwright_pipeline::{Job, OtherNeed, expand_blank};
use indexmap::IndexMap;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom},
};

use super::{Owner, StartError};
use crate::{
    event::JobEvent,
    junit::TestReport,
    project::git,
    release::ReleasePlan,
    run::{Access, ReportContent, RunError, StoredArtifact, child, family::Left},
};

/// How much of the end of a trace is searched for `coverage`.
const COVERAGE_SIZE_BYTES: u64 = 4 * 1024 * 1024;

impl Owner {
    /// Takes what a runner sent. Secrets do not come through what tests said.
    pub(super) async fn store(&mut self, access: &Access, mut artifact: StoredArtifact) -> Result<(), RunError> {
        self.authorized(access)?;
        let mut warning = None;
        if let ReportContent::Tests(report, problem) = &mut artifact.content {
            let secrets = self.secrets(access.job);
            report.each_text(|text| *text = masked(std::mem::take(text), &secrets));
            warning = problem.take();
        }
        let run = self.authorized(access)?;
        run.artifacts.insert(artifact.artifact_type.clone(), artifact);
        if let Some(message) = warning {
            self.emit(JobEvent::Warning { job: access.job, message }).await;
        }
        Ok(())
    }

    /// Returns the variables of a job's dotenv report.
    pub(super) fn dotenv(&self, id: JobId) -> IndexMap<String, String> {
        match self.runs[&id].artifacts.get("dotenv").map(|report| &report.content) {
            Some(ReportContent::Variables(variables)) => variables.clone(),
            _ => IndexMap::new(),
        }
    }

    /// Keeps what a job left for jobs of other pipelines.
    pub(super) fn leave(&self, id: JobId) {
        let left = Left { dependency: self.dependency(id), dotenv: self.dotenv(id) };
        self.family.leave(self.facts.pipeline_id, &self.pipeline.jobs[self.runs[&id].job].name, left);
    }

    /// Returns what the jobs of `needs:pipeline` left.
    pub(super) fn left_elsewhere(&self, job: &Job) -> Result<Vec<Left>, StartError> {
        let mut found = Vec::new();
        for need in &job.other_needs {
            let OtherNeed::Pipeline { pipeline, job: needed, artifacts: true } = need else { continue };
            let visible = self.visible(job);
            let (number, needed) = (expand_blank(pipeline, &visible), expand_blank(needed, &visible));
            let left = number.trim().parse().ok().and_then(|number| self.family.left(number, &needed));
            found.push(left.ok_or(StartError::MissingDependency { pipeline: pipeline.clone(), number, job: needed })?);
        }
        Ok(found)
    }

    /// Returns what a job's JUnit report says.
    pub(super) fn tests(&self, id: JobId) -> Option<TestReport> {
        match &self.runs[&id].artifacts.get("junit")?.content {
            ReportContent::Tests(report, _) => Some(report.clone()),
            _ => None,
        }
    }

    /// Looks for the percentage of covered code at the end of what the job printed.
    pub(super) async fn coverage(&self, id: JobId) -> Option<f64> {
        let coverage = self.pipeline.jobs[self.runs[&id].job].coverage.clone()?;
        let mut trace = File::open(self.jobs.trace(id)).await.ok()?;
        let length = trace.metadata().await.ok()?.len();
        trace.seek(SeekFrom::Start(length.saturating_sub(COVERAGE_SIZE_BYTES))).await.ok()?;
        let mut bytes = Vec::new();
        trace.read_to_end(&mut bytes).await.ok()?;
        coverage.find(&String::from_utf8_lossy(&bytes))
    }

    /// Completes what would be released, and warns of what GitLab would refuse.
    pub(super) async fn release(&mut self, id: JobId) -> Option<Box<ReleasePlan>> {
        let mut plan = self.runs[&id].release.take()?;
        if let Some(path) = plan.description_path().map(str::to_owned) {
            let archive = self.runs[&id].artifacts.contains_key("archive").then(|| self.jobs.artifact(id, "archive"));
            let facts = Arc::clone(&self.facts);
            let read = tokio::task::spawn_blocking(move || {
                let made = archive.and_then(|archive| child::read_entry(&archive, &path).ok());
                made.or_else(|| git::read_file(&facts.project.sources, &facts.project.sha, &path).ok())
            });
            if let Some(text) = read.await.expect("reading a file does not panic") {
                plan.description = masked(text, &self.secrets(id));
            }
        }
        for message in plan.problems() {
            self.emit(JobEvent::Warning { job: id, message }).await;
        }
        Some(Box::new(plan))
    }

    /// Returns what must not be printed of what a job left.
    fn secrets(&self, id: JobId) -> Vec<&str> {
        let given = self.facts.trigger.variables.iter().filter(|given| given.masked && !given.value.is_empty());
        given.map(|given| given.value.as_str()).chain([self.runs[&id].token.expose()]).collect()
    }
}

fn masked(text: String, secrets: &[&str]) -> String {
    secrets.iter().fold(text, |text, secret| text.replace(secret, "[MASKED]"))
}
