//! From an entry of the file to a runner that takes jobs: its server, its engines, its directories.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dockwright_runner::{
    EngineProvider, FixedEndpoint,
    api::{Client, ExecutorKind, HealthLimits, HttpCoordinator, RunnerIdentity, details},
    config::{
        ExecutorChoice, RegistryLogins, Surroundings,
        file::{DockerTable, RunnerEntry},
    },
    manager::ManagedRunner,
};
use tokio::sync::mpsc;

use crate::{
    command::runner::{config_file::RunnerConfigFile, server},
    environment,
    error::{CommandError, ErrorKind, Explain as _},
    paths::absolute,
    report::RunEvent,
    settings::GlobalSettings,
    wire::{BuildsDirectory, EmbeddedEngines, HostProcess, HostSettings},
};

/// Events of the engine host that may wait to be logged.
const EVENT_QUEUE: usize = 64;

/// What all runners of the process share.
pub(in crate::command::runner) struct Runners {
    surroundings: Surroundings,
    host: Arc<HostProcess>,
    engines: Arc<dyn EngineProvider>,
    /// For files of this process alone.
    scratch: BuildsDirectory,
    made: usize,
}

impl Runners {
    pub(in crate::command::runner) fn prepare(
        settings: &GlobalSettings,
        file: &RunnerConfigFile,
        working_directory: Option<&Path>,
    ) -> Result<Self, CommandError> {
        let program = std::env::current_exe().explain(ErrorKind::Environment, || "find this program".to_owned())?;
        let scratch = BuildsDirectory::take(&settings.paths.builds())
            .explain(ErrorKind::Environment, || format!("take a directory below `{}`", settings.paths.builds().display()))?;
        let (events, received) = mpsc::channel(EVENT_QUEUE);
        tokio::spawn(log_events(received));
        let host_settings = HostSettings { program: program.clone(), home: settings.paths.home.clone(), log: settings.log.clone() };
        let host = Arc::new(HostProcess::new(host_settings, events));
        let engines = Arc::new(EmbeddedEngines::new(Arc::clone(&host), None, scratch.sockets().to_owned()));
        let surroundings = Surroundings {
            system_id: file.system_id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: "dockwright".to_owned(),
            working_directory: absolute(working_directory.unwrap_or(Path::new("."))),
            helper_binary: program,
            logins: logins(),
        };
        Ok(Self { surroundings, host, engines, scratch, made: 0 })
    }

    /// Makes the runner of an entry.
    pub(in crate::command::runner) fn make(&mut self, entry: RunnerEntry, file: &RunnerConfigFile) -> Result<ManagedRunner, CommandError> {
        self.made += 1;
        let scratch = self.scratch.path().join(format!("runner-{}", self.made));
        let mut config =
            entry.decide(&self.surroundings, scratch.clone()).map_err(|error| CommandError::new(ErrorKind::Configuration, error))?;
        let client = Client::new(server::settings(&entry, &file.certificates()));
        let client = client.map_err(|error| CommandError::new(ErrorKind::Configuration, error))?;
        let kind = match config.executor {
            ExecutorChoice::Shell => ExecutorKind::Shell,
            ExecutorChoice::Custom => ExecutorKind::Custom,
            ExecutorChoice::Docker | ExecutorChoice::ByImage => ExecutorKind::Docker,
        };
        config.tls = client.tls_files();
        let mut identity = RunnerIdentity {
            health: health(&entry),
            trace_interval: config.trace_interval,
            ..RunnerIdentity::new(entry.token.clone(), config.system_id.clone(), details(Some(kind)), spool(&scratch))
        };
        if let Ok(retries @ 1..) = u32::try_from(entry.job_status_final_update_retry_limit) {
            identity.final_retries = retries;
        }
        let coordinator = Arc::new(HttpCoordinator::new(Arc::new(client), identity));
        let engines = self.engines_of(&entry);
        Ok(ManagedRunner { entry, coordinator, engines, config })
    }

    fn engines_of(&self, entry: &RunnerEntry) -> Arc<dyn EngineProvider> {
        match entry.docker.as_ref().filter(|docker| !docker.host.is_empty()) {
            Some(docker) => Arc::new(FixedEndpoint::new(&docker.host).with_certificates(certificates(docker))),
            None => Arc::clone(&self.engines),
        }
    }

    /// Ends the engine host and returns when it is gone.
    pub(in crate::command::runner) async fn end(&self) {
        self.host.stop().await;
    }

    /// Ends the engine host at once.
    pub(in crate::command::runner) fn kill(&self) {
        self.host.kill();
    }
}

/// Where the docker client of this user keeps credentials, and the programs that it leaves them to.
fn logins() -> RegistryLogins {
    let home = environment::absolute_path("HOME");
    let path = environment::read("PATH").unwrap_or_default();
    RegistryLogins {
        files: home.iter().flat_map(|home| [home.join(".docker/config.json"), home.join(".dockercfg")]).collect(),
        helper_directories: std::env::split_paths(&path).collect(),
    }
}

/// Where the certificates of an engine with TLS are; without a path, where the docker client has its own.
fn certificates(docker: &DockerTable) -> Option<PathBuf> {
    match docker.tls_cert_path.as_str() {
        "" if docker.tls_verify => Some(environment::absolute_path("HOME").unwrap_or_default().join(".docker")),
        "" => None,
        path => Some(PathBuf::from(path)),
    }
}

/// Traces on their way are beside the scratch directory, which is emptied at the start.
fn spool(scratch: &Path) -> PathBuf {
    scratch.with_extension("traces")
}

fn health(entry: &RunnerEntry) -> HealthLimits {
    let default = HealthLimits::default();
    HealthLimits {
        requests: u32::try_from(entry.unhealthy_requests_limit).ok().filter(|limit| *limit > 0).unwrap_or(default.requests),
        interval: entry
            .unhealthy_interval
            .map(|interval| interval.0)
            .filter(|interval| *interval > Duration::ZERO)
            .unwrap_or(default.interval),
    }
}

async fn log_events(mut events: mpsc::Receiver<RunEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            RunEvent::Warning { message, .. } => tracing::warn!("{message}"),
            RunEvent::ImagePushed { reference, digest } => tracing::info!(reference, digest, "Image pushed"),
            _ => {}
        }
    }
}
