//! One job, from its payload to its final report.
//!
//! ```text
//! prepare_executor ─► prepare_script ─► get_sources ─► restore_cache ─► download_artifacts ─► step_… ─► after_script
//!        │ fails            │ fails          └────────── fails ──────────┴──────┐                          │
//!        │                  │                                                   ▼                          ▼
//!        │                  │                               archive_cache ─► upload_artifacts ─► cleanup_file_variables
//!        └──────────────────┴───────────────────────────────────────────────────────────────────────────────┴─► clean up, report
//! ```
//!
//! A job that is stopped as a whole (time over, runner ends, coordinator says `canceled`) goes straight to clean-up.

mod artifacts;
mod cache;
mod hooks;
mod provenance;
mod remote;
mod setup;
mod stop;

use std::{path::PathBuf, sync::Arc, time::Duration};

use dockwright_job::{FailureReason, GitInfo, JobPayload, JobState, JobUpdate, Step};
use tokio_util::sync::CancellationToken;

use self::stop::{Stops, within};
use crate::{
    Phase, RunnerConfig, RunnerEvent,
    coordinator::JobAccess,
    dispatcher::Runner,
    executor::{ExecuteError, Executor, ExecutorContext, HelperFiles, runner_host_name},
    feature_flag,
    helper::HelperRequest,
    hint,
    outcome::{self, Failure, StopReason, reported_reason},
    script::{ScriptContext, ScriptKind, user_script},
    sources::{Checkout, Strategy, repository_at},
    trace::{FURTHER_TOKEN_PREFIXES, Trace, TraceOptions},
    variables::public,
};

const DEFAULT_JOB_TIMEOUT: Duration = Duration::from_secs(7200);
const DEFAULT_AFTER_SCRIPT_TIMEOUT: Duration = Duration::from_secs(300);
const TRACE_RETRY_DELAY: Duration = Duration::from_secs(1);
const PREPARE_ATTEMPTS: u32 = 3;
const PREPARE_RETRY_DELAY: Duration = Duration::from_secs(3);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(300);

/// A job that is about to run.
pub(crate) struct JobRun {
    runner: Runner,
    payload: Arc<JobPayload>,
    access: JobAccess,
    slot: usize,
    runner_stop: CancellationToken,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct JobEnd {
    pub(crate) failure: Option<FailureReason>,
    pub(crate) exit_code: Option<i32>,
}

impl JobRun {
    pub(crate) fn new(runner: Runner, payload: JobPayload, slot: usize, runner_stop: CancellationToken) -> Self {
        let access = JobAccess { id: payload.id, token: payload.token.clone() };
        Self { runner, payload: Arc::new(payload), access, slot, runner_stop }
    }

    /// Runs the job and reports it. Nothing of the job runs any more when this returns.
    pub(crate) async fn run(self) -> JobEnd {
        let config = &self.runner.config;
        self.report(JobState::Running, None, None, None).await;
        let executor_kind = setup::executor_kind(config, &self.payload);
        let (variables, directories) = setup::surroundings(config, &self.payload, executor_kind, self.slot, None);
        let trace_lost = CancellationToken::new();
        let options = TraceOptions {
            coordinator: Arc::clone(&self.runner.coordinator),
            access: self.access.clone(),
            timestamps: config.timestamps && feature_flag::TIMESTAMPS.is_on(&variables),
            sections: self.payload.features.trace_sections,
            limit_bytes: config.output_limit_bytes,
            interval: config.trace_interval,
            retry_delay: TRACE_RETRY_DELAY,
            lost: trace_lost.clone(),
        };
        let passwords: Vec<&str> = self.payload.credentials.iter().map(|credentials| credentials.password.as_str()).collect();
        let mut token_prefixes = self.payload.features.token_mask_prefixes.clone();
        if feature_flag::MASK_ALL_DEFAULT_TOKENS.is_on(&variables) {
            token_prefixes.extend(FURTHER_TOKEN_PREFIXES.map(str::to_owned));
        }
        let (trace, delivered) = Trace::start(options, &variables, &passwords, &token_prefixes);
        let limit = u64::try_from(self.payload.runner_info.timeout).ok().filter(|&seconds| seconds > 0);
        let stops = Stops::watch(
            self.runner.coordinator.signals(self.payload.id),
            self.runner_stop.clone(),
            trace_lost,
            limit.map_or(DEFAULT_JOB_TIMEOUT, Duration::from_secs),
        );
        let context = ExecutorContext {
            payload: Arc::clone(&self.payload),
            config: Arc::clone(config),
            engines: Arc::clone(&self.runner.engines),
            variables,
            directories,
            slot: self.slot,
            trace: trace.clone(),
        };
        self.write_header(&context).await;
        let mut work = Work { job: &self, executor: setup::executor(config, &self.payload), kind: executor_kind.name(), context, stops };
        let result = work.run().await;
        let result = match work.stops.reason() {
            // What a stopped phase reports is only how it was stopped.
            Some(reason) if result.is_err() || work.stops.job.is_cancelled() => Err(Failure::Stopped(reason)),
            _ => result,
        };
        let hint = work.hint(&result).await;
        work.executor.clean_up(&work.context).await;
        drop(work.stops);
        drop(work.context);

        match &result {
            Ok(()) => trace.info("Job succeeded").await,
            Err(failure) => trace.error(failure.message()).await,
        }
        if let Some(hint) = hint {
            trace.hint(hint.to_string()).await;
        }
        trace.finish().await;
        let output = match delivered.await {
            Ok(Ok(checksum)) => Some(checksum),
            Ok(Err(error)) => {
                tracing::warn!(job = %self.access.id, error = outcome::chain(&error), "the trace was not delivered");
                None
            }
            Err(_) => None,
        };
        let failure = result.as_ref().err().map(Failure::reason);
        let exit_code = result.as_ref().err().and_then(Failure::exit_code);
        let state = if failure.is_some() { JobState::Failed } else { JobState::Success };
        self.report(state, failure, exit_code, output).await;
        JobEnd { failure, exit_code }
    }

    async fn write_header(&self, context: &ExecutorContext) {
        let (config, trace) = (&self.runner.config, &context.trace);
        trace.line(format!("Running with dockwright {} ({})", config.version, config.revision)).await;
        trace.line(format!("  on {} {}, system ID: {}", config.name, config.short_token, config.system_id)).await;
        if let Some(flags) = feature_flag::changed(&context.variables) {
            trace.line(format!("  feature flags: {flags}")).await;
        }
    }

    async fn report(
        &self,
        state: JobState,
        failure: Option<FailureReason>,
        exit_code: Option<i32>,
        output: Option<dockwright_job::TraceChecksum>,
    ) {
        let update = JobUpdate {
            token: self.access.token.clone(),
            state,
            failure_reason: failure.map(|reason| reported_reason(reason, &self.payload.features)),
            output,
            exit_code: exit_code.filter(|&code| code != 0),
        };
        if let Err(error) = self.runner.coordinator.update_job(self.access.id, update).await {
            tracing::warn!(job = %self.access.id, error = outcome::chain(&error), "the job's state could not be reported");
        }
    }
}

/// Puts the runner's own commands around those of a step. A step that fails does not come to the last of them, as with GitLab Runner.
fn with_build_scripts(config: &RunnerConfig, commands: &[String]) -> Vec<String> {
    let around = |script: &String| Some(script.clone()).filter(|script| !script.trim().is_empty());
    around(&config.pre_build_script).into_iter().chain(commands.iter().cloned()).chain(around(&config.post_build_script)).collect()
}

/// The phases of a job and what they share.
struct Work<'a> {
    job: &'a JobRun,
    executor: Executor,
    kind: &'static str,
    context: ExecutorContext,
    stops: Stops,
}

impl Work<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        self.start(&Phase::PrepareExecutor).await;
        let prepared = self.prepare().await;
        self.end(&Phase::PrepareExecutor).await;
        prepared?;

        self.start(&Phase::PrepareScript).await;
        let prepared = self.prepare_script().await;
        self.end(&Phase::PrepareScript).await;
        prepared?;

        let mut result = self.before_scripts().await;
        if result.is_ok() && !self.stops.job.is_cancelled() {
            result = self.scripts().await;
        }
        if self.stops.job.is_cancelled() {
            return result;
        }
        self.archive_caches(result.is_ok()).await;
        let uploaded = self.upload_artifacts(result.is_ok()).await;
        self.clean_up_file_variables().await;
        result.and(uploaded)
    }

    async fn start(&self, phase: &Phase) {
        self.job.runner.tell(RunnerEvent::PhaseStarted { job: self.job.access.id, phase: phase.clone() });
        self.context.trace.start_section(phase, self.kind).await;
    }

    async fn end(&self, phase: &Phase) {
        self.context.trace.end_section(phase).await;
    }

    /// An engine or driver that does not answer may do so a moment later; anything else would fail again.
    async fn prepare(&mut self) -> Result<(), Failure> {
        let mut attempt = 1;
        loop {
            let error = match self.prepare_once().await {
                Ok(()) => return Ok(()),
                Err(error @ (ExecuteError::Engine { .. } | ExecuteError::Driver { .. })) if attempt < PREPARE_ATTEMPTS => error,
                Err(error) => return Err(error.into()),
            };
            let trace = &self.context.trace;
            trace.error(format!("Preparation failed: {}", outcome::chain(&error))).await;
            trace.line(format!("Will be retried in {}s ...", PREPARE_RETRY_DELAY.as_secs())).await;
            let fresh = setup::executor(&self.context.config, &self.context.payload);
            std::mem::replace(&mut self.executor, fresh).clean_up(&self.context).await;
            tokio::select! {
                () = tokio::time::sleep(PREPARE_RETRY_DELAY) => attempt += 1,
                () = self.stops.job.cancelled() => return Err(ExecuteError::Stopped.into()),
            }
        }
    }

    async fn prepare_once(&mut self) -> Result<(), ExecuteError> {
        if let Executor::Custom(custom) = &mut self.executor {
            let place = custom.configure(&self.context, &self.stops.job).await?;
            let kind = setup::ExecutorKind::Custom;
            let (variables, directories) =
                setup::surroundings(&self.context.config, &self.context.payload, kind, self.context.slot, Some(&place));
            self.context.variables = variables;
            self.context.directories = directories;
        }
        self.executor.prepare(&self.context, &self.stops.job).await
    }

    async fn prepare_script(&mut self) -> Result<(), Failure> {
        if let Executor::Custom(custom) = &self.executor {
            let host = custom.host_name();
            return self.prepare_remotely(&host).await;
        }
        let host = self.executor.host_name(&self.context);
        self.context.trace.line(format!("Running on {host} via {}...", runner_host_name())).await;
        self.remove_temporary_files().await
    }

    async fn before_scripts(&mut self) -> Result<(), Failure> {
        self.start(&Phase::GetSources).await;
        let sources = self.get_sources().await;
        self.end(&Phase::GetSources).await;
        sources?;
        self.restore_caches().await;
        self.download_artifacts().await
    }

    async fn get_sources(&mut self) -> Result<(), Failure> {
        let payload = Arc::clone(&self.context.payload);
        let variables = self.context.variables.clone();
        let strategy = match Strategy::of(&variables, payload.allow_git_fetch) {
            Ok(strategy) => strategy,
            Err(word) => {
                self.context.trace.warning(format!("GIT_STRATEGY \"{word}\" is unknown; the default is used")).await;
                if payload.allow_git_fetch { Strategy::Fetch } else { Strategy::Clone }
            }
        };
        let stop = self.stops.job.clone();
        let info = repository_at(&self.context.config.clone_url, &payload.git_info, &payload.job_info.project_full_path);
        let attempts = self.attempts("GET_SOURCES_ATTEMPTS");
        let mut attempt = 1;
        loop {
            match self.get_sources_once(&info, strategy).await {
                Err(error) if attempt < attempts && !stop.is_cancelled() => self.wait_before_retry(&error, attempt).await,
                result => return Ok(result?),
            }
            attempt += 1;
        }
    }

    async fn get_sources_once(&mut self, info: &GitInfo, strategy: Strategy) -> Result<(), ExecuteError> {
        self.before_sources(strategy).await?;
        if let Executor::Custom(_) = self.executor {
            self.get_sources_remotely(info, strategy).await?;
        } else {
            let (variables, trace, stop) = (self.context.variables.clone(), self.context.trace.clone(), self.stops.job.clone());
            let (directory, config) = (PathBuf::from(&self.context.directories.project), Arc::clone(&self.context.config));
            let program = config.docker.helper_binary.as_path();
            let (tls, trace, stop) = (&config.tls, &trace, &stop);
            let checkout = Checkout { info, variables: &variables, strategy, directory: &directory, program, tls, trace, stop };
            self.executor.get_sources(&self.context, checkout, stop).await?;
        }
        self.behind_sources(strategy).await
    }

    /// Reads a number of attempts, one to ten.
    fn attempts(&self, key: &str) -> u32 {
        self.context.variables.text(key).parse().unwrap_or(1).clamp(1, 10)
    }

    async fn wait_before_retry(&self, error: &ExecuteError, attempt: u32) {
        let delay = match feature_flag::EXPONENTIAL_BACKOFF.is_on(&self.context.variables) {
            true => Duration::from_secs(5 << (attempt - 1).min(6)).min(RETRY_DELAY_MAX),
            false => Duration::from_secs(u64::from(attempt.min(5))),
        };
        self.context.trace.warning(format!("{}; retrying in {}", outcome::chain(error), outcome::go_duration(delay))).await;
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.stops.job.cancelled() => {}
        }
    }

    async fn scripts(&mut self) -> Result<(), Failure> {
        let payload = Arc::clone(&self.context.payload);
        self.stops.scripts_start();
        let limit = self.own_limit("RUNNER_SCRIPT_TIMEOUT").await;
        let stop = self.stops.script.clone();
        let (result, timed_out) = within(limit, &stop, self.steps(&payload.steps)).await;
        if timed_out && let Some(limit) = limit {
            self.stops.set_reason(StopReason::ScriptTimeout(limit));
        }
        self.stops.scripts_end();
        let after_script = payload.steps.iter().find(|step| step.name == "after_script" && !step.script.is_empty());
        match after_script {
            Some(step) if !self.stops.job.is_cancelled() => self.after_script(step, result).await,
            _ => result,
        }
    }

    async fn steps(&mut self, steps: &[Step]) -> Result<(), Failure> {
        let stop = self.stops.script.clone();
        for step in steps.iter().filter(|step| step.name != "after_script" && !step.script.is_empty()) {
            let phase = Phase::Step(step.name.clone());
            self.start(&phase).await;
            let script = self.script(ScriptKind::Step, &with_build_scripts(&self.context.config, &step.script));
            let result = self.executor.run_script(&self.context, &phase, script, &stop).await;
            self.end(&phase).await;
            result?;
        }
        Ok(())
    }

    async fn after_script(&mut self, step: &Step, result: Result<(), Failure>) -> Result<(), Failure> {
        let status = match (&result, self.stops.reason()) {
            (Ok(()), _) => "success",
            (_, Some(StopReason::Canceled)) => "canceled",
            (_, Some(StopReason::ScriptTimeout(_))) => "timedout",
            _ => "failed",
        };
        self.context.variables.set(public("CI_JOB_STATUS", status));
        if status == "canceled" {
            self.context.trace.warning("script canceled externally (UI, API)").await;
        }
        let limit = self.own_limit("RUNNER_AFTER_SCRIPT_TIMEOUT").await.unwrap_or(DEFAULT_AFTER_SCRIPT_TIMEOUT);
        let stop = self.stops.job.child_token();
        self.start(&Phase::AfterScript).await;
        let script = self.script(ScriptKind::AfterScript, &step.script);
        let run = self.executor.run_script(&self.context, &Phase::AfterScript, script, &stop);
        let (after, timed_out) = within(Some(limit), &stop, run).await;
        self.end(&Phase::AfterScript).await;
        if timed_out {
            let text = "after_script could not run to completion because the timeout was exceeded. For more control over job and script \
                        timeouts see: https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts";
            self.context.trace.warning(text).await;
        }
        let Err(error) = after else { return result };
        if self.context.variables.is_true("AFTER_SCRIPT_IGNORE_ERRORS") == Some(false) {
            return result.and(Err(error.into()));
        }
        if !timed_out {
            let text = format!("after_script failed, but job will continue unaffected: {}", outcome::chain(&error));
            self.context.trace.warning(text).await;
        }
        result
    }

    /// Reads a limit for scripts; zero and nonsense are none.
    async fn own_limit(&self, key: &str) -> Option<Duration> {
        let text = self.context.variables.text(key);
        if text.is_empty() {
            return None;
        }
        match outcome::parse_go_duration(text) {
            Some(limit) => Some(limit).filter(|limit| !limit.is_zero()),
            None => {
                self.context.trace.warning(format!("Ignoring malformed {key} timeout: {text}")).await;
                None
            }
        }
    }

    fn script(&self, kind: ScriptKind, commands: &[String]) -> String {
        user_script(self.script_context(), kind, commands)
    }

    fn script_context(&self) -> ScriptContext<'_> {
        let directories = &self.context.directories;
        ScriptContext { variables: &self.context.variables, project_dir: &directories.project, temp_dir: &directories.temp }
    }

    async fn clean_up_file_variables(&mut self) {
        self.start(&Phase::CleanupFileVariables).await;
        if let Err(failure) = self.remove_temporary_files().await {
            self.context.trace.warning(failure.message()).await;
        }
        self.end(&Phase::CleanupFileVariables).await;
    }

    /// The files of a docker job go with its volume.
    async fn remove_temporary_files(&mut self) -> Result<(), Failure> {
        match self.executor {
            Executor::Shell(_) => {}
            Executor::Docker(_) => return Ok(()),
            Executor::Custom(_) => return self.remove_temporary_files_remotely().await,
        }
        let request = HelperRequest::Remove { paths: vec![self.context.directories.temp.clone().into()] };
        Ok(self.executor.run_helper(&self.context, request, HelperFiles::default(), &self.stops.job).await?)
    }

    /// What to change when the job could not reach Docker.
    async fn hint(&self, result: &Result<(), Failure>) -> Option<hint::Hint> {
        if !matches!(result, Err(Failure::Execute(ExecuteError::Exit { .. }))) {
            return None;
        }
        let setup = setup::docker_setup(&self.context, self.executor.own_docker_endpoint());
        hint::explain(&setup, &self.context.trace.observations().await)
    }
}
