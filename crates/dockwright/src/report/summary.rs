//! What every form of output for people says at the end, and the words for states and times.

use std::{collections::VecDeque, time::Duration};

use anstyle::Style;
use dockwright_coordinator::{ReleasePlan, TestReport};
use serde::Serialize;

use super::{
    JobOutcome, RunEvent, Streams, release,
    streams::{FAILURE, FAINT, SUCCESS, WARNING},
    test_report,
};

/// How many of a job's last lines are kept for the log at the end.
const KEPT_LINES: usize = 400;

/// How a pipeline ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PipelineStatus {
    Success,
    Failed,
    Canceled,
    /// Only manual jobs are left, and some of them must run first.
    Blocked,
}

impl JobOutcome {
    /// Returns a sign and its style for this outcome.
    pub(super) fn sign(&self) -> (&'static str, Style) {
        match self {
            Self::Success => ("✓", SUCCESS),
            Self::Failed { allowed: true, .. } | Self::Failed { retried: true, .. } => ("!", WARNING),
            Self::Failed { .. } => ("✗", FAILURE),
            Self::Canceled => ("■", WARNING),
            Self::Skipped => ("-", FAINT),
            Self::Manual => ("▶", FAINT),
        }
    }

    /// Says the outcome in a few words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Success => "passed".to_owned(),
            Self::Failed { reason, exit_code, allowed, retried } => {
                let what = match (reason.as_str(), exit_code) {
                    ("script_failure", Some(code)) => format!("failed with exit code {code}"),
                    ("script_failure", None) => "failed".to_owned(),
                    (reason, _) => format!("failed: {}", reason.replace('_', " ")),
                };
                match (retried, allowed) {
                    (true, _) => format!("{what} (runs again)"),
                    (false, true) => format!("{what} (allowed to fail)"),
                    (false, false) => what,
                }
            }
            Self::Canceled => "canceled".to_owned(),
            Self::Skipped => "skipped".to_owned(),
            Self::Manual => "manual, not started".to_owned(),
        }
    }

    fn ran(&self) -> bool {
        matches!(self, Self::Success | Self::Failed { .. } | Self::Canceled)
    }
}

/// Says a time as people do: `0.4 s`, `12.0 s`, `3 min 5 s`.
pub(super) fn words_for_time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    format!("{} min {} s", seconds / 60, seconds % 60)
}

/// One finished job.
struct FinishedJob {
    name: String,
    outcome: JobOutcome,
    duration: Duration,
    coverage: Option<f64>,
    tests: Option<TestReport>,
    release: Option<ReleasePlan>,
    trace: Option<String>,
}

/// Collects what the end of a run says.
#[derive(Default)]
pub(super) struct Summary {
    logs: std::collections::HashMap<String, VecDeque<String>>,
    finished: Vec<FinishedJob>,
    pushed: Vec<(String, String)>,
}

impl Summary {
    pub(super) fn take(&mut self, event: &RunEvent) {
        match event {
            RunEvent::JobOutput { job, line } => {
                let log = self.logs.entry(job.clone()).or_default();
                if log.len() == KEPT_LINES {
                    log.pop_front();
                }
                log.push_back(line.clone());
            }
            RunEvent::JobFinished { job, outcome, duration, coverage, tests, release, trace } => {
                if !matches!(outcome, JobOutcome::Failed { .. }) {
                    self.logs.remove(job);
                }
                let (name, outcome, duration, trace) = (job.clone(), outcome.clone(), *duration, trace.clone());
                let (tests, release) = (tests.clone(), release.clone());
                self.finished.push(FinishedJob { name, outcome, duration, coverage: *coverage, tests, release, trace });
            }
            RunEvent::ImagePushed { reference, digest } => {
                self.pushed.retain(|(earlier, _)| earlier != reference);
                self.pushed.push((reference.clone(), digest.clone()));
            }
            _ => {}
        }
    }

    /// Prints the logs of the jobs that failed the pipeline.
    pub(super) fn print_failed_logs(&self, streams: &Streams) {
        for job in &self.finished {
            if !matches!(job.outcome, JobOutcome::Failed { allowed: false, retried: false, .. }) {
                continue;
            }
            let lines = self.logs.get(&job.name);
            streams.say(format!("\n{FAILURE}── {} {}{FAILURE:#}", job.name, "─".repeat(60usize.saturating_sub(job.name.len()))));
            if lines.is_some_and(|lines| lines.len() == KEPT_LINES) {
                streams.say(format!("{FAINT}(the last {KEPT_LINES} lines){FAINT:#}"));
            }
            for line in lines.into_iter().flatten() {
                streams.data(line);
            }
            if let Some(trace) = &job.trace {
                streams.say(format!("{FAINT}whole log: {trace}{FAINT:#}"));
            }
        }
    }

    /// Prints one line per job.
    pub(super) fn print_jobs(&self, streams: &Streams) {
        self.print_lines(streams, |_| true);
    }

    /// Prints one line per job that did not run.
    pub(super) fn print_idle_jobs(&self, streams: &Streams) {
        self.print_lines(streams, |outcome| !outcome.ran());
    }

    fn print_lines(&self, streams: &Streams, is_shown: impl Fn(&JobOutcome) -> bool) {
        let width = self.finished.iter().map(|job| job.name.chars().count()).max().unwrap_or(0);
        for job in self.finished.iter().filter(|job| is_shown(&job.outcome)) {
            let (sign, style) = job.outcome.sign();
            let time = if job.outcome.ran() { words_for_time(job.duration) } else { String::new() };
            let coverage = job.coverage.map(|percent| format!("  coverage {percent}%")).unwrap_or_default();
            streams.say(format!("{style}{sign}{style:#} {:width$}  {:>12}  {}{coverage}", job.name, time, job.outcome.words()));
        }
    }

    /// Prints what tests gave, what would be released, what was pushed, which is data, and how the pipeline ended.
    pub(super) fn print_end(&self, streams: &Streams, status: PipelineStatus, duration: Duration) {
        for job in &self.finished {
            if let Some(report) = &job.tests {
                test_report::print(streams, &job.name, report);
            }
            if let Some(plan) = &job.release {
                release::print(streams, &job.name, plan);
            }
        }
        self.print_pushed(streams);
        let (word, style) = match status {
            PipelineStatus::Success => ("passed", SUCCESS),
            PipelineStatus::Failed => ("failed", FAILURE),
            PipelineStatus::Canceled => ("was canceled", WARNING),
            PipelineStatus::Blocked => ("waits for a manual job", WARNING),
        };
        streams.say(format!("{style}pipeline {word}{style:#} in {}", words_for_time(duration)));
    }

    pub(super) fn print_pushed(&self, streams: &Streams) {
        for (reference, digest) in &self.pushed {
            streams.data(format!("pushed {reference}@{digest}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_do() {
        let said: Vec<_> = [0, 400, 59_900, 185_000].map(|millis| words_for_time(Duration::from_millis(millis))).into();
        assert_eq!(said, ["0.0 s", "0.4 s", "59.9 s", "3 min 5 s"]);
    }

    #[test]
    fn failures_say_what_happened() {
        let failed =
            |reason: &str, exit_code, allowed| JobOutcome::Failed { reason: reason.to_owned(), exit_code, allowed, retried: false }.words();
        assert_eq!(failed("script_failure", Some(3), false), "failed with exit code 3");
        assert_eq!(failed("image_pull_failure", None, true), "failed: image pull failure (allowed to fail)");
    }

    #[test]
    fn the_last_lines_of_a_failed_job_are_kept_and_others_dropped() {
        let mut summary = Summary::default();
        for number in 0..KEPT_LINES + 5 {
            summary.take(&RunEvent::JobOutput { job: "a".into(), line: number.to_string() });
        }
        summary.take(&RunEvent::JobOutput { job: "b".into(), line: "b".into() });
        for (job, outcome) in [
            ("a", JobOutcome::Failed { reason: "script_failure".into(), exit_code: Some(1), allowed: false, retried: false }),
            ("b", JobOutcome::Success),
        ] {
            summary.take(&RunEvent::JobFinished {
                job: job.into(),
                outcome,
                duration: Duration::ZERO,
                coverage: None,
                tests: None,
                release: None,
                trace: None,
            });
        }
        assert_eq!(summary.logs["a"].front().map(String::as_str), Some("5"));
        assert!(!summary.logs.contains_key("b"));
    }
}
