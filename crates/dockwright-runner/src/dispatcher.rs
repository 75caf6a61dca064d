//! Taking jobs: one request to the coordinator at a time, one task per job.

use std::{collections::BTreeSet, io, num::NonZeroUsize, panic::AssertUnwindSafe, sync::Arc};

use dockwright_job::{FailureReason, JobId, JobPayload, JobState, JobToken, JobUpdate};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Coordinator, CoordinatorError, EngineProvider, RunnerConfig, RunnerEvent, job_run::JobRun};

/// Runs the jobs of one coordinator.
#[derive(Clone)]
pub struct Runner {
    pub coordinator: Arc<dyn Coordinator>,
    pub engines: Arc<dyn EngineProvider>,
    pub config: Arc<RunnerConfig>,
    /// Takes a few events for each job; nobody needs to listen.
    pub events: Option<mpsc::UnboundedSender<RunnerEvent>>,
}

impl Runner {
    /// Takes and runs jobs, `slots` at once, until the coordinator has no more. When `stop` is cancelled, jobs at work are ended
    /// and fail with `runner_interrupted`. Returns when no job runs any more.
    pub async fn run_jobs(&self, slots: NonZeroUsize, stop: CancellationToken) -> Result<(), CoordinatorError> {
        self.sweep_scratch().await?;
        let mut at_work: JoinSet<usize> = JoinSet::new();
        let mut free: BTreeSet<usize> = (0..slots.get()).collect();
        let mut request: Option<BoxFuture<'_, _>> = None;
        let mut ended: Option<Result<(), CoordinatorError>> = None;
        loop {
            if ended.is_none() && request.is_none() && !free.is_empty() {
                request = Some(self.coordinator.request_job());
            }
            tokio::select! {
                answer = async { request.as_mut().expect("guarded").await }, if request.is_some() => {
                    request = None;
                    match answer {
                        Ok(Some(payload)) => {
                            let slot = free.pop_first().expect("a job is only asked for when a slot is free");
                            let runner = self.clone();
                            let stop = stop.clone();
                            at_work.spawn(async move {
                                runner.run_job(payload, slot, stop).await;
                                slot
                            });
                        }
                        Ok(None) => ended = Some(Ok(())),
                        Err(error) => ended = Some(Err(error)),
                    }
                }
                Some(finished) = at_work.join_next(), if !at_work.is_empty() => {
                    free.extend(finished.ok());
                }
                () = stop.cancelled(), if ended.is_none() => {
                    request = None;
                    ended = Some(Ok(()));
                }
                else => return ended.unwrap_or(Ok(())),
            }
        }
    }

    /// Removes what a runner left that was killed: checkouts, archives, credentials.
    pub(crate) async fn sweep_scratch(&self) -> Result<(), CoordinatorError> {
        let scratch = self.config.scratch_dir.clone();
        let result = match tokio::fs::remove_dir_all(&scratch).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => tokio::fs::create_dir_all(&scratch).await,
        };
        result.map_err(|source| CoordinatorError::File { path: scratch, source })
    }

    /// Runs one job to its end and reports it. `slot` is the smallest number that no other job of this runner has.
    pub(crate) async fn run_job(&self, payload: JobPayload, slot: usize, stop: CancellationToken) {
        let (id, token) = (payload.id, payload.token.clone());
        self.tell(RunnerEvent::JobStarted { job: id, name: payload.job_info.name.clone() });
        let run = JobRun::new(self.clone(), payload, slot, stop);
        let (failure, exit_code) = match AssertUnwindSafe(run.run()).catch_unwind().await {
            Ok(end) => (end.failure, end.exit_code),
            Err(_) => {
                self.report_crash(id, token).await;
                (Some(FailureReason::RunnerSystemFailure), None)
            }
        };
        self.tell(RunnerEvent::JobFinished { job: id, failure, exit_code });
    }

    /// A bug of ours must not leave the coordinator waiting for the job's end.
    async fn report_crash(&self, job: JobId, token: JobToken) {
        tracing::error!(%job, "the job's task panicked");
        let update = JobUpdate {
            token,
            state: JobState::Failed,
            failure_reason: Some(FailureReason::RunnerSystemFailure),
            output: None,
            exit_code: None,
        };
        if let Err(error) = self.coordinator.update_job(job, update).await {
            tracing::warn!(%job, error = crate::outcome::chain(&error), "the end of the job could not be reported");
        }
    }

    pub(crate) fn tell(&self, event: RunnerEvent) {
        if let Some(events) = &self.events {
            // A display that has gone does not stop the work.
            let _ = events.send(event);
        }
    }
}
