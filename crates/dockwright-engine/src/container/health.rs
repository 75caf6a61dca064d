//! Health checks: a command that is executed in the container from time to time.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

use super::{Container, config::HealthCheck};
use crate::{Engine, event::EventType};

/// Results kept for `docker inspect`.
const KEPT_RESULTS: usize = 5;
/// Bytes of a check's output that are kept.
pub(crate) const OUTPUT_BYTES: usize = 4096;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: u32 = 3;

/// Docker's words for how a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthStatus {
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    /// Returns Docker's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// Result of one check.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) started: Timestamp,
    pub(crate) ended: Timestamp,
    pub(crate) exit_code: i32,
    pub(crate) output: String,
}

/// A container's health.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub(crate) status: HealthStatus,
    failing_streak: u32,
    results: VecDeque<Checked>,
}

impl Default for Health {
    fn default() -> Self {
        Self { status: HealthStatus::Starting, failing_streak: 0, results: VecDeque::new() }
    }
}

impl Health {
    /// Takes a result in; failures do not count in the start period.
    fn record(&mut self, result: Checked, retries: u32, starting: bool) {
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !(starting && self.status == HealthStatus::Starting) {
            self.failing_streak += 1;
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.results.len() == KEPT_RESULTS {
            self.results.pop_front();
        }
        self.results.push_back(result);
    }

    /// A container that does not run is not healthy.
    pub(super) fn stopped(&mut self) {
        if self.status == HealthStatus::Healthy {
            self.status = HealthStatus::Unhealthy;
        }
    }

    /// Returns what `docker inspect` shows.
    pub(super) fn shown(&self) -> Value {
        let results: Vec<Value> = self.results.iter().map(shown_result).collect();
        json!({ "Status": self.status.name(), "FailingStreak": self.failing_streak, "Log": results })
    }
}

fn shown_result(result: &Checked) -> Value {
    json!({
        "Start": crate::time::nanoseconds(result.started),
        "End": crate::time::nanoseconds(result.ended),
        "ExitCode": result.exit_code,
        "Output": result.output,
    })
}

impl HealthCheck {
    /// Returns the command, or nothing when checks are switched off.
    fn command(&self, shell: Option<&[String]>) -> Option<Vec<String>> {
        let (kind, rest) = self.test.split_first()?;
        match kind.as_str() {
            "CMD" => Some(rest.to_vec()),
            "CMD-SHELL" => {
                let default = ["/bin/sh".to_owned(), "-c".to_owned()];
                Some([shell.unwrap_or(&default), rest].concat())
            }
            _ => None,
        }
        .filter(|command: &Vec<String>| !command.is_empty())
    }
}

fn or_default(duration: Duration, default: Duration) -> Duration {
    if duration.is_zero() { default } else { duration }
}

impl Engine {
    /// Begins to check a container's health, if it has a check.
    pub(super) fn watch_health(&self, container: &Arc<Container>, services: &mut JoinSet<()>) {
        let Some(check) = container.config.health.clone() else { return };
        let Some(command) = check.command(container.config.shell.as_deref()) else { return };
        container.state().health = Some(Health::default());
        services.spawn(check_repeatedly(self.clone(), Arc::clone(container), check, command));
    }
}

async fn check_repeatedly(engine: Engine, container: Arc<Container>, check: HealthCheck, command: Vec<String>) {
    let begun = tokio::time::Instant::now();
    let retries = if check.retries == 0 { DEFAULT_RETRIES } else { check.retries };
    loop {
        let in_start_period = begun.elapsed() < check.start_period;
        let starting = in_start_period && container.state().health.as_ref().is_some_and(|health| health.status == HealthStatus::Starting);
        let pause = if starting {
            or_default(check.start_interval, DEFAULT_START_INTERVAL).min(or_default(check.interval, DEFAULT_INTERVAL))
        } else {
            or_default(check.interval, DEFAULT_INTERVAL)
        };
        tokio::time::sleep(pause).await;
        let result = check_once(&engine, &container, &command, or_default(check.timeout, DEFAULT_TIMEOUT)).await;
        let changed = {
            let mut state = container.state();
            let health = state.health.get_or_insert_default();
            let before = health.status;
            health.record(result, retries, begun.elapsed() < check.start_period);
            (health.status != before).then_some(health.status)
        };
        if let Some(status) = changed {
            let action = format!("health_status: {}", status.name());
            engine.events().emit(EventType::Container, action, &container.id, container.event_attributes());
        }
    }
}

async fn check_once(engine: &Engine, container: &Arc<Container>, command: &[String], limit: Duration) -> Checked {
    let started = Timestamp::now();
    let (exit_code, output) = match timeout(limit, engine.probe(container, command.to_vec())).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => (-1, error.message),
        Err(_) => (-1, format!("Health check exceeded timeout ({}s)", limit.as_secs())),
    };
    Checked { started, ended: Timestamp::now(), exit_code, output }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> Checked {
        let now = Timestamp::UNIX_EPOCH;
        Checked { started: now, ended: now, exit_code, output: String::new() }
    }

    #[test]
    fn three_failures_make_unhealthy_and_one_success_healthy() {
        let mut health = Health::default();
        for expected in [HealthStatus::Starting, HealthStatus::Starting, HealthStatus::Unhealthy] {
            health.record(result(1), 3, false);
            assert_eq!(health.status, expected);
        }
        health.record(result(0), 3, false);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Healthy, 0));
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        let mut health = Health::default();
        for _ in 0..10 {
            health.record(result(1), 3, true);
        }
        assert_eq!((health.status, health.results.len()), (HealthStatus::Starting, KEPT_RESULTS));
    }

    #[test]
    fn the_shell_form_uses_the_containers_shell() {
        let check = HealthCheck { test: vec!["CMD-SHELL".into(), "true".into()], ..HealthCheck::default() };
        assert_eq!(check.command(None).unwrap(), ["/bin/sh", "-c", "true"]);
        let none = HealthCheck { test: vec!["NONE".into()], ..HealthCheck::default() };
        assert_eq!(none.command(None), None);
    }
}
