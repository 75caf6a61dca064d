//! The task that owns a run.

mod bridges;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use dockwright_job::{Dependency, DependencyFile, FailureReason, JobId, JobPayload, JobState, JobToken, JobUpdate};
use dockwright_pipeline::{Job, OtherNeed, Pipeline, expand_blank};
use indexmap::IndexMap;
use jiff::Timestamp;
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, SeekFrom},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    Access, ReportContent, Request, RunError, RunOptions, Stops, StoredArtifact, child,
    family::{Family, Left},
};
use crate::{
    directory::{DirectoryError, JobsDirectory, RunDirectory},
    event::{JobEvent, JobOutcome, JobStatus, PipelineResult, PipelineStatus},
    payload::{self, PayloadFacts, RunOfJob},
    project::git,
    release::ReleasePlan,
    schedule::{self, Command, Event, JobIndex, Outcome, Plan, State},
};

/// How much of the end of a trace is searched for `coverage`.
const COVERAGE_SIZE_BYTES: u64 = 4 * 1024 * 1024;

pub(super) struct Owner {
    pipeline: Pipeline,
    facts: Arc<PayloadFacts>,
    directory: Arc<RunDirectory>,
    jobs: JobsDirectory,
    state: State,
    /// Every run of every job, retries too, by number.
    runs: IndexMap<JobId, Run>,
    /// The latest run of each job of the pipeline.
    latest: Vec<JobId>,
    queue: VecDeque<JobIndex>,
    /// When delayed jobs are due.
    due: Vec<(Instant, JobIndex)>,
    /// Jobs that start child pipelines, and are to.
    bridges: VecDeque<JobIndex>,
    children: JoinSet<EndedChild>,
    /// What children said at their end.
    ended_children: Vec<JobOutcome>,
    family: Family,
    descent: Descent,
    stops: Stops,
    events: mpsc::Sender<JobEvent>,
    /// Set when nothing more will happen.
    finished: Option<PipelineStatus>,
}

/// Where a pipeline stands below the first.
struct Descent {
    /// Number of pipelines above.
    depth: usize,
    /// Before the names of its jobs, so that they differ from those of other pipelines.
    prefix: String,
    /// Where requests about its jobs go; the first pipeline is asked otherwise.
    requests: Option<mpsc::Sender<Request>>,
}

/// Why a job does not get as far as to a runner, in words for its trace.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("system failure: {0}")]
    Git(crate::GitError),
    #[error(
        "it needs the artifacts of job `{job}` of pipeline `{number}` (`{pipeline}`), which is no job that has succeeded in this run; give the number of the parent pipeline by a variable of the job with `trigger`: `PARENT_PIPELINE_ID: $CI_PIPELINE_ID`"
    )]
    MissingDependency { pipeline: String, number: String, job: String },
    #[error("the steps of `run` are not run locally; what `script` does runs here, too")]
    Steps,
}

/// A child pipeline that has ended.
struct EndedChild {
    bridge: JobIndex,
    result: PipelineResult,
}

/// One run of a job.
struct Run {
    job: JobIndex,
    token: JobToken,
    retries: u8,
    queued: Instant,
    started: Option<Instant>,
    trace: Option<File>,
    trace_bytes: u64,
    artifacts: HashMap<String, StoredArtifact>,
    /// What is released if it succeeds.
    release: Option<ReleasePlan>,
    reason: Option<FailureReason>,
    exit_code: Option<i32>,
    /// Set when the run has ended.
    outcome: Option<JobOutcome>,
}

impl Owner {
    pub(super) fn new(options: RunOptions, stops: Stops, events: mpsc::Sender<JobEvent>) -> Result<Self, DirectoryError> {
        let RunOptions { project, pipeline, trigger, registry, directory, includes } = options;
        let facts = PayloadFacts {
            project,
            trigger,
            registry,
            is_remote: false,
            pipeline_id: directory.pipeline_id(),
            pipeline_iid: directory.pipeline_id(),
            pipeline_name: pipeline.name.clone(),
            created: Timestamp::now(),
        };
        let descent = Descent { depth: 0, prefix: String::new(), requests: None };
        Self::with_descent(pipeline, facts, Arc::new(directory), stops, events, Family::new(includes), descent)
    }

    fn with_descent(
        pipeline: Pipeline,
        facts: PayloadFacts,
        directory: Arc<RunDirectory>,
        stops: Stops,
        events: mpsc::Sender<JobEvent>,
        family: Family,
        descent: Descent,
    ) -> Result<Self, DirectoryError> {
        let mut owner = Self {
            state: State::new(Plan::new(&pipeline)),
            jobs: directory.jobs(),
            pipeline,
            facts: Arc::new(facts),
            directory,
            runs: IndexMap::new(),
            latest: Vec::new(),
            queue: VecDeque::new(),
            due: Vec::new(),
            bridges: VecDeque::new(),
            children: JoinSet::new(),
            ended_children: Vec::new(),
            family,
            descent,
            stops,
            events,
            finished: None,
        };
        for job in 0..owner.pipeline.jobs.len() {
            let id = owner.add_run(job, 0)?;
            owner.latest.push(id);
        }
        Ok(owner)
    }

    /// Returns what the runs of child pipelines share with this one.
    pub(super) fn family(&self) -> Family {
        self.family.clone()
    }

    /// Serves requests until the pipeline has ended.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) -> PipelineResult {
        for id in self.latest.clone() {
            self.announce(id).await;
        }
        self.step(Event::Begin).await;
        let signals = self.stops.run.clone();
        let (mut is_canceled, mut is_aborted) = (false, false);
        let mut arrivals = self.family.arrivals();
        self.start_bridges().await;
        // The runners that a child pipeline finds wait already.
        self.hand_out().await;
        while self.finished.is_none() || !self.children.is_empty() {
            tokio::select! {
                biased;
                () = signals.abort.cancelled(), if !is_aborted => {
                    is_aborted = true;
                    for id in &self.latest {
                        self.stops.of(*id).abort.cancel();
                    }
                    self.step(Event::Cancel).await;
                }
                () = signals.cancel.cancelled(), if !is_canceled => {
                    is_canceled = true;
                    // Those of child pipelines that nothing waits for, too.
                    for id in &self.latest {
                        self.stops.of(*id).cancel.cancel();
                    }
                    self.step(Event::Cancel).await;
                }
                job = next_due(&self.due) => {
                    self.due.retain(|(_, other)| *other != job);
                    self.step(Event::Due(job)).await;
                }
                Some(ended) = self.children.join_next(), if !self.children.is_empty() => match ended {
                    Ok(ended) => self.end_child(ended).await,
                    Err(error) => tracing::error!(%error, "a child pipeline was lost"),
                },
                Ok(()) = arrivals.changed(), if !self.queue.is_empty() => {}
                request = requests.recv() => match request {
                    Some(request) => self.serve(request).await,
                    // Nobody is left to run jobs or to report on them.
                    None => {
                        self.finished = Some(PipelineStatus::Canceled);
                        break;
                    }
                },
            }
            self.start_bridges().await;
            self.hand_out().await;
        }
        self.finish().await
    }

    async fn finish(mut self) -> PipelineResult {
        let status = self.finished.unwrap_or(PipelineStatus::Canceled);
        if self.descent.depth == 0 {
            while let Some(waiting) = self.family.take_waiting() {
                // A runner that is gone needs no answer.
                let _ = waiting.send(None);
            }
            self.emit(JobEvent::PipelineFinished { status }).await;
        }
        let jobs =
            self.runs.iter().map(|(id, run)| run.outcome.clone().unwrap_or_else(|| self.outcome(*id, self.state.status(run.job), false)));
        let mut jobs: Vec<JobOutcome> = jobs.collect();
        jobs.append(&mut self.ended_children);
        PipelineResult { pipeline_id: self.facts.pipeline_id, status, jobs }
    }

    fn add_run(&mut self, job: JobIndex, retries: u8) -> Result<JobId, DirectoryError> {
        let id = self.directory.next_job_id()?;
        self.jobs.create(id)?;
        if let Some(requests) = &self.descent.requests {
            self.family.own(id, requests.clone());
        }
        let run = Run {
            job,
            token: new_token(),
            retries,
            queued: Instant::now(),
            started: None,
            trace: None,
            trace_bytes: 0,
            artifacts: HashMap::new(),
            release: None,
            reason: None,
            exit_code: None,
            outcome: None,
        };
        self.runs.insert(id, run);
        Ok(id)
    }

    async fn announce(&self, id: JobId) {
        let job = &self.pipeline.jobs[self.runs[&id].job];
        self.emit(JobEvent::Added { job: id, name: self.shown_name(job), stage: job.stage.clone() }).await;
    }

    /// Returns the name of a job among those of all pipelines of the run.
    fn shown_name(&self, job: &Job) -> String {
        format!("{}{}", self.descent.prefix, job.name)
    }

    async fn emit(&self, event: JobEvent) {
        // A report that has gone does not keep the pipeline from running.
        let _ = self.events.send(event).await;
    }

    async fn step(&mut self, event: Event) {
        let (state, commands) = schedule::next(&self.state, event);
        self.state = state;
        for command in commands {
            self.execute(command).await;
        }
    }

    async fn execute(&mut self, command: Command) {
        match command {
            Command::Enqueue(job) => {
                let id = self.latest[job];
                self.runs[&id].queued = Instant::now();
                if self.pipeline.jobs[job].bridge.is_some() {
                    self.bridges.push_back(job);
                } else {
                    self.queue.push_back(job);
                }
                self.emit(JobEvent::Waiting { job: id, status: JobStatus::Pending }).await;
            }
            Command::Reopen(job) => self.emit(JobEvent::Waiting { job: self.latest[job], status: JobStatus::Created }).await,
            Command::Hold(job) => self.emit(JobEvent::Waiting { job: self.latest[job], status: JobStatus::Manual }).await,
            Command::Queue(job) => self.emit(JobEvent::Waiting { job: self.latest[job], status: JobStatus::WaitingForResource }).await,
            Command::Delay(job) => {
                let delay = Duration::from_secs(self.pipeline.jobs[job].start_in_secs.unwrap_or_default());
                self.due.push((Instant::now() + delay, job));
                self.emit(JobEvent::Waiting { job: self.latest[job], status: JobStatus::Scheduled }).await;
            }
            Command::Stop(job) => self.stops.of(self.latest[job]).cancel.cancel(),
            Command::Close { job, status, is_allowed_to_fail } => {
                self.queue.retain(|queued| *queued != job);
                self.bridges.retain(|queued| *queued != job);
                self.due.retain(|(_, delayed)| *delayed != job);
                self.close(self.latest[job], status, is_allowed_to_fail, None).await;
            }
            Command::Retry(job) => self.retry(job).await,
            Command::Finish(status) => self.finished = Some(status),
        }
    }

    async fn retry(&mut self, job: JobIndex) {
        let failed = self.latest[job];
        match self.add_run(job, self.runs[&failed].retries + 1) {
            Ok(id) => {
                self.latest[job] = id;
                self.close(failed, JobStatus::Failed, false, Some(id)).await;
                self.announce(id).await;
            }
            // The state directory is broken. The scheduler runs the job again, under its old number.
            Err(error) => tracing::error!(%error, "cannot make the directory of a retried job"),
        }
    }

    async fn close(&mut self, id: JobId, status: JobStatus, is_allowed_to_fail: bool, retried_as: Option<JobId>) {
        let (mut coverage, mut release) = (None, None);
        if status == JobStatus::Success {
            (coverage, release) = (self.coverage(id).await, self.release(id).await);
            let left = Left { dependency: self.dependency(id), dotenv: self.dotenv(id) };
            self.family.leave(self.facts.pipeline_id, &self.pipeline.jobs[self.runs[&id].job].name, left);
        }
        let outcome = JobOutcome { retried_as, coverage, release, ..self.outcome(id, status, is_allowed_to_fail) };
        let run = &mut self.runs[&id];
        run.trace = None;
        run.outcome = Some(outcome.clone());
        let event = if status == JobStatus::Skipped { JobEvent::Waiting { job: id, status } } else { JobEvent::Finished(outcome) };
        self.emit(event).await;
    }

    /// Looks for the percentage of covered code at the end of what the job printed.
    async fn coverage(&self, id: JobId) -> Option<f64> {
        let coverage = self.pipeline.jobs[self.runs[&id].job].coverage.clone()?;
        let mut trace = File::open(self.jobs.trace(id)).await.ok()?;
        let length = trace.metadata().await.ok()?.len();
        trace.seek(SeekFrom::Start(length.saturating_sub(COVERAGE_SIZE_BYTES))).await.ok()?;
        let mut bytes = Vec::new();
        trace.read_to_end(&mut bytes).await.ok()?;
        coverage.find(&String::from_utf8_lossy(&bytes))
    }

    /// Completes what would be released, and warns of what GitLab would refuse.
    async fn release(&mut self, id: JobId) -> Option<ReleasePlan> {
        let mut plan = self.runs[&id].release.take()?;
        if let Some(path) = plan.description_path().map(str::to_owned) {
            let archive = self.runs[&id].artifacts.contains_key("archive").then(|| self.jobs.artifact(id, "archive"));
            let facts = Arc::clone(&self.facts);
            let read = tokio::task::spawn_blocking(move || {
                let made = archive.and_then(|archive| child::read_entry(&archive, &path).ok());
                made.or_else(|| git::read_file(&facts.project.sources, &facts.project.sha, &path).ok())
            });
            if let Some(text) = read.await.expect("reading a file does not panic") {
                plan.description = masked(text, &self.secrets(id));
            }
        }
        for message in plan.problems() {
            self.emit(JobEvent::Warning { job: id, message }).await;
        }
        Some(plan)
    }

    fn outcome(&self, id: JobId, status: JobStatus, allowed_to_fail: bool) -> JobOutcome {
        let run = &self.runs[&id];
        let job = &self.pipeline.jobs[run.job];
        let has_failed = status == JobStatus::Failed;
        JobOutcome {
            job: id,
            name: self.shown_name(job),
            stage: job.stage.clone(),
            status,
            failure_reason: run.reason.filter(|_| has_failed),
            exit_code: run.exit_code.filter(|_| has_failed),
            allowed_to_fail,
            retried_as: None,
            coverage: None,
            tests: run.artifacts.get("junit").and_then(|report| match &report.content {
                ReportContent::Tests(report, _) => Some(report.clone()),
                _ => None,
            }),
            release: None,
            duration: run.started.map_or(Duration::ZERO, |started| started.elapsed()),
        }
    }

    async fn serve(&mut self, request: Request) {
        // Whoever asked may be gone; then the answer is not missed.
        match request {
            Request::NextJob { reply } => self.family.wait(reply),
            Request::Update { job, update, reply } => {
                let _ = reply.send(self.update(job, update).await);
            }
            Request::Trace { access, offset, bytes, reply } => {
                let _ = reply.send(self.trace(&access, offset, bytes).await);
            }
            Request::Expects { access, artifact_type, reply } => {
                let _ = reply.send(self.expects(&access, &artifact_type));
            }
            Request::Artifact { access, artifact, reply } => {
                let _ = reply.send(self.store(&access, artifact).await);
            }
        }
    }

    /// Gives queued jobs to waiting runners.
    async fn hand_out(&mut self) {
        while !self.queue.is_empty() {
            let Some(waiting) = self.family.take_waiting() else { return };
            let job = self.queue.pop_front().expect("the queue was not empty");
            let id = self.latest[job];
            let payload = self.payload(id).await;
            self.runs[&id].started = Some(Instant::now());
            match payload {
                Ok(payload) => {
                    let release = self.pipeline.jobs[job].release.as_ref();
                    self.runs[&id].release = release.map(|release| ReleasePlan::new(release, &payload.variables, &self.facts.project.sha));
                    if waiting.send(Some(payload)).is_err() {
                        self.queue.push_front(job);
                        continue;
                    }
                    self.step(Event::Started(job)).await;
                    self.emit(JobEvent::Started { job: id }).await;
                }
                Err(error) => {
                    self.family.put_back(waiting);
                    self.fail_to_start(id, &error).await;
                }
            }
        }
    }

    async fn payload(&self, id: JobId) -> Result<JobPayload, StartError> {
        let run = &self.runs[&id];
        let job = self.pipeline.jobs[run.job].clone();
        if job.has_steps {
            return Err(StartError::Steps);
        }
        let sources = payload::artifact_sources(&self.pipeline, &self.latest, &job);
        let elsewhere = self.left_elsewhere(&job)?;
        let own = sources.iter().filter_map(|id| self.dependency(*id));
        let of_job = RunOfJob {
            id,
            token: run.token.clone(),
            retries: run.retries,
            started: Timestamp::now(),
            queued_secs: run.queued.elapsed().as_secs_f64(),
            dependencies: own.chain(elsewhere.iter().filter_map(|left| left.dependency.clone())).collect(),
            dotenv: sources.iter().map(|id| self.dotenv(*id)).chain(elsewhere.iter().map(|left| left.dotenv.clone())).flatten().collect(),
        };
        let facts = self.facts.clone();
        // Keys of caches are computed by Git.
        tokio::task::spawn_blocking(move || facts.payload(&job, &of_job))
            .await
            .expect("making a payload does not panic")
            .map_err(StartError::Git)
    }

    /// Returns the variables of a job's dotenv report.
    fn dotenv(&self, id: JobId) -> IndexMap<String, String> {
        match self.runs[&id].artifacts.get("dotenv").map(|report| &report.content) {
            Some(ReportContent::Variables(variables)) => variables.clone(),
            _ => IndexMap::new(),
        }
    }

    /// Returns what the jobs of `needs:pipeline` left.
    fn left_elsewhere(&self, job: &Job) -> Result<Vec<Left>, StartError> {
        let mut found = Vec::new();
        for need in &job.other_needs {
            let OtherNeed::Pipeline { pipeline, job: needed, artifacts: true } = need else { continue };
            let visible = self.visible(job);
            let (number, needed) = (expand_blank(pipeline, &visible), expand_blank(needed, &visible));
            let left = number.trim().parse().ok().and_then(|number| self.family.left(number, &needed));
            found.push(left.ok_or(StartError::MissingDependency { pipeline: pipeline.clone(), number, job: needed })?);
        }
        Ok(found)
    }

    fn dependency(&self, id: JobId) -> Option<Dependency> {
        let run = &self.runs[&id];
        let archive = run.artifacts.get("archive")?;
        Some(Dependency {
            id,
            token: run.token.clone(),
            name: self.pipeline.jobs[run.job].name.clone(),
            artifacts_file: DependencyFile { filename: archive.filename.clone(), size: archive.size },
        })
    }

    async fn fail_to_start(&mut self, id: JobId, error: &StartError) {
        self.say(id, &format!("ERROR: Job failed: {error}\n")).await;
        let reason = match error {
            StartError::Git(_) => FailureReason::RunnerSystemFailure,
            StartError::MissingDependency { .. } => FailureReason::MissingDependencyFailure,
            StartError::Steps => FailureReason::RunnerConfigurationError,
        };
        let run = &mut self.runs[&id];
        run.reason = Some(reason);
        let job = run.job;
        self.step(Event::Started(job)).await;
        self.step(Event::Ended(job, Outcome::Failed { reason, exit_code: None })).await;
    }

    /// Writes to the trace of a job that no runner has.
    async fn say(&mut self, id: JobId, text: &str) {
        let access = Access { job: id, token: self.runs[&id].token.clone() };
        let offset = self.runs[&id].trace_bytes;
        if let Err(error) = self.trace(&access, offset, text.as_bytes().to_vec()).await {
            tracing::error!(%error, "cannot write a job's trace");
        }
    }

    fn authorized(&mut self, access: &Access) -> Result<&mut Run, RunError> {
        let run = self.runs.get_mut(&access.job).filter(|run| run.token == access.token && run.started.is_some());
        run.ok_or(RunError::Denied { job: access.job })
    }

    async fn update(&mut self, id: JobId, update: JobUpdate) -> Result<(), RunError> {
        let run = self.authorized(&Access { job: id, token: update.token })?;
        if run.outcome.is_some() || update.state == JobState::Running {
            return Ok(());
        }
        let job = run.job;
        let outcome = if update.state == JobState::Success {
            Outcome::Success
        } else {
            let reason = update.failure_reason.unwrap_or(FailureReason::ScriptFailure);
            run.reason = Some(reason);
            run.exit_code = update.exit_code;
            Outcome::Failed { reason, exit_code: update.exit_code }
        };
        self.step(Event::Ended(job, outcome)).await;
        Ok(())
    }

    async fn trace(&mut self, access: &Access, offset: u64, mut bytes: Vec<u8>) -> Result<(), RunError> {
        let path = self.jobs.trace(access.job);
        let run = self.authorized(access)?;
        let stored = run.trace_bytes;
        if offset > stored {
            return Err(RunError::TraceGap { job: access.job, stored, offset });
        }
        // A runner that missed an answer sends the same bytes again.
        let known = usize::try_from(stored - offset).unwrap_or(usize::MAX).min(bytes.len());
        bytes.drain(..known);
        if bytes.is_empty() {
            return Ok(());
        }
        let file = match &mut run.trace {
            Some(file) => file,
            none => {
                let opened = OpenOptions::new().append(true).create(true).open(&path).await;
                none.insert(opened.map_err(|source| DirectoryError::new("open", &path, source))?)
            }
        };
        let written = async {
            file.write_all(&bytes).await?;
            file.flush().await
        };
        written.await.map_err(|source| DirectoryError::new("append to", &path, source))?;
        run.trace_bytes += bytes.len() as u64;
        self.emit(JobEvent::Trace { job: access.job, bytes }).await;
        Ok(())
    }

    async fn store(&mut self, access: &Access, mut artifact: StoredArtifact) -> Result<(), RunError> {
        self.authorized(access)?;
        let mut warning = None;
        if let ReportContent::Tests(report, problem) = &mut artifact.content {
            let secrets = self.secrets(access.job);
            report.each_text(|text| *text = masked(std::mem::take(text), &secrets));
            warning = problem.take();
        }
        let run = self.authorized(access)?;
        run.artifacts.insert(artifact.artifact_type.clone(), artifact);
        if let Some(message) = warning {
            self.emit(JobEvent::Warning { job: access.job, message }).await;
        }
        Ok(())
    }

    /// Returns what must not be printed of what a job left.
    fn secrets(&self, id: JobId) -> Vec<&str> {
        let given = self.facts.trigger.variables.iter().filter(|given| given.masked && !given.value.is_empty());
        given.map(|given| given.value.as_str()).chain([self.runs[&id].token.expose()]).collect()
    }

    fn expects(&mut self, access: &Access, artifact_type: &str) -> Result<(), RunError> {
        let job = self.authorized(access)?.job;
        let artifacts = self.pipeline.jobs[job].artifacts.as_ref();
        let is_expected = artifacts.is_some_and(|artifacts| match artifact_type {
            "archive" => artifacts.untracked || !artifacts.paths.is_empty(),
            report => artifacts.reports.iter().any(|known| known.kind == report),
        });
        if is_expected { Ok(()) } else { Err(RunError::UnexpectedArtifact { job: access.job, artifact_type: artifact_type.to_owned() }) }
    }
}

fn masked(text: String, secrets: &[&str]) -> String {
    secrets.iter().fold(text, |text, secret| text.replace(secret, "[MASKED]"))
}

/// Waits until the first delayed job is due; without any, for ever.
async fn next_due(due: &[(Instant, JobIndex)]) -> JobIndex {
    match due.iter().min() {
        Some((time, job)) => {
            tokio::time::sleep_until((*time).into()).await;
            *job
        }
        None => std::future::pending().await,
    }
}

/// Makes a token that nobody can guess.
pub(crate) fn new_token() -> JobToken {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    JobToken::new(format!("glcbt-{}", hex::encode(bytes)))
}
