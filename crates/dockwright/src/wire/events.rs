//! The coordinator's events as the report's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use dockwright_coordinator::{JobEvent, JobOutcome as Ended, JobStatus, PipelineRun};
use dockwright_job::{FailureReason, JobId};
use tokio::sync::mpsc;

use crate::report::{JobOutcome, RunEvent, TraceItem, TraceLines};

/// Names of jobs by number, known from the run's first events on.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobNames(Arc<Mutex<HashMap<JobId, String>>>);

impl JobNames {
    /// Returns the name, or the number as long as there is none.
    pub(crate) fn of(&self, job: JobId) -> String {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&job).cloned().unwrap_or_else(|| job.to_string())
    }

    fn add(&self, job: JobId, name: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(job, name);
    }
}

/// Passes a run's events on to the report until the run has ended.
pub(crate) async fn translate(mut events: mpsc::Receiver<JobEvent>, run: PipelineRun, names: JobNames, report: mpsc::Sender<RunEvent>) {
    let mut translator = Translator { run, names, traces: HashMap::new(), stages: HashMap::new() };
    while let Some(event) = events.recv().await {
        for told in translator.take(event) {
            // A report that went away does not stop the jobs.
            let _ = report.send(told).await;
        }
    }
}

struct Translator {
    run: PipelineRun,
    names: JobNames,
    traces: HashMap<JobId, TraceLines>,
    stages: HashMap<JobId, String>,
}

impl Translator {
    fn take(&mut self, event: JobEvent) -> Vec<RunEvent> {
        match event {
            JobEvent::Added { job, name, stage } => {
                self.names.add(job, name);
                self.stages.insert(job, stage);
                Vec::new()
            }
            JobEvent::Waiting { job, status: JobStatus::Skipped } => vec![self.did_not_run(job, JobOutcome::Skipped)],
            JobEvent::Waiting { job, status: JobStatus::Manual } => vec![self.did_not_run(job, JobOutcome::Manual)],
            JobEvent::Waiting { .. } | JobEvent::PipelineFinished { .. } => Vec::new(),
            JobEvent::Started { job } => {
                let stage = self.stages.get(&job).cloned().unwrap_or_default();
                vec![RunEvent::JobStarted { job: self.names.of(job), id: job.0, stage }]
            }
            JobEvent::Trace { job, bytes } => {
                let items = self.traces.entry(job).or_default().push(&bytes);
                self.output(job, items)
            }
            JobEvent::Warning { job, message } => {
                vec![RunEvent::Warning { message: format!("{}: {message}", self.names.of(job)), hint: None }]
            }
            JobEvent::Finished(ended) => {
                let rest = self.traces.remove(&ended.job).map(|mut trace| trace.finish()).unwrap_or_default();
                let mut told = self.output(ended.job, rest);
                told.push(self.finished(ended));
                told
            }
        }
    }

    fn output(&self, job: JobId, items: Vec<TraceItem>) -> Vec<RunEvent> {
        let name = self.names.of(job);
        let event = |item| match item {
            TraceItem::Phase(phase) => RunEvent::JobPhase { job: name.clone(), phase },
            TraceItem::Line(line) => RunEvent::JobOutput { job: name.clone(), line },
        };
        items.into_iter().map(event).collect()
    }

    fn did_not_run(&self, job: JobId, outcome: JobOutcome) -> RunEvent {
        RunEvent::JobFinished {
            job: self.names.of(job),
            outcome,
            duration: std::time::Duration::ZERO,
            coverage: None,
            tests: None,
            release: None,
            trace: None,
        }
    }

    fn finished(&self, ended: Ended) -> RunEvent {
        let outcome = match ended.status {
            JobStatus::Success => JobOutcome::Success,
            JobStatus::Skipped => JobOutcome::Skipped,
            JobStatus::Failed => JobOutcome::Failed {
                reason: reason(ended.failure_reason.unwrap_or(FailureReason::UnknownFailure)),
                exit_code: ended.exit_code,
                allowed: ended.allowed_to_fail,
                retried: ended.retried_as.is_some(),
            },
            _ => JobOutcome::Canceled,
        };
        let trace = Some(self.run.trace_path(ended.job).display().to_string());
        RunEvent::JobFinished {
            job: ended.name,
            outcome,
            duration: ended.duration,
            coverage: ended.coverage,
            tests: ended.tests,
            release: ended.release,
            trace,
        }
    }
}

/// Returns GitLab's word.
fn reason(reason: FailureReason) -> String {
    serde_json::to_value(reason).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
