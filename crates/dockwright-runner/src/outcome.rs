//! How a job ended: its failure, the words for it in the trace, and GitLab's `failure_reason`, decided here and nowhere else.

use std::{error::Error, time::Duration};

use dockwright_job::{FailureReason, Features};

use crate::{
    CoordinatorError,
    executor::{ExecuteError, PullFailure},
};

/// Who or what stopped a job before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// `Job-Status: canceling`.
    Canceled,
    /// `Job-Status: canceled`: the coordinator has closed the job already.
    Aborted,
    /// The runner itself ends.
    Interrupted,
    /// The job's own time is over.
    JobTimeout(Duration),
    /// `RUNNER_SCRIPT_TIMEOUT`.
    ScriptTimeout(Duration),
    /// The runner's disk has no room for the trace.
    TraceLost,
}

/// Why a job failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Stopped(StopReason),
    Execute(ExecuteError),
    Coordinator(CoordinatorError),
    Internal { action: &'static str, source: std::io::Error },
}

impl From<ExecuteError> for Failure {
    fn from(error: ExecuteError) -> Self {
        Self::Execute(error)
    }
}

impl From<CoordinatorError> for Failure {
    fn from(error: CoordinatorError) -> Self {
        Self::Coordinator(error)
    }
}

impl Failure {
    /// Returns why the job failed, in GitLab's words.
    pub(crate) fn reason(&self) -> FailureReason {
        match self {
            Self::Stopped(StopReason::Canceled | StopReason::Aborted) => FailureReason::JobCanceled,
            Self::Stopped(StopReason::Interrupted) => FailureReason::RunnerInterrupted,
            Self::Stopped(StopReason::JobTimeout(_) | StopReason::ScriptTimeout(_)) => FailureReason::JobExecutionTimeout,
            Self::Execute(error) => execute_reason(error),
            Self::Stopped(StopReason::TraceLost) | Self::Coordinator(_) | Self::Internal { .. } => FailureReason::RunnerSystemFailure,
        }
    }

    /// Returns the line that ends the trace, without `ERROR: `.
    pub(crate) fn message(&self) -> String {
        let text = match self {
            Self::Stopped(StopReason::Canceled | StopReason::Aborted) => "canceled".to_owned(),
            Self::Stopped(StopReason::Interrupted) => "aborted: terminated".to_owned(),
            Self::Stopped(StopReason::JobTimeout(limit)) => format!("execution took longer than {} seconds", go_duration(*limit)),
            Self::Stopped(StopReason::ScriptTimeout(limit)) => {
                format!("execution of the script took longer than {} seconds", go_duration(*limit))
            }
            Self::Stopped(StopReason::TraceLost) => {
                "the runner has no room for the job's trace; its log says where, and the job can be retried once there is".to_owned()
            }
            Self::Execute(error) => chain(error),
            Self::Coordinator(error) => chain(error),
            Self::Internal { action, source } => format!("{action}: {source}"),
        };
        match self.reason() {
            FailureReason::RunnerSystemFailure => format!("Job failed (system failure): {text}"),
            _ => format!("Job failed: {text}"),
        }
    }

    /// Returns the exit code of the job's own script.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Execute(ExecuteError::Exit { code, .. }) => Some(*code),
            _ => None,
        }
    }
}

fn execute_reason(error: &ExecuteError) -> FailureReason {
    match error {
        ExecuteError::Exit { .. } | ExecuteError::Git { .. } => FailureReason::ScriptFailure,
        ExecuteError::PullImage { failure: PullFailure::Unreachable, .. } => FailureReason::RunnerExternalDependencyFailure,
        ExecuteError::PullImage { failure: PullFailure::Refused, .. } => FailureReason::RunnerConfigurationError,
        ExecuteError::PullImage { failure: PullFailure::Other, .. } => FailureReason::ImagePullFailure,
        ExecuteError::NoImage
        | ExecuteError::ImageName { .. }
        | ExecuteError::Volume { .. }
        | ExecuteError::PullPolicy { .. }
        | ExecuteError::DisallowedPullPolicy { .. }
        | ExecuteError::GitStrategy { .. }
        | ExecuteError::Endpoint { .. }
        | ExecuteError::NoDirectory { .. }
        | ExecuteError::Credentials { .. }
        | ExecuteError::InvalidContainer { .. } => FailureReason::RunnerConfigurationError,
        // What GitLab Runner reports for both.
        ExecuteError::DisallowedImage
        | ExecuteError::DisallowedUser { .. }
        | ExecuteError::TooManyServices { .. }
        | ExecuteError::Stopped
        | ExecuteError::AcquireEngine(_)
        | ExecuteError::Engine { .. }
        | ExecuteError::File { .. }
        | ExecuteError::Driver { .. }
        | ExecuteError::OutOfReach
        | ExecuteError::Keeper(_)
        | ExecuteError::Helper { .. } => FailureReason::RunnerSystemFailure,
    }
}

/// Replaces a reason that the coordinator does not know by the nearest that it does.
pub(crate) fn reported_reason(reason: FailureReason, features: &Features) -> FailureReason {
    use FailureReason::{
        ImagePullFailure, JobExecutionTimeout, RunnerConfigurationError, RunnerExternalDependencyFailure, RunnerSystemFailure,
        ScriptFailure, UnknownFailure,
    };
    let name = serde_json::to_value(reason).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    match reason {
        ScriptFailure | RunnerSystemFailure | JobExecutionTimeout => reason,
        known if features.failure_reasons.contains(&name) => known,
        ImagePullFailure | RunnerExternalDependencyFailure => RunnerSystemFailure,
        RunnerConfigurationError => ScriptFailure,
        _ => UnknownFailure,
    }
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat their cause in their own message.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Writes a duration as Go does, `1h0m0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Reads a duration as Go writes it: `1h30m`, `5m`, `1.5s`, `200ms`.
pub(crate) fn parse_go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let value: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match &rest[..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            _ => return None,
        };
        seconds += value * factor;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_reasons() {
        let exit = |text: &str| Failure::Execute(ExecuteError::Exit { code: 3, text: text.to_owned() });
        let cases = [
            (exit("exit code 3"), "Job failed: exit code 3", FailureReason::ScriptFailure),
            (
                Failure::Stopped(StopReason::JobTimeout(Duration::from_secs(3600))),
                "Job failed: execution took longer than 1h0m0s seconds",
                FailureReason::JobExecutionTimeout,
            ),
            (Failure::Stopped(StopReason::Interrupted), "Job failed: aborted: terminated", FailureReason::RunnerInterrupted),
            (
                Failure::Internal { action: "create a directory", source: std::io::ErrorKind::NotFound.into() },
                "Job failed (system failure): create a directory: entity not found",
                FailureReason::RunnerSystemFailure,
            ),
        ];
        for (failure, message, reason) in cases {
            assert_eq!(failure.message(), message);
            assert_eq!(failure.reason(), reason);
        }
        assert_eq!(exit("exit code 3").exit_code(), Some(3));
    }

    #[test]
    fn unknown_reasons_are_translated() {
        let old = Features::default();
        let new = Features { failure_reasons: vec!["image_pull_failure".to_owned()], ..Features::default() };
        assert_eq!(reported_reason(FailureReason::ImagePullFailure, &old), FailureReason::RunnerSystemFailure);
        assert_eq!(reported_reason(FailureReason::ImagePullFailure, &new), FailureReason::ImagePullFailure);
        assert_eq!(reported_reason(FailureReason::RunnerConfigurationError, &old), FailureReason::ScriptFailure);
        assert_eq!(reported_reason(FailureReason::JobCanceled, &old), FailureReason::UnknownFailure);
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("1h30m", Some(5400.0)),
            ("5m0s", Some(300.0)),
            ("1.5s", Some(1.5)),
            ("200ms", Some(0.2)),
            ("0", Some(0.0)),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("5 m", None),
        ] {
            assert_eq!(parse_go_duration(text), expected.map(Duration::from_secs_f64), "{text}");
        }
        assert_eq!(go_duration(Duration::from_secs(90)), "1m30s");
    }
}
