//! One run of a pipeline, as the runners and the reports see it.
//!
//! A task owns the run: it decides by the scheduler, hands out payloads and takes what runners report, one request at a time. Any number
//! of runner slots share a [`PipelineRun`]; everything that happens goes, in order, to one channel of events. That channel has to be
//! read, since requests wait while it is full.

pub(crate) mod child;
mod family;
mod owner;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use dockwright_job::{Dependency, JobId, JobPayload, JobToken, JobUpdate};
use dockwright_pipeline::Pipeline;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use child::ChildIncludes;
use family::Family;
pub(crate) use owner::new_token;

use crate::{
    directory::{DirectoryError, JobsDirectory, RunDirectory},
    dotenv::{self, DotenvError},
    event::{JobEvent, PipelineResult},
    junit::{self, TestReport},
    predefined::{RegistryFacts, Trigger},
    project::Project,
};

/// Requests of runners that wait for the owner.
const REQUEST_QUEUE: usize = 64;
/// Events that wait for the report.
const EVENT_QUEUE: usize = 256;

/// What a run is made of.
#[derive(Debug)]
pub struct RunOptions {
    pub project: Project,
    /// Without errors; see [`dockwright_pipeline::evaluate`] and [`select`](crate::select).
    pub pipeline: Pipeline,
    pub trigger: Trigger,
    pub registry: Option<RegistryFacts>,
    pub directory: RunDirectory,
    pub includes: ChildIncludes,
}

/// A run that has begun.
#[derive(Debug)]
pub struct StartedRun {
    pub run: PipelineRun,
    pub events: mpsc::Receiver<JobEvent>,
    /// Ends when the pipeline has.
    pub result: JoinHandle<PipelineResult>,
}

/// The side of a run that runners talk to. Clones share the run.
#[derive(Debug, Clone)]
pub struct PipelineRun {
    requests: mpsc::Sender<Request>,
    family: Family,
    jobs: JobsDirectory,
    stops: Stops,
}

/// How a running job is told to stop.
#[derive(Debug, Clone, Default)]
pub struct JobSignals {
    /// The script ends; `after_script` and uploads still run.
    pub cancel: CancellationToken,
    /// Everything ends at once.
    pub abort: CancellationToken,
}

/// Proof of the right to report on a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub job: JobId,
    pub token: JobToken,
}

/// A request of a runner that was refused or could not be served.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("job {job} is not part of this pipeline, or has another token")]
    Denied { job: JobId },
    #[error("the pipeline has ended")]
    Ended,
    #[error("the trace of job {job} has {stored} bytes, so it cannot go on at {offset}")]
    TraceGap { job: JobId, stored: u64, offset: u64 },
    #[error("job {job} has no `{artifact_type}` in its `artifacts`")]
    UnexpectedArtifact { job: JobId, artifact_type: String },
    #[error("job {job} left no artifacts")]
    NoArtifacts { job: JobId },
    #[error(transparent)]
    Dotenv(#[from] DotenvError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// What the owner is asked. Each request carries where its answer goes.
#[derive(Debug)]
enum Request {
    NextJob { reply: oneshot::Sender<Option<JobPayload>> },
    Update { job: JobId, update: JobUpdate, reply: oneshot::Sender<Result<(), RunError>> },
    Trace { access: Access, offset: u64, bytes: Vec<u8>, reply: oneshot::Sender<Result<(), RunError>> },
    Expects { access: Access, artifact_type: String, reply: oneshot::Sender<Result<(), RunError>> },
    Artifact { access: Access, artifact: StoredArtifact, reply: oneshot::Sender<Result<(), RunError>> },
}

/// A file that a job left.
#[derive(Debug, Clone)]
struct StoredArtifact {
    artifact_type: String,
    filename: String,
    size: u64,
    content: ReportContent,
}

/// What a report says, where that is of use here.
#[derive(Debug, Clone)]
enum ReportContent {
    /// `dotenv`
    Variables(indexmap::IndexMap<String, String>),
    /// `junit`, with the first thing that is wrong with it.
    Tests(TestReport, Option<String>),
    /// An archive, or a report that is only kept.
    Unread,
}

/// The tokens that stop the run and its jobs; shared, because stopping must not wait in a queue.
#[derive(Debug, Clone, Default)]
struct Stops {
    run: JobSignals,
    jobs: Arc<Mutex<HashMap<JobId, JobSignals>>>,
}

impl Stops {
    /// Returns the tokens of a child pipeline: what stops the job that started it stops all of it.
    fn of_child(&self, bridge: JobId) -> Self {
        Self { run: self.of(bridge), jobs: Arc::clone(&self.jobs) }
    }

    fn of(&self, job: JobId) -> JobSignals {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).entry(job).or_default().clone()
    }
}

impl PipelineRun {
    /// Begins a run; the owner's task is spawned on the current runtime.
    pub fn start(options: RunOptions) -> Result<StartedRun, DirectoryError> {
        let (requests, received) = mpsc::channel(REQUEST_QUEUE);
        let (sent, events) = mpsc::channel(EVENT_QUEUE);
        let (jobs, stops) = (options.directory.jobs(), Stops::default());
        let owner = owner::Owner::new(options, stops.clone(), sent)?;
        let run = Self { requests, family: owner.family(), jobs, stops };
        Ok(StartedRun { run, events, result: tokio::spawn(owner.run(received)) })
    }

    /// Waits for the next job. `None` means that no more will come.
    pub async fn request_job(&self) -> Option<JobPayload> {
        self.ask(None, |reply| Request::NextJob { reply }).await.ok().flatten()
    }

    /// Takes a report of a job's state. Reports on a job that has ended are accepted and have no effect.
    pub async fn update_job(&self, job: JobId, update: JobUpdate) -> Result<(), RunError> {
        self.ask(Some(job), |reply| Request::Update { job, update, reply }).await?
    }

    /// Appends to a job's trace. `offset` is the number of bytes that came before; bytes that are there already are skipped.
    pub async fn append_trace(&self, access: &Access, offset: u64, bytes: Vec<u8>) -> Result<(), RunError> {
        self.ask(Some(access.job), |reply| Request::Trace { access: access.clone(), offset, bytes, reply }).await?
    }

    /// Keeps a copy of an archive or report. Its type must be one that the job's payload asks for.
    pub async fn store_artifacts(&self, access: &Access, artifact_type: &str, filename: &str, file: &Path) -> Result<(), RunError> {
        let artifact_type = artifact_type.to_owned();
        self.ask(Some(access.job), |reply| Request::Expects { access: access.clone(), artifact_type: artifact_type.clone(), reply })
            .await??;
        let target = self.jobs.artifact(access.job, &artifact_type);
        let size = copy(file, &target).await?;
        let content = read_content(&artifact_type, target).await?;
        let artifact = StoredArtifact { artifact_type, filename: filename.to_owned(), size, content };
        self.ask(Some(access.job), |reply| Request::Artifact { access: access.clone(), artifact, reply }).await?
    }

    /// Writes the archive of an earlier job to `to`.
    pub async fn open_artifacts(&self, dependency: &Dependency, to: &Path) -> Result<(), RunError> {
        let archive = self.jobs.artifact(dependency.id, "archive");
        if !tokio::fs::try_exists(&archive).await.unwrap_or(false) {
            return Err(RunError::NoArtifacts { job: dependency.id });
        }
        copy(&archive, to).await?;
        Ok(())
    }

    /// Returns how a job will be told to stop.
    pub fn signals(&self, job: JobId) -> JobSignals {
        self.stops.of(job)
    }

    /// Stops the pipeline: what has not started never will, and what runs still runs its `after_script`.
    pub fn cancel(&self) {
        self.stops.run.cancel.cancel();
    }

    /// Stops the pipeline at once.
    pub fn abort(&self) {
        self.stops.run.abort.cancel();
    }

    /// Returns where a job's whole trace is kept.
    pub fn trace_path(&self, job: JobId) -> PathBuf {
        self.jobs.trace(job)
    }

    /// Asks the owner of a job, or that of the whole run.
    async fn ask<T>(&self, job: Option<JobId>, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, RunError> {
        let (reply, answer) = oneshot::channel();
        let owner = job.and_then(|job| self.family.owner(job));
        let requests = owner.as_ref().unwrap_or(&self.requests);
        requests.send(request(reply)).await.map_err(|_| RunError::Ended)?;
        answer.await.map_err(|_| RunError::Ended)
    }
}

async fn copy(from: &Path, to: &Path) -> Result<u64, DirectoryError> {
    tokio::fs::copy(from, to).await.map_err(|source| DirectoryError::new("copy artifacts to", to, source))
}

async fn read_content(artifact_type: &str, path: PathBuf) -> Result<ReportContent, RunError> {
    type Read = fn(std::fs::File) -> Result<ReportContent, RunError>;
    let read: Read = match artifact_type {
        "dotenv" => |file| Ok(ReportContent::Variables(dotenv::read(file)?)),
        "junit" => |file| {
            let (report, problem) = junit::read(std::io::BufReader::new(file));
            Ok(ReportContent::Tests(report, problem.map(|problem| problem.to_string())))
        },
        _ => return Ok(ReportContent::Unread),
    };
    let content =
        tokio::task::spawn_blocking(move || read(std::fs::File::open(&path).map_err(|source| DirectoryError::new("open", &path, source))?));
    content.await.expect("reading a report does not panic")
}
