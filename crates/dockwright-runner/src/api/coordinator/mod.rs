//! A server as the runner's [`Coordinator`].
//!
//! ```text
//! request_job   POST jobs/request ─► 201 ─► PUT state=running ─► handed to the runner     (two phases: what is not acknowledged
//!                                              └─ refused ─► forgotten                     goes back to the server's queue)
//! append_trace  ─► Spool ◄─ Report ─► PATCH trace, at the server's pace
//! update_job    ─► Report ─► the rest of the trace, then the final state
//! ```
//!
//! The runner writes a trace as fast as it comes; the server's pace, its absence, and its wish to have everything again are the
//! business of one task per job ([`report`]), which works from a file.

mod report;
mod spool;
mod transfer;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dockwright_job::{Dependency, FailureReason, JobId, JobPayload, JobRequest, JobState, JobUpdate, RunnerDetails, RunnerToken, Variable};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use tokio::{sync::oneshot, time::sleep};
use tokio_util::task::TaskTracker;

use self::{
    report::{Finish, Report},
    spool::Spool,
};
use super::{ApiError, Client, Health, HealthLimits, JobStatusSignal, UpdateAnswer};
use crate::{
    Coordinator, CoordinatorError,
    coordinator::{ArtifactUpload, JobAccess, JobSignals},
    outcome,
};

/// Longest pause between requests to a server that does not answer.
const ABSENCE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Who a runner is to its server, and how it behaves there.
#[derive(Debug, Clone)]
pub struct RunnerIdentity {
    pub token: RunnerToken,
    pub system_id: String,
    /// See [`details`](super::details).
    pub details: RunnerDetails,
    /// Where traces wait for the server.
    pub spool_dir: PathBuf,
    /// Pause between requests for a job, when the server does not hold them.
    pub check_interval: Duration,
    /// Pause between pieces of a trace, until the server names another.
    pub trace_interval: Duration,
    pub health: HealthLimits,
    /// `job_status_final_update_retry_limit`: how often the end of a job is reported again. The pauses in between double, so that ten
    /// attempts last for 17 minutes.
    pub final_retries: u32,
}

impl RunnerIdentity {
    /// Settings as GitLab Runner's defaults.
    pub fn new(token: RunnerToken, system_id: impl Into<String>, details: RunnerDetails, spool_dir: PathBuf) -> Self {
        Self {
            token,
            system_id: system_id.into(),
            details,
            spool_dir,
            check_interval: Duration::from_secs(3),
            trace_interval: Duration::from_secs(3),
            health: HealthLimits::default(),
            final_retries: 10,
        }
    }
}

/// What came of asking once for a job.
#[derive(Debug)]
pub enum Polled {
    /// A job that the server knows to be ours.
    Job(Box<JobPayload>),
    /// Nothing to do. `is_news`: the queue has moved on, so that asking again at once makes sense.
    Nothing { is_news: bool },
    /// The server does not answer, or not as it should.
    Failed,
    /// The server does not want this runner.
    Forbidden,
}

/// Takes jobs from a server and reports on them.
#[derive(Debug)]
pub struct HttpCoordinator {
    client: Arc<Client>,
    identity: RunnerIdentity,
    details: Arc<RunnerDetails>,
    state: Mutex<State>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    last_update: Option<String>,
    health: Health,
    jobs: HashMap<JobId, RunningJob>,
}

#[derive(Debug)]
struct RunningJob {
    signals: JobSignals,
    spool: Arc<Spool>,
    finish: Option<oneshot::Sender<Finish>>,
}

impl HttpCoordinator {
    /// Makes the runner's side of a server.
    pub fn new(client: Arc<Client>, identity: RunnerIdentity) -> Self {
        Self { details: Arc::new(identity.details.clone()), client, identity, state: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// Returns how long to leave the server alone, because it does not want this runner.
    pub fn rest(&self) -> Option<Duration> {
        self.state().health.wait(self.identity.health, Instant::now())
    }

    /// Asks once for a job; the server may hold the request until it has one. A job that is returned has been acknowledged.
    pub async fn poll(&self) -> Polled {
        let last_update = self.state().last_update.clone();
        self.poll_after(last_update).await
    }

    /// Asks once for a job and wants an answer at once.
    pub async fn poll_without_waiting(&self) -> Polled {
        self.poll_after(None).await
    }

    /// `last_update` is the state of the queue while which the server may hold the request.
    async fn poll_after(&self, last_update: Option<String>) -> Polled {
        let request = JobRequest {
            info: self.identity.details.clone(),
            token: self.identity.token.clone(),
            system_id: Some(self.identity.system_id.clone()),
            last_update,
        };
        let answer = self.client.request_job(&request).await;
        let is_forbidden = matches!(&answer, Err(error) if error.is_forbidden() || matches!(error, ApiError::Setup(_)));
        self.state().health.record(!is_forbidden, self.identity.health, Instant::now());
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.explain_failure(&error, is_forbidden),
        };
        let is_news = answer.last_update.is_some() && answer.last_update != self.state().last_update;
        if let Some(last_update) = answer.last_update {
            self.state().last_update = Some(last_update);
        }
        match answer.job {
            None => Polled::Nothing { is_news },
            Some(job) => match self.accept(*job).await {
                Some(job) => Polled::Job(Box::new(job)),
                None => Polled::Nothing { is_news: true },
            },
        }
    }

    /// Waits until no report on any job is under way.
    pub async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain_failure(&self, error: &ApiError, is_forbidden: bool) -> Polled {
        let (runner, text) = (self.identity.token.short(), outcome::chain(error));
        if is_forbidden {
            tracing::error!(runner, error = text, "the coordinator does not want this runner");
            return Polled::Forbidden;
        }
        if error.status() == Some(StatusCode::SERVICE_UNAVAILABLE) {
            tracing::warn!(runner, "the coordinator is currently unavailable");
        } else {
            tracing::warn!(runner, error = text, "asking for a job failed");
        }
        Polled::Failed
    }

    /// The second phase: only a job whose start the server has confirmed is run. The confirmation is on a task of its own, so that a
    /// runner which ends meanwhile leaves no job behind that the server believes to be running.
    async fn accept(&self, mut payload: JobPayload) -> Option<JobPayload> {
        self.add_certificates(&mut payload).await;
        let (client, details) = (Arc::clone(&self.client), Arc::clone(&self.details));
        let (job, signals) = (payload.id, JobSignals::default());
        let update = state_update(&payload, JobState::Running, None);
        let given_up = state_update(&payload, JobState::Failed, Some(FailureReason::RunnerSystemFailure));
        let (told, answer) = oneshot::channel();
        let canceled = signals.cancel.clone();
        self.tasks.spawn(async move {
            let is_ours = match client.update_job(job, &update, &details).await {
                Ok(answer) => {
                    if answer.signal == JobStatusSignal::Cancel {
                        canceled.cancel();
                    }
                    !matches!(answer.answer, UpdateAnswer::Abort(_))
                }
                // Whether the server knows is open. If it gave the job to somebody else, its answer to the first report says so.
                Err(error) => {
                    tracing::warn!(%job, error = outcome::chain(&error), "the start of the job was not confirmed");
                    true
                }
            };
            if told.send(is_ours).is_err() && is_ours {
                report::give_back(&client, &details, job, &given_up).await;
            }
        });
        if !answer.await.unwrap_or(false) {
            tracing::info!(%job, "the coordinator took the job back");
            return None;
        }
        match self.begin(&payload, signals) {
            Ok(()) => Some(payload),
            Err(source) => {
                let error = CoordinatorError::File { path: self.identity.spool_dir.clone(), source };
                tracing::error!(%job, error = outcome::chain(&error), "the job cannot run here");
                let given_up = state_update(&payload, JobState::Failed, Some(FailureReason::RunnerSystemFailure));
                report::give_back(&self.client, &self.details, job, &given_up).await;
                None
            }
        }
    }

    fn begin(&self, payload: &JobPayload, signals: JobSignals) -> std::io::Result<()> {
        let spool = Spool::create(&self.identity.spool_dir)?;
        let (finish, finished) = oneshot::channel();
        let report = Report {
            client: Arc::clone(&self.client),
            details: Arc::clone(&self.details),
            access: JobAccess { id: payload.id, token: payload.token.clone() },
            signals: signals.clone(),
            spool: Arc::clone(&spool),
            is_debug: is_debug(payload),
            interval: self.identity.trace_interval,
            final_interval: self.identity.trace_interval,
            final_retries: self.identity.final_retries,
            sent: 0,
            last_sent: tokio::time::Instant::now(),
        };
        self.state().jobs.insert(payload.id, RunningJob { signals, spool, finish: Some(finish) });
        self.tasks.spawn(report.run(finished));
        Ok(())
    }

    /// Jobs reach the server by the same certificates as the runner. Their own variables of these names win.
    async fn add_certificates(&self, payload: &mut JobPayload) {
        let files = self.client.tls_files();
        let named = [
            ("CI_SERVER_TLS_CA_FILE", files.ca_file),
            ("CI_SERVER_TLS_CERT_FILE", files.cert_file),
            ("CI_SERVER_TLS_KEY_FILE", files.key_file),
        ];
        for (key, path) in named {
            let Some(path) = path else { continue };
            match tokio::fs::read_to_string(&path).await {
                Ok(value) => {
                    let variable = Variable { key: key.to_owned(), value, public: true, file: true, raw: true, masked: false };
                    payload.variables.insert(0, variable);
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "jobs do not get this certificate file"),
            }
        }
    }

    async fn next_job(&self) -> JobPayload {
        let mut failures = 0;
        let mut may_hurry = true;
        loop {
            if let Some(rest) = self.rest() {
                sleep(rest).await;
            }
            let began = Instant::now();
            let polled = self.poll().await;
            failures = if matches!(polled, Polled::Failed) { failures + 1 } else { 0 };
            let pause = match polled {
                Polled::Job(job) => return *job,
                Polled::Nothing { is_news: true } if may_hurry => Duration::ZERO,
                Polled::Nothing { .. } | Polled::Forbidden => self.identity.check_interval.saturating_sub(began.elapsed()),
                Polled::Failed => {
                    let doubled = self.identity.check_interval.saturating_mul(1 << (failures - 1).min(10));
                    doubled.min(ABSENCE_PAUSE_MAX.max(self.identity.check_interval))
                }
            };
            may_hurry = !pause.is_zero() || began.elapsed() >= self.identity.check_interval;
            sleep(pause).await;
        }
    }

    async fn finish(&self, job: JobId, update: JobUpdate) -> Result<(), CoordinatorError> {
        let finish = self.state().jobs.get_mut(&job).and_then(|job| job.finish.take());
        let Some(finish) = finish else {
            return Err(CoordinatorError::Refused { request: "the job's end", reason: "the job is not running here".to_owned() });
        };
        let (done, result) = oneshot::channel();
        // The report's task waits for this as long as the job is in the table.
        let _ = finish.send(Finish { update, done });
        let result = result.await;
        self.state().jobs.remove(&job);
        result.unwrap_or(Ok(()))
    }

    fn append(&self, job: JobId, offset: u64, bytes: Bytes) -> Result<(), CoordinatorError> {
        let (spool, signals) = match self.state().jobs.get(&job) {
            Some(job) => (Arc::clone(&job.spool), job.signals.clone()),
            None => return Err(CoordinatorError::Refused { request: "the trace", reason: "the job is not running here".to_owned() }),
        };
        if signals.abort.is_cancelled() {
            return Err(CoordinatorError::Refused { request: "the trace", reason: "the job is over at the coordinator".to_owned() });
        }
        spool.append(offset, bytes).map_err(|source| CoordinatorError::File { path: self.identity.spool_dir.clone(), source })
    }
}

fn state_update(payload: &JobPayload, state: JobState, failure_reason: Option<FailureReason>) -> JobUpdate {
    JobUpdate { token: payload.token.clone(), state, failure_reason, output: None, exit_code: None }
}

/// Tells whether the job prints more than it should show to everybody.
fn is_debug(payload: &JobPayload) -> bool {
    ["CI_DEBUG_TRACE", "CI_DEBUG_SERVICES"].iter().any(|key| {
        let value = payload.variables.iter().rev().find(|variable| variable.key == *key).map(|variable| variable.value.as_str());
        matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    })
}

impl Coordinator for HttpCoordinator {
    /// Never ends by itself: a server may always have another job.
    fn request_job(&self) -> BoxFuture<'_, Result<Option<JobPayload>, CoordinatorError>> {
        async { Ok(Some(self.next_job().await)) }.boxed()
    }

    /// The start was reported when the job was taken.
    fn update_job(&self, job: JobId, update: JobUpdate) -> BoxFuture<'_, Result<(), CoordinatorError>> {
        async move {
            match update.state {
                JobState::Running => Ok(()),
                JobState::Success | JobState::Failed => self.finish(job, update).await,
            }
        }
        .boxed()
    }

    fn append_trace<'a>(&'a self, job: &'a JobAccess, offset: u64, bytes: Bytes) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async move { self.append(job.id, offset, bytes) }.boxed()
    }

    fn upload_artifacts<'a>(&'a self, job: &'a JobAccess, upload: ArtifactUpload) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async move { self.upload(job, &upload).await }.boxed()
    }

    fn download_artifacts<'a>(&'a self, dependency: &'a Dependency, to: &'a Path) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        self.download(dependency, to).boxed()
    }

    fn signals(&self, job: JobId) -> JobSignals {
        self.state().jobs.get(&job).map(|job| job.signals.clone()).unwrap_or_default()
    }
}
