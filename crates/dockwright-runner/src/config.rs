//! What a runner was told to do, decided: no defaults are looked up and no environment is read after this.
//!
//! Below are the ways to it from a `config.toml`: its text is read against the table of all keys (`schema`, `check`), what has an effect
//! is typed (`file`) and decided (`decide`). `encode` and `edit` write, `store` keeps the file on disk.

mod check;
pub(crate) mod container_settings;
mod custom;
pub(crate) mod decide;
mod duration;
mod edit;
mod encode;
pub mod file;
mod problem;
pub(crate) mod restrictions;
pub mod schema;
mod store;
pub mod system_id;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use dockwright_job::Variable;

use crate::api::TlsFiles;

pub use self::{
    check::UsedKey,
    container_settings::{ContainerSettings, Device, Limits, Ulimit},
    custom::{CustomConfig, CustomProgram, CustomTable},
    decide::{DecideError, Surroundings},
    duration::GoDuration,
    edit::{EditConfigError, append_runner, remove_runners, set_runner_values},
    encode::SKELETON,
    problem::{Problem, Severity},
    restrictions::Restrictions,
    store::{ConfigStore, LockedConfig, StoreError},
};

/// Settings of one runner.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// Second line of every trace.
    pub name: String,
    /// First characters of the runner's token: part of directory, container and network names.
    pub short_token: String,
    /// Identifies this process to the coordinator, `s_…` or `r_…`.
    pub system_id: String,
    /// Version and revision printed at the head of every trace.
    pub version: String,
    pub revision: String,
    /// Where jobs are checked out. Created when missing.
    pub builds_dir: PathBuf,
    /// For files that do not outlive a job, nor the next start of the runner: this runner's alone, and emptied when it starts.
    pub scratch_dir: PathBuf,
    /// Where `cache:` archives are kept. Created when missing.
    pub cache_dir: PathBuf,
    /// Weaker than the job's own variables; reaches services too.
    pub environment: Vec<Variable>,
    /// Feature flags by name; they win over variables of the job.
    pub feature_flags: BTreeMap<String, bool>,
    /// Commands before and after those of every step but `after_script`, in the same shell. Empty for none.
    pub pre_build_script: String,
    pub post_build_script: String,
    /// Commands before and after the sources are got. Empty for none.
    pub pre_get_sources_script: String,
    pub post_get_sources_script: String,
    /// Address of the server that sources come from, where it is not the one that the job names. Empty for that.
    pub clone_url: String,
    /// How sources are got over TLS.
    pub tls: TlsFiles,
    /// Each line of a trace begins with the time and its stream, as GitLab's viewer expects since 17.
    pub timestamps: bool,
    /// A trace is cut after so many bytes; the job goes on.
    pub output_limit_bytes: u64,
    /// How long output may wait before it is sent to the coordinator.
    pub trace_interval: Duration,
    /// How long a script has between SIGTERM and SIGKILL.
    pub grace_period: Duration,
    pub executor: ExecutorChoice,
    pub shell: ShellConfig,
    pub docker: DockerConfig,
    /// Set where `executor` is [`ExecutorChoice::Custom`].
    pub custom: Option<Arc<CustomConfig>>,
}

impl RunnerConfig {
    /// Settings for a runner inside this process, as `dockwright run` wants them.
    pub fn local(builds_dir: PathBuf, cache_dir: PathBuf, helper_binary: PathBuf) -> Self {
        Self {
            name: "local".to_owned(),
            short_token: "local".to_owned(),
            system_id: "s_local".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: "local".to_owned(),
            scratch_dir: builds_dir.join("scratch"),
            builds_dir,
            cache_dir,
            environment: Vec::new(),
            feature_flags: BTreeMap::new(),
            pre_build_script: String::new(),
            post_build_script: String::new(),
            pre_get_sources_script: String::new(),
            post_get_sources_script: String::new(),
            clone_url: String::new(),
            tls: TlsFiles::default(),
            timestamps: false,
            output_limit_bytes: 64 * 1024 * 1024,
            trace_interval: Duration::from_millis(50),
            grace_period: Duration::from_secs(10),
            executor: ExecutorChoice::ByImage,
            shell: ShellConfig { with_engine: true },
            docker: DockerConfig {
                default_image: None,
                volumes: vec!["/cache".to_owned()],
                job_engine_socket: true,
                dind_certificates: true,
                pull_policies: vec![PullPolicy::IfNotPresent],
                privileged: false,
                services_privileged: false,
                user: None,
                restrictions: Restrictions::default(),
                keep_cache_volumes: true,
                containers: ContainerSettings::default(),
                wait_for_services: Duration::from_secs(30),
                helper_binary,
            },
            custom: None,
        }
    }
}

/// Where jobs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorChoice {
    /// Jobs with an image in containers, others in the shell.
    ByImage,
    /// All in the shell; `image` and `services` have no effect.
    Shell,
    /// All in containers.
    Docker,
    /// All through the programs of [`CustomConfig`].
    Custom,
}

/// Settings for jobs without an image.
#[derive(Debug, Clone)]
pub struct ShellConfig {
    /// Give every job an engine of its own and set `DOCKER_HOST` to it, unless the job sets that itself.
    pub with_engine: bool,
}

/// Settings for jobs with an image.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// For jobs that name no image. `None` sends them to the shell.
    pub default_image: Option<String>,
    /// `/path` keeps a volume there, `source:/path[:mode]` binds; every container of a job gets all of them.
    pub volumes: Vec<String>,
    /// Bind the engine's socket into job containers where the engine serves that job alone and no dind service stands in its place.
    pub job_engine_socket: bool,
    /// Share the client certificates of a dind service with the job without `/certs/client` being configured.
    pub dind_certificates: bool,
    /// Tried in order; none means always. A job's own `pull_policy` replaces it.
    pub pull_policies: Vec<PullPolicy>,
    /// Job and helper containers are privileged, as far as `restrictions` say so.
    pub privileged: bool,
    /// The same for service containers.
    pub services_privileged: bool,
    /// Whom scripts run as, whatever the job says.
    pub user: Option<String>,
    /// What jobs may ask for.
    pub restrictions: Restrictions,
    /// Volumes without a source outlive the job, for the next one of its project.
    pub keep_cache_volumes: bool,
    pub containers: ContainerSettings,
    /// How long to wait for a service's port. Zero does not wait.
    pub wait_for_services: Duration,
    /// This program, linked statically: it is put into the helper image, which runs it as `dockwright internal helper`. Shell jobs
    /// use it, too, for the process that keeps theirs.
    pub helper_binary: PathBuf,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The word used in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::IfNotPresent => "if-not-present",
            Self::Never => "never",
        }
    }

    /// Reads the word used in configuration.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Always, Self::IfNotPresent, Self::Never].into_iter().find(|policy| policy.as_str() == text)
    }
}

#[cfg(test)]
mod tests;
