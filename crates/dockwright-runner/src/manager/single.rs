//! One runner that takes one job after the other, for as long as there are jobs.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::ManagedRunner;
use crate::{CoordinatorError, Runner, api::Polled};

/// Pause when there is no job.
const PAUSE: Duration = Duration::from_secs(3);

/// When a single runner ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SingleLimits {
    /// After so many jobs.
    pub jobs: Option<u32>,
    /// When no job came for so long.
    pub idle: Option<Duration>,
}

/// Runs jobs until a limit is reached or `abort` is cancelled, which also ends the job at work.
pub async fn run_single(managed: ManagedRunner, limits: SingleLimits, abort: CancellationToken) -> Result<(), CoordinatorError> {
    let coordinator = managed.coordinator;
    let runner =
        Runner { coordinator: coordinator.clone(), engines: managed.engines, config: std::sync::Arc::new(managed.config), events: None };
    runner.sweep_scratch().await?;
    let mut idle_since = Instant::now();
    let mut jobs = 0;
    while limits.jobs.is_none_or(|limit| jobs < limit) {
        let pause = coordinator.rest().unwrap_or(PAUSE);
        let Some(polled) = abort.run_until_cancelled(coordinator.poll_without_waiting()).await else { break };
        if let Polled::Job(payload) = polled {
            runner.run_job(*payload, 0, abort.clone()).await;
            jobs += 1;
            idle_since = Instant::now();
            continue;
        }
        if limits.idle.is_some_and(|limit| idle_since.elapsed() >= limit) {
            break;
        }
        if abort.run_until_cancelled(sleep(pause)).await.is_none() {
            break;
        }
    }
    coordinator.settle().await;
    Ok(())
}
