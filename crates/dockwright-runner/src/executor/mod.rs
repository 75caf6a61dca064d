//! How a job's scripts run: in a shell on this machine, in containers, or where programs of the runner's owner take them.
//!
//! All executors do the same things: prepare a place, run a script in it, clean up. The shell and the docker executor also run helper
//! operations on the job's files; the custom executor only has scripts, so `job_run::remote` writes such operations as scripts for it.
//! What those add up to is decided in `job_run`.

pub(crate) mod custom;
pub(crate) mod docker;
pub(crate) mod shell;

use std::{io, path::PathBuf, sync::Arc};

use dockwright_job::JobPayload;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;

use self::{custom::CustomExecutor, docker::DockerExecutor, shell::ShellExecutor};
use crate::{
    AcquireEngineError, EngineProvider, Phase, RunnerConfig,
    engine_provider::{EngineRequest, RegistryCredentials},
    helper::{HelperError, HelperRequest},
    sources::Checkout,
    trace::{Stream, Trace},
    variables::JobVariables,
};

const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What an executor needs to know of its job.
pub(crate) struct ExecutorContext {
    pub(crate) payload: Arc<JobPayload>,
    pub(crate) config: Arc<RunnerConfig>,
    pub(crate) engines: Arc<dyn EngineProvider>,
    pub(crate) variables: JobVariables,
    pub(crate) directories: Directories,
    /// Smallest free number among the jobs at work.
    pub(crate) slot: usize,
    pub(crate) trace: Trace,
}

impl ExecutorContext {
    pub(crate) fn engine_request(&self, shared_paths: Vec<PathBuf>) -> EngineRequest {
        let registries = self.payload.credentials.iter().filter(|credentials| credentials.kind == "registry");
        EngineRequest {
            job_id: self.payload.id,
            project_path: self.payload.job_info.project_full_path.clone(),
            protected: self.payload.git_info.protected.unwrap_or(false),
            registry_credentials: registries
                .map(|credentials| RegistryCredentials {
                    host: credentials.url.clone(),
                    username: credentials.username.clone(),
                    password: credentials.password.clone(),
                })
                .collect(),
            shared_paths,
        }
    }

    /// Where the file of a file variable is.
    pub(crate) fn file_variable_path(&self, key: &str) -> String {
        self.directories.file_variable_path(key)
    }
}

/// A job's directories, as its scripts see them.
#[derive(Debug, Clone)]
pub(crate) struct Directories {
    pub(crate) builds: String,
    /// The part of it that no other job uses at the same time.
    pub(crate) own: String,
    pub(crate) project: String,
    /// Beside the project directory: file variables and `GITLAB_ENV`.
    pub(crate) temp: String,
}

impl Directories {
    pub(crate) fn new(builds: String, own: String, project: &str) -> Self {
        let project = format!("{own}/{project}");
        Self { builds, own, temp: format!("{project}.tmp"), project }
    }

    pub(crate) fn file_variable_path(&self, key: &str) -> String {
        format!("{}/{key}", self.temp)
    }
}

/// Where a helper operation's data comes from and goes to: files of the runner.
#[derive(Debug, Default)]
pub(crate) struct HelperFiles {
    pub(crate) input: Option<PathBuf>,
    pub(crate) output: Option<PathBuf>,
}

pub(crate) enum Executor {
    Shell(Box<ShellExecutor>),
    Docker(Box<DockerExecutor>),
    Custom(Box<CustomExecutor>),
}

impl Executor {
    /// Makes everything ready for the first script.
    pub(crate) async fn prepare(&mut self, context: &ExecutorContext, stop: &CancellationToken) -> Result<(), ExecuteError> {
        match self {
            Self::Shell(shell) => shell.prepare(context, stop).await,
            Self::Docker(docker) => docker.prepare(context, stop).await,
            Self::Custom(custom) => custom.prepare(context, stop).await,
        }
    }

    /// Name of the machine that scripts run on, for the trace.
    pub(crate) fn host_name(&self, context: &ExecutorContext) -> String {
        match self {
            Self::Shell(_) => runner_host_name(),
            Self::Docker(_) => docker::unique_name(context),
            Self::Custom(custom) => custom.host_name(),
        }
    }

    /// Puts the job's sources into the project directory.
    pub(crate) async fn get_sources(
        &mut self,
        context: &ExecutorContext,
        checkout: Checkout<'_>,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        match self {
            Self::Shell(_) => checkout.run().await,
            Self::Docker(docker) => docker.get_sources(context, checkout, stop).await,
            Self::Custom(_) => Err(ExecuteError::OutOfReach),
        }
    }

    /// Runs a script of a phase in the job's environment and returns when it has ended, or was made to.
    pub(crate) async fn run_script(
        &mut self,
        context: &ExecutorContext,
        phase: &Phase,
        script: String,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        match self {
            Self::Shell(shell) => shell.run_script(context, script, stop).await,
            Self::Docker(docker) => docker.run_script(context, script, stop).await,
            Self::Custom(custom) => custom.run_script(context, phase, &script, stop).await,
        }
    }

    /// Runs one operation on the job's files.
    pub(crate) async fn run_helper(
        &mut self,
        context: &ExecutorContext,
        request: HelperRequest,
        files: HelperFiles,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        match self {
            Self::Shell(_) => shell::run_helper(context, request, files).await,
            Self::Docker(docker) => docker.run_helper(context, &request, files, stop).await,
            Self::Custom(_) => Err(ExecuteError::OutOfReach),
        }
    }

    /// Where the job's scripts find a Docker engine without asking for one.
    pub(crate) fn own_docker_endpoint(&self) -> Option<String> {
        match self {
            Self::Shell(shell) => shell.engine_endpoint(),
            Self::Docker(docker) => docker.binds_socket().then(|| "unix:///var/run/docker.sock".to_owned()),
            Self::Custom(_) => None,
        }
    }

    /// Removes all that `prepare` made, as far as it came.
    pub(crate) async fn clean_up(self, context: &ExecutorContext) {
        match self {
            Self::Shell(shell) => shell.clean_up(context).await,
            Self::Docker(docker) => docker.clean_up(context).await,
            Self::Custom(custom) => custom.clean_up(context).await,
        }
    }
}

/// Returns the name of this machine.
pub(crate) fn runner_host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Copies a process's output to the trace until its end.
pub(crate) async fn pump(mut output: impl AsyncRead + Unpin, trace: &Trace, stream: Stream) -> io::Result<()> {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        let length = output.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        trace.write(stream, bytes::Bytes::copy_from_slice(&buffer[..length])).await;
    }
}

/// What kind of obstacle a pull met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullFailure {
    /// The registry could not be reached.
    Unreachable,
    /// There is no such image, or not for us.
    Refused,
    Other,
}

/// A step of a job that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// A script ended with an error of its own.
    #[error("{text}")]
    Exit { code: i32, text: String },
    /// The step was told to stop, and did.
    #[error("stopped")]
    Stopped,
    #[error("no Docker image specified to run the build in")]
    NoImage,
    #[error("invalid {what} image name `{name}`")]
    ImageName { what: &'static str, name: String },
    /// The trace says which, and what is allowed.
    #[error("disallowed image")]
    DisallowedImage,
    #[error("user {user:?} is not an allowed user: [{allowed}]")]
    DisallowedUser { user: String, allowed: String },
    #[error("volume `{volume}`: {problem}")]
    Volume { volume: String, problem: &'static str },
    #[error("pull_policy `{policy}` of image `{image}` is unknown; there are always, if-not-present and never")]
    PullPolicy { image: String, policy: String },
    #[error(
        "invalid pull policy for image \"{image}\": pull_policy ([{wanted}]) defined in {origin} is not one of the allowed_pull_policies \
         ([{allowed}])"
    )]
    DisallowedPullPolicy { image: String, wanted: String, origin: &'static str, allowed: String },
    #[error("{variable} cannot be `{value}`")]
    GitStrategy { variable: &'static str, value: String },
    #[error("the Docker endpoint `{endpoint}` is of no known kind; it must begin with unix:// or tcp://")]
    Endpoint { endpoint: String },
    #[error("get a container engine for the job")]
    AcquireEngine(#[source] AcquireEngineError),
    #[error("failed to pull image \"{image}\" with specified policies [{policies}]: {reason}")]
    PullImage { image: String, policies: String, reason: String, failure: PullFailure },
    #[error("{action}")]
    Engine {
        action: String,
        #[source]
        source: bollard::errors::Error,
    },
    #[error("{action}: {reason}")]
    InvalidContainer { action: String, reason: String },
    #[error("{action} `{path}`")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`git {subcommand}` failed ({status})")]
    Git { subcommand: String, status: String },
    /// A program of a custom executor failed by itself.
    #[error("{program} {problem}")]
    Driver { program: &'static str, problem: String },
    #[error("the custom executor has no `{key}`: set it in config.toml, or let config_exec name it")]
    NoDirectory { key: &'static str },
    #[error("the runner does not reach the files of a custom executor's job")]
    OutOfReach,
    #[error("the keeper of the job's processes does not answer")]
    Keeper(#[source] io::Error),
    #[error("handle the job's files: {reason}")]
    Helper { reason: String },
}

impl ExecuteError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn engine(action: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> Self {
        let action = action.into();
        move |source| Self::Engine { action, source }
    }
}

impl From<HelperError> for ExecuteError {
    fn from(error: HelperError) -> Self {
        Self::Helper { reason: crate::outcome::chain(&error) }
    }
}
