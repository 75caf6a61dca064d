//! The task that reports on one job: its trace as it grows, signs of life, and its end.
//!
//! ```text
//!              every interval                       the job's end
//!   ┌─► wait ───────────────► PATCH what is new ──────────────────► PATCH the rest ─► PUT the final state ─► done
//!   │     ▲                        │    └─ nothing was for 30 s: PUT state=running     ▲        │ 202: again a moment later
//!   │     └────────────────────────┘                                                  └────────┘ 412: all of the trace again
//!   └─ 416: from where the server is
//! ```
//!
//! Every answer may carry a signal. After an abort (`canceled`, 403, 404 for the job) nothing more is sent.

use std::{sync::Arc, time::Duration};

use dockwright_job::{JobId, JobState, JobUpdate, RunnerDetails};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::spool::Spool;
use crate::{
    CoordinatorError,
    api::{ApiError, Client, JobStatusSignal, Signalled, TraceAnswer, UpdateAnswer},
    coordinator::{JobAccess, JobSignals},
    outcome,
};

/// Servers take no larger piece of a trace.
const PIECE_MAX_BYTES: usize = 1024 * 1024;
/// A running job is reported as alive when nothing else was sent for so long.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(3600);
/// How often a server may ask for the whole trace again before the attempt counts as failed.
const REWINDS_MAX: u32 = 3;
/// How often a server may say that it is not done with the trace.
const CONFIRMATIONS_MAX: u32 = 600;

/// What the task needs.
pub(super) struct Report {
    pub(super) client: Arc<Client>,
    pub(super) details: Arc<RunnerDetails>,
    pub(super) access: JobAccess,
    pub(super) signals: JobSignals,
    pub(super) spool: Arc<Spool>,
    /// The trace may show secrets, because the job asked for it.
    pub(super) is_debug: bool,
    /// Until the server names another.
    pub(super) interval: Duration,
    /// Pause at the job's end, when there is nothing else to wait for.
    pub(super) final_interval: Duration,
    pub(super) final_retries: u32,
    /// Bytes that the server has.
    pub(super) sent: u64,
    pub(super) last_sent: Instant,
}

/// The end of a job, and where the result of reporting it goes.
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) update: JobUpdate,
    pub(super) done: oneshot::Sender<Result<(), CoordinatorError>>,
}

/// Why reporting stops or pauses.
#[derive(Debug)]
enum Stop {
    /// The server wants no more of this job.
    Over(ApiError),
    /// It may work a moment later.
    Later(CoordinatorError),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Later(unreachable(error))
    }
}

pub(super) fn unreachable(error: ApiError) -> CoordinatorError {
    CoordinatorError::Unreachable { source: Box::new(error) }
}

pub(super) fn refused(request: &'static str, error: &ApiError) -> CoordinatorError {
    CoordinatorError::Refused { request, reason: outcome::chain(error) }
}

impl Report {
    /// Reports until the job's end was taken, or is not wanted.
    pub(super) async fn run(mut self, mut finish: oneshot::Receiver<Finish>) {
        let finish = loop {
            tokio::select! {
                biased;
                end = &mut finish => break end,
                () = sleep(self.interval) => {}
            }
            match self.advance().await {
                Ok(()) => {}
                Err(Stop::Later(error)) => self.note(&error),
                Err(Stop::Over(error)) => {
                    self.note(&error);
                    self.signals.abort.cancel();
                    break finish.await;
                }
            }
        };
        // A runner that does not report the job's end has ended itself.
        let Ok(Finish { update, done }) = finish else { return };
        let _ = done.send(self.finish(&update).await);
    }

    fn note(&self, error: &(dyn std::error::Error + 'static)) {
        tracing::warn!(job = %self.access.id, error = outcome::chain(error), "the coordinator did not take a report on the job");
    }

    /// Sends what is new, or that the job is still alive.
    async fn advance(&mut self) -> Result<(), Stop> {
        let sent = match self.send_trace().await {
            // A server that has not heard of the job yet, or not again, may do so later. Whether it ever will is what its answer to the
            // sign of life says.
            Err(Stop::Over(error)) if !self.signals.abort.is_cancelled() => Some(Stop::Later(unreachable(error))),
            other => other.map(|()| None)?,
        };
        if self.last_sent.elapsed() < SILENCE_MAX {
            return sent.map_or(Ok(()), Err);
        }
        let update = JobUpdate {
            token: self.access.token.clone(),
            state: JobState::Running,
            failure_reason: None,
            output: Some(self.spool.checksum()),
            exit_code: None,
        };
        match self.update(&update).await? {
            UpdateAnswer::Abort(error) => Err(Stop::Over(error)),
            UpdateAnswer::Accepted | UpdateAnswer::Incomplete | UpdateAnswer::TraceDiffers => Ok(()),
        }
    }

    /// Sends the trace from where the server is to its present end.
    async fn send_trace(&mut self) -> Result<(), Stop> {
        let mut resumed_at = None;
        while self.sent < self.spool.length() {
            let (spool, sent) = (Arc::clone(&self.spool), self.sent);
            let piece = tokio::task::spawn_blocking(move || spool.read(sent, PIECE_MAX_BYTES)).await.expect("reading does not panic");
            let piece = piece.map_err(|source| Stop::Later(CoordinatorError::File { path: "the job's trace".into(), source }))?;
            let length = piece.len() as u64;
            let answer = self.client.append_trace(self.access.id, &self.access.token, self.sent, piece, self.is_debug).await?;
            match self.heed(answer) {
                TraceAnswer::Accepted => self.sent += length,
                // A server that asks for the same place twice is not getting anywhere.
                TraceAnswer::Resume(stored) if resumed_at != Some(stored) && stored <= self.spool.length() => {
                    resumed_at = Some(stored);
                    self.sent = stored;
                }
                TraceAnswer::Resume(stored) => {
                    let reason = format!("the trace cannot go on at {} where the coordinator has {stored} bytes", self.sent);
                    return Err(Stop::Later(CoordinatorError::Refused { request: "the trace", reason }));
                }
                TraceAnswer::NotFound(error) => return Err(Stop::Over(error)),
                TraceAnswer::Abort(error) => {
                    self.signals.abort.cancel();
                    return Err(Stop::Over(error));
                }
            }
            self.last_sent = Instant::now();
        }
        Ok(())
    }

    async fn update(&mut self, update: &JobUpdate) -> Result<UpdateAnswer, Stop> {
        let answer = self.client.update_job(self.access.id, update, &self.details).await?;
        self.last_sent = Instant::now();
        Ok(self.heed(answer))
    }

    fn heed<T>(&mut self, answer: Signalled<T>) -> T {
        if answer.signal == JobStatusSignal::Cancel {
            self.signals.cancel.cancel();
        }
        self.interval = answer.interval.unwrap_or(self.interval);
        answer.answer
    }

    async fn finish(&mut self, update: &JobUpdate) -> Result<(), CoordinatorError> {
        if self.signals.abort.is_cancelled() {
            // The job is over at the server, with a state of its own.
            return Ok(());
        }
        let mut delay = FIRST_RETRY_DELAY;
        for attempt in 1.. {
            match self.try_to_finish(update).await {
                Ok(()) => break,
                Err(Stop::Over(error)) => return Err(refused("the job's end", &error)),
                Err(Stop::Later(error)) if attempt > self.final_retries => return Err(error),
                Err(Stop::Later(error)) => self.note(&error),
            }
            sleep(delay).await;
            delay = (delay * 2).min(RETRY_DELAY_MAX);
        }
        Ok(())
    }

    /// Sends the rest of the trace and the final state, until the server has both.
    async fn try_to_finish(&mut self, update: &JobUpdate) -> Result<(), Stop> {
        self.interval = self.final_interval;
        let (mut rewinds, mut confirmations) = (0, 0);
        loop {
            self.send_trace().await?;
            match self.update(update).await? {
                UpdateAnswer::Accepted => return Ok(()),
                UpdateAnswer::Abort(error) => return Err(Stop::Over(error)),
                UpdateAnswer::Incomplete if confirmations < CONFIRMATIONS_MAX => confirmations += 1,
                UpdateAnswer::TraceDiffers if rewinds < REWINDS_MAX => {
                    rewinds += 1;
                    self.sent = 0;
                }
                UpdateAnswer::Incomplete | UpdateAnswer::TraceDiffers => {
                    let reason = "it does not confirm that its trace is the job's".to_owned();
                    return Err(Stop::Later(CoordinatorError::Refused { request: "the job's end", reason }));
                }
            }
            sleep(self.interval).await;
        }
    }
}

/// Tells a server that a job which it handed out will not run.
pub(super) async fn give_back(client: &Client, details: &RunnerDetails, job: JobId, update: &JobUpdate) {
    if let Err(error) = client.update_job(job, update, details).await {
        tracing::warn!(%job, error = outcome::chain(&error), "a job that was taken while the runner ended could not be given back");
    }
}
