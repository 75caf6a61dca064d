//! `dockwright run`: a coordinator and a runner in one process, an engine host beside it.
//!
//! ```text
//! LoadedPipeline ──► PipelineRun ◄── LocalCoordinator ◄── Runner ──► EngineProvider ──► HostProcess ═══ internal engine-host
//!                        └── JobEvent ──► translate ──► RunEvent ──► report      ▲
//!                                                                    image pushed ┘
//! ```

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use dockwright_coordinator::{
    ChildIncludes, PipelineRun, PipelineStatus, RegistryFacts, RunDirectory, RunOptions, StartedRun, Undelayed, undelay,
};
use dockwright_runner::{EngineProvider, Runner, RunnerConfig, config::PullPolicy as RunnerPullPolicy};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    AbsentEngine, BuildsDirectory, EmbeddedEngines, ForeignEngine, HostProcess, HostSettings, JobNames, LoadedPipeline, LocalCoordinator,
    Signal, Stop, WebClient,
    control::{Answer, Request},
    host_setup::REGISTRY_NAME,
    project::include_options,
    select_jobs, translate,
};
use crate::{
    cli::{Delayed, PullPolicy},
    error::{CommandError, ErrorKind, Explain as _},
    report::{self, RunEvent},
    settings::{EngineChoice, GlobalSettings, RunSettings},
};

/// How long a run may take to end after the second signal.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct RunEnd {
    pub(crate) status: PipelineStatus,
    /// Somebody asked for the end.
    pub(crate) signal: Option<Signal>,
}

/// Runs a pipeline to its end.
pub(crate) async fn run_pipeline(
    settings: &RunSettings,
    global: &GlobalSettings,
    events: mpsc::Sender<RunEvent>,
) -> Result<RunEnd, CommandError> {
    let began = Instant::now();
    let mut stop = Stop::listen().explain(ErrorKind::Environment, || "wait for signals".to_owned())?;
    let program = std::env::current_exe().explain(ErrorKind::Environment, || "find this program".to_owned())?;
    let host_settings = HostSettings { program: program.clone(), home: global.paths.home.clone(), log: global.log.clone() };
    let host = Arc::new(HostProcess::new(host_settings, events.clone()));
    let registry = registry(settings, &host, &events).await;
    let started = start(settings, global, registry.as_ref(), &events).await?;
    let StartedRun { run, events: job_events, result } = started;
    let names = JobNames::default();
    let translation = tokio::spawn(translate(job_events, run.clone(), names.clone(), events.clone()));
    let builds = BuildsDirectory::take(&global.paths.builds())
        .explain(ErrorKind::Environment, || format!("take a directory below `{}`", global.paths.builds().display()))?;
    let runner = Runner {
        coordinator: Arc::new(LocalCoordinator::new(run.clone(), names, settings.keep_artifacts.clone())),
        engines: engines(settings, &host, registry.as_ref(), &builds),
        config: Arc::new(runner_config(settings, global, &builds, program)),
        events: None,
    };
    let work = work(&runner, settings.concurrency);
    let signal = until_done(work, &run, &host, &mut stop, &events).await?;
    host.stop().await;
    let status = match result.await {
        Ok(result) => result.status,
        Err(error) => return Err(CommandError::new(ErrorKind::Internal, error)),
    };
    // Held by the runner and here; the translation ends with the run's last event.
    drop((runner, run));
    let _ = translation.await;
    let _ = events.send(RunEvent::PipelineFinished { status: report_status(status), duration: began.elapsed() }).await;
    Ok(RunEnd { status, signal })
}

/// Loads the pipeline, says what is wrong with it, and begins the run.
async fn start(
    settings: &RunSettings,
    global: &GlobalSettings,
    registry: Option<&RegistryFacts>,
    events: &mpsc::Sender<RunEvent>,
) -> Result<StartedRun, CommandError> {
    let state = global.paths.pipelines();
    let directory = RunDirectory::create(&state)
        .explain(ErrorKind::Environment, || format!("make a place for the pipeline's files in `{}`", state.display()))?;
    let loaded = LoadedPipeline::load(&settings.project, global, registry, &directory.sources())?;
    loaded.report_problems()?;
    let LoadedPipeline { project, trigger, config, pipeline, is_empty, .. } = loaded;
    if is_empty {
        let kind = if project.is_tag { "tag" } else { "branch" };
        let message = format!("no job of the pipeline runs for {kind} `{}` and event `{}`", project.ref_name, trigger.source);
        return Err(CommandError::new(ErrorKind::NothingToRun, anyhow::Error::msg(message))
            .hint("`dockwright list` shows which jobs are left out; --event, --ref, --tag and --variable change what rules see"));
    }
    let mut pipeline = select_jobs(pipeline, &config, &settings.jobs)?;
    match settings.delayed {
        Delayed::Wait => {}
        Delayed::Now => undelay(&mut pipeline, Undelayed::Start),
        Delayed::Skip => undelay(&mut pipeline, Undelayed::Skip),
    }
    let announcement = RunEvent::PipelineStarted {
        pipeline: directory.pipeline_id(),
        project: project.remote.path.clone(),
        ref_name: project.ref_name.clone(),
        sha: project.sha.clone(),
        jobs: pipeline.jobs.iter().map(|job| job.name.clone()).collect(),
    };
    let _ = events.send(announcement).await;
    let includes = ChildIncludes { options: include_options(&settings.project, global), web: Box::new(WebClient) };
    let options = RunOptions { project, pipeline, trigger, registry: registry.cloned(), directory, includes };
    PipelineRun::start(options).explain(ErrorKind::Environment, || "start the pipeline".to_owned())
}

/// Returns what `CI_REGISTRY` is. A Docker that somebody else runs needs an address of this machine, so the host must be up to tell.
async fn registry(settings: &RunSettings, host: &HostProcess, events: &mpsc::Sender<RunEvent>) -> Option<RegistryFacts> {
    match settings.engine {
        EngineChoice::Embedded => Some(RegistryFacts { host: REGISTRY_NAME.to_owned() }),
        EngineChoice::Absent => None,
        EngineChoice::Foreign(_) => match host.call(Request::ListenRegistry).await {
            Ok(Answer::Registry { address }) => Some(RegistryFacts { host: address }),
            Ok(answer) => {
                tracing::error!(?answer, "an answer that was not asked for");
                None
            }
            Err(error) => {
                let message = format!("jobs get no registry: {error}");
                let _ = events.send(RunEvent::Warning { message, hint: error.remedy() }).await;
                None
            }
        },
    }
}

fn engines(
    settings: &RunSettings,
    host: &Arc<HostProcess>,
    registry: Option<&RegistryFacts>,
    builds: &BuildsDirectory,
) -> Arc<dyn EngineProvider> {
    let registry = registry.map(|registry| registry.host.clone());
    match &settings.engine {
        EngineChoice::Embedded => Arc::new(EmbeddedEngines::new(Arc::clone(host), registry, builds.sockets().to_owned())),
        EngineChoice::Foreign(endpoint) => Arc::new(ForeignEngine::new(endpoint.clone(), Arc::clone(host), registry)),
        EngineChoice::Absent => Arc::new(AbsentEngine),
    }
}

fn runner_config(settings: &RunSettings, global: &GlobalSettings, builds: &BuildsDirectory, program: PathBuf) -> RunnerConfig {
    let mut config = RunnerConfig::local(builds.path().to_owned(), global.paths.job_caches(), program);
    config.shell.with_engine = settings.engine != EngineChoice::Absent;
    config.docker.pull_policies = vec![match settings.pull {
        PullPolicy::Always => RunnerPullPolicy::Always,
        PullPolicy::IfNotPresent => RunnerPullPolicy::IfNotPresent,
        PullPolicy::Never => RunnerPullPolicy::Never,
    }];
    config
}

async fn work(runner: &Runner, concurrency: usize) -> Result<(), CommandError> {
    let slots = NonZeroUsize::new(concurrency).unwrap_or(NonZeroUsize::MIN);
    let done = runner.run_jobs(slots, CancellationToken::new()).await;
    done.explain(ErrorKind::Internal, || "take jobs from the pipeline".to_owned())
}

/// Waits for the end of the work. The first signal cancels what runs, in order; the second ends it at once.
async fn until_done(
    work: impl Future<Output = Result<(), CommandError>>,
    run: &PipelineRun,
    host: &HostProcess,
    stop: &mut Stop,
    events: &mpsc::Sender<RunEvent>,
) -> Result<Option<Signal>, CommandError> {
    let mut work = std::pin::pin!(work);
    let say =
        |message: &str, hint: Option<&str>| events.send(RunEvent::Warning { message: message.to_owned(), hint: hint.map(str::to_owned) });
    let first = tokio::select! {
        done = &mut work => return done.map(|()| None),
        signal = stop.wait() => signal,
    };
    let _ = say("canceling: jobs and their containers are being stopped", Some("once more ends them at once")).await;
    run.cancel();
    tokio::select! {
        done = &mut work => return done.map(|()| Some(first)),
        _ = stop.wait() => {}
    }
    let _ = say("killing what still runs", None).await;
    run.abort();
    host.kill();
    // Whoever does not end now is left to the kernel: everything dies with this process and the host.
    let _ = tokio::time::timeout(KILL_TIMEOUT, work).await;
    Ok(Some(first))
}

fn report_status(status: PipelineStatus) -> report::PipelineStatus {
    match status {
        PipelineStatus::Success | PipelineStatus::Skipped => report::PipelineStatus::Success,
        PipelineStatus::Canceled => report::PipelineStatus::Canceled,
        PipelineStatus::Manual => report::PipelineStatus::Blocked,
        PipelineStatus::Failed | PipelineStatus::Created | PipelineStatus::Pending | PipelineStatus::Running => {
            report::PipelineStatus::Failed
        }
    }
}
