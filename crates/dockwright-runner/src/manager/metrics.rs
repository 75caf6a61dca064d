//! What the process has done, under the names and labels of GitLab Runner's metrics.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use dockwright_job::{FailureReason, JobId};
use tokio::sync::mpsc;

use crate::{RunnerEvent, api::COMPATIBLE_VERSION, config::file::RunnerEntry};

/// Upper bounds of the buckets of job durations, in seconds.
const DURATION_BUCKETS_SECS: [u32; 10] = [30, 60, 300, 600, 1800, 3600, 7200, 10800, 18000, 36000];

/// Labels of one entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels(String);

impl Labels {
    pub(super) fn of(entry: &RunnerEntry, system_id: &str) -> Self {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let (runner, name) = (quote(entry.token.short()), quote(&entry.name));
        Self(format!("runner=\"{runner}\",runner_name=\"{name}\",system_id=\"{}\"", quote(system_id)))
    }
}

/// Counters and gauges of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    concurrent: usize,
    configurations_loaded: u64,
    configurations_refused: u64,
    runners: BTreeMap<Labels, RunnerState>,
}

#[derive(Debug, Default)]
struct RunnerState {
    limit: i64,
    request_concurrency: i64,
    running: usize,
    jobs: u64,
    failed: BTreeMap<&'static str, u64>,
    /// Jobs per bucket; the last one has no bound.
    durations: [u64; DURATION_BUCKETS_SECS.len() + 1],
    duration_secs: f64,
}

impl Metrics {
    /// Notes that a configuration was read and can be used, or not.
    pub fn configuration_read(&self, is_valid: bool) {
        let mut state = self.state();
        if is_valid {
            state.configurations_loaded += 1;
        } else {
            state.configurations_refused += 1;
        }
    }

    pub(super) fn set_concurrent(&self, concurrent: usize) {
        self.state().concurrent = concurrent;
    }

    pub(super) fn set_limits(&self, labels: &Labels, entry: &RunnerEntry) {
        let mut state = self.state();
        let runner = state.runners.entry(labels.clone()).or_default();
        runner.limit = entry.limit;
        runner.request_concurrency = entry.request_concurrency.max(1);
    }

    /// Counts the jobs of an entry until it has ended.
    pub(super) async fn watch(self: Arc<Self>, labels: Labels, mut events: mpsc::UnboundedReceiver<RunnerEvent>) {
        let mut began: HashMap<JobId, Instant> = HashMap::new();
        while let Some(event) = events.recv().await {
            match event {
                RunnerEvent::JobStarted { job, name } => {
                    tracing::info!(%job, name, "Job started");
                    began.insert(job, Instant::now());
                    self.change(&labels, |runner| {
                        runner.jobs += 1;
                        runner.running += 1;
                    });
                }
                RunnerEvent::PhaseStarted { .. } => {}
                RunnerEvent::JobFinished { job, failure, .. } => {
                    let duration_s = began.remove(&job).map_or(0.0, |began| began.elapsed().as_secs_f64());
                    match failure {
                        None => tracing::info!(%job, duration_s, "Job succeeded"),
                        Some(reason) => tracing::warn!(%job, duration_s, reason = reason.as_str(), "Job failed"),
                    }
                    self.change(&labels, |runner| runner.finished(duration_s, failure));
                }
            }
        }
    }

    fn change(&self, labels: &Labels, change: impl FnOnce(&mut RunnerState)) {
        change(self.state().runners.entry(labels.clone()).or_default());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns everything in the text form of Prometheus.
    pub fn render(&self) -> String {
        let state = self.state();
        let mut page = Page::default();
        let version = format!("name=\"gitlab-runner\",version=\"{COMPATIBLE_VERSION}\",os=\"linux\"");
        page.one("version_info", "gauge", "Version whose behaviour is followed.", &version, 1);
        page.one("concurrent", "gauge", "How many jobs run at once.", "", state.concurrent);
        let loaded = "Configurations that were read.";
        page.one("configuration_loaded_total", "counter", loaded, "", state.configurations_loaded);
        let refused = "Configurations that could not be used.";
        page.one("configuration_loading_error_total", "counter", refused, "", state.configurations_refused);
        page.each("limit", "gauge", "Jobs of the runner at once; 0 is no limit.", &state.runners, |runner| runner.limit);
        page.each("request_concurrency", "gauge", "Requests for jobs at once.", &state.runners, |runner| runner.request_concurrency);
        page.each("jobs", "gauge", "Jobs at work.", &state.runners, |runner| runner.running);
        page.each("jobs_total", "counter", "Jobs taken.", &state.runners, |runner| runner.jobs);
        page.failures(&state.runners);
        page.durations(&state.runners);
        page.text
    }
}

impl RunnerState {
    fn finished(&mut self, duration_secs: f64, failure: Option<FailureReason>) {
        self.running = self.running.saturating_sub(1);
        self.duration_secs += duration_secs;
        let bucket = DURATION_BUCKETS_SECS.iter().position(|bound| duration_secs <= f64::from(*bound));
        self.durations[bucket.unwrap_or(DURATION_BUCKETS_SECS.len())] += 1;
        if let Some(reason) = failure {
            *self.failed.entry(reason.as_str()).or_default() += 1;
        }
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP gitlab_runner_{name} {help}\n# TYPE gitlab_runner_{name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.text, "gitlab_runner_{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, labels: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, labels, value);
    }

    fn each<V: std::fmt::Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        runners: &BTreeMap<Labels, RunnerState>,
        value: impl Fn(&RunnerState) -> V,
    ) {
        self.head(name, kind, help);
        for (labels, runner) in runners {
            self.line(name, &labels.0, value(runner));
        }
    }

    fn failures(&mut self, runners: &BTreeMap<Labels, RunnerState>) {
        self.head("failed_jobs_total", "counter", "Jobs that failed.");
        for (labels, runner) in runners {
            for (reason, count) in &runner.failed {
                self.line("failed_jobs_total", &format!("failure_reason=\"{reason}\",{}", labels.0), count);
            }
        }
    }

    fn durations(&mut self, runners: &BTreeMap<Labels, RunnerState>) {
        self.head("job_duration_seconds", "histogram", "How long jobs took.");
        for (labels, runner) in runners {
            let mut count = 0;
            for (bound, jobs) in DURATION_BUCKETS_SECS.iter().zip(&runner.durations) {
                count += jobs;
                self.line("job_duration_seconds_bucket", &format!("{},le=\"{bound}\"", labels.0), count);
            }
            count += runner.durations[DURATION_BUCKETS_SECS.len()];
            self.line("job_duration_seconds_bucket", &format!("{},le=\"+Inf\"", labels.0), count);
            self.line("job_duration_seconds_sum", &labels.0, runner.duration_secs);
            self.line("job_duration_seconds_count", &labels.0, count);
        }
    }
}
