//! From what an entry of the file says to what its runner does.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dockwright_job::Variable;

use crate::api::TlsFiles;

use super::{
    ContainerSettings, CustomConfig, DockerConfig, ExecutorChoice, PullPolicy, Restrictions, RunnerConfig, ShellConfig,
    file::{DockerTable, RunnerEntry},
    schema::ExecutorName,
};

/// What GitLab Runner takes where an entry says nothing.
const DEFAULT_OUTPUT_LIMIT_KIB: u64 = 4096;
const DEFAULT_SERVICE_WAIT_SECS: u64 = 30;
const TRACE_INTERVAL_SECS: u64 = 3;
const GRACE_PERIOD_SECS: u64 = 10;
const KIB: u64 = 1024;

/// What the process knows and the file does not say.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub system_id: String,
    pub version: String,
    pub revision: String,
    /// Where jobs are when `builds_dir` and `cache_dir` are not set.
    pub working_directory: PathBuf,
    pub helper_binary: PathBuf,
}

/// An entry that no runner can be made of.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecideError {
    #[error("there is no executor `{0}` in this version")]
    Executor(String),
    #[error("the docker executor has no default image")]
    NoImage,
    #[error("the custom executor has no `run_exec` in `[runners.custom]`")]
    NoRunProgram,
    #[error("{key} cannot be {value:?}: {expected}")]
    Value { key: &'static str, value: String, expected: &'static str },
    #[error("read the seccomp profile `{path}`: {reason}")]
    Seccomp { path: String, reason: String },
}

impl RunnerEntry {
    /// Decides what the runner of this entry does. `scratch_dir` is this entry's alone.
    pub fn decide(&self, surroundings: &Surroundings, scratch_dir: PathBuf) -> Result<RunnerConfig, DecideError> {
        let executor = self.executor_choice()?;
        let docker = self.docker.clone().unwrap_or_default();
        if executor == ExecutorChoice::Docker && docker.image.is_empty() {
            return Err(DecideError::NoImage);
        }
        Ok(RunnerConfig {
            name: self.name.clone(),
            short_token: self.token.short().to_owned(),
            system_id: surroundings.system_id.clone(),
            version: surroundings.version.clone(),
            revision: surroundings.revision.clone(),
            builds_dir: or_default(&self.builds_dir, executor, &surroundings.working_directory, "builds"),
            scratch_dir,
            cache_dir: or_default(&self.cache_dir, ExecutorChoice::Shell, &surroundings.working_directory, "cache"),
            environment: self.environment.iter().filter_map(|pair| variable(pair)).collect(),
            feature_flags: self.feature_flags.clone(),
            pre_build_script: self.pre_build_script.clone(),
            post_build_script: self.post_build_script.clone(),
            pre_get_sources_script: self.pre_get_sources_script.clone(),
            post_get_sources_script: self.post_get_sources_script.clone(),
            clone_url: self.clone_url.clone(),
            tls: self.tls_files(),
            timestamps: true,
            output_limit_bytes: positive(self.output_limit).unwrap_or(DEFAULT_OUTPUT_LIMIT_KIB).saturating_mul(KIB),
            trace_interval: Duration::from_secs(TRACE_INTERVAL_SECS),
            grace_period: Duration::from_secs(GRACE_PERIOD_SECS),
            executor,
            shell: ShellConfig { with_engine: true },
            docker: docker_config(&docker, surroundings.helper_binary.clone())?,
            custom: match executor {
                ExecutorChoice::Custom => Some(Arc::new(CustomConfig::decide(self)?)),
                _ => None,
            },
        })
    }

    /// Returns the files that the entry names for its server.
    pub fn tls_files(&self) -> TlsFiles {
        let file = |path: &str| not_empty(path).map(PathBuf::from);
        TlsFiles { ca_file: file(&self.tls_ca_file), cert_file: file(&self.tls_cert_file), key_file: file(&self.tls_key_file) }
    }

    fn executor_choice(&self) -> Result<ExecutorChoice, DecideError> {
        match ExecutorName::find(&self.executor) {
            Some(executor) if executor.runs && executor.is_docker() => Ok(ExecutorChoice::Docker),
            Some(executor) if executor.runs && executor.name == "custom" => Ok(ExecutorChoice::Custom),
            Some(executor) if executor.runs => Ok(ExecutorChoice::Shell),
            _ => Err(DecideError::Executor(self.executor.clone())),
        }
    }
}

fn docker_config(docker: &DockerTable, helper_binary: PathBuf) -> Result<DockerConfig, DecideError> {
    Ok(DockerConfig {
        default_image: not_empty(&docker.image),
        volumes: docker.volumes.clone(),
        job_engine_socket: true,
        dind_certificates: true,
        pull_policies: policies("pull_policy", &docker.pull_policy)?,
        privileged: docker.privileged,
        services_privileged: docker.services_privileged.unwrap_or(docker.privileged),
        user: not_empty(&docker.user),
        restrictions: restrictions(docker)?,
        keep_cache_volumes: !docker.disable_cache,
        containers: ContainerSettings::decide(docker)?,
        wait_for_services: match docker.wait_for_services_timeout {
            ..0 => Duration::ZERO,
            secs => Duration::from_secs(positive(secs).unwrap_or(DEFAULT_SERVICE_WAIT_SECS)),
        },
        helper_binary,
    })
}

/// Without lists of their own, jobs may use the runner's user and pull policies only.
fn restrictions(docker: &DockerTable) -> Result<Restrictions, DecideError> {
    let of_runner = if docker.pull_policy.is_empty() { vec![PullPolicy::Always] } else { policies("pull_policy", &docker.pull_policy)? };
    let allowed = policies("allowed_pull_policies", &docker.allowed_pull_policies)?;
    Ok(Restrictions {
        images: docker.allowed_images.clone(),
        services: docker.allowed_services.clone(),
        privileged_images: docker.allowed_privileged_images.clone(),
        privileged_services: docker.allowed_privileged_services.clone(),
        users: match docker.allowed_users.is_empty() {
            true => not_empty(&docker.user).into_iter().collect(),
            false => docker.allowed_users.clone(),
        },
        pull_policies: if allowed.is_empty() { of_runner } else { allowed },
        keep_entrypoints: docker.disable_entrypoint_overwrite,
    })
}

fn policies(key: &'static str, words: &[String]) -> Result<Vec<PullPolicy>, DecideError> {
    let expected = "there are always, if-not-present and never";
    let policy = |word: &String| PullPolicy::parse(word).ok_or_else(|| DecideError::Value { key, value: word.clone(), expected });
    words.iter().map(policy).collect()
}

pub(super) fn not_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// In containers, `builds_dir` is a path of theirs; what the runner itself keeps is in its working directory.
fn or_default(configured: &str, executor: ExecutorChoice, working_directory: &Path, name: &str) -> PathBuf {
    if configured.is_empty() || executor == ExecutorChoice::Docker {
        working_directory.join(name)
    } else {
        working_directory.join(configured)
    }
}

/// GitLab Runner takes a number that is not positive for one that is not set.
pub(crate) fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

fn variable(pair: &str) -> Option<Variable> {
    let (key, value) = pair.split_once('=')?;
    Some(Variable { key: key.to_owned(), value: value.to_owned(), ..Variable::default() })
}
