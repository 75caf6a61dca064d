//! What a job finds around it: its executor, directories and variables.

use std::sync::Arc;

use dockwright_job::JobPayload;

use crate::{
    RunnerConfig,
    config::ExecutorChoice,
    executor::{
        Directories, Executor, ExecutorContext,
        custom::{CustomExecutor, Place},
        docker::{
            DockerExecutor,
            image_name::{ServiceName, is_dind, is_docker_client},
            job_image,
        },
        shell::ShellExecutor,
    },
    hint::{DockerSetup, ServiceSetup},
    sources::{Strategy, project_slug},
    variables::{JobVariables, public},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExecutorKind {
    Shell,
    Docker,
    Custom,
}

impl ExecutorKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Docker => "docker",
            Self::Custom => "custom",
        }
    }
}

/// Returns an executor that has not prepared anything.
pub(super) fn executor(config: &RunnerConfig, payload: &JobPayload) -> Executor {
    match (executor_kind(config, payload), &config.custom) {
        (ExecutorKind::Custom, Some(custom)) => Executor::Custom(Box::new(CustomExecutor::new(Arc::clone(custom)))),
        (ExecutorKind::Docker, _) => Executor::Docker(Box::<DockerExecutor>::default()),
        _ => Executor::Shell(Box::<ShellExecutor>::default()),
    }
}

/// Where the runner's settings leave it open, a job with an image runs in containers, one without in a shell.
pub(super) fn executor_kind(config: &RunnerConfig, payload: &JobPayload) -> ExecutorKind {
    match config.executor {
        ExecutorChoice::Docker => ExecutorKind::Docker,
        ExecutorChoice::Shell => ExecutorKind::Shell,
        ExecutorChoice::Custom => ExecutorKind::Custom,
        ExecutorChoice::ByImage if payload.image.is_some() || config.docker.default_image.is_some() => ExecutorKind::Docker,
        ExecutorChoice::ByImage => ExecutorKind::Shell,
    }
}

/// Returns the job's variables, expanded, and its directories. `place` is where a custom executor's job runs, once its driver said so.
pub(super) fn surroundings(
    config: &RunnerConfig,
    payload: &JobPayload,
    kind: ExecutorKind,
    slot: usize,
    place: Option<&Place>,
) -> (JobVariables, Directories) {
    let slug = project_slug(&payload.git_info, &payload.job_info.project_full_path, payload.job_info.project_id);
    let slug = slug.to_string_lossy();
    let plain = JobVariables::new(payload.variables.clone());
    let suffix = match Strategy::of(&plain, payload.allow_git_fetch) {
        Ok(Strategy::Empty) => "-empty",
        _ => "",
    };
    let directories = match kind {
        ExecutorKind::Docker => Directories::new("/builds".to_owned(), "/builds".to_owned(), &format!("{slug}{suffix}")),
        ExecutorKind::Shell => {
            let builds = config.builds_dir.to_string_lossy().into_owned();
            let own = format!("{builds}/{}/{slot}", config.short_token);
            Directories::new(builds, own, &format!("{slug}{suffix}"))
        }
        ExecutorKind::Custom => {
            let configured = config.custom.as_deref().map(Place::configured);
            let (builds, is_shared) = match place.or(configured.as_ref()) {
                Some(place) => (place.builds_dir.clone(), place.is_shared),
                None => (String::new(), false),
            };
            let own = if is_shared { format!("{builds}/{}/{slot}", config.short_token) } else { builds.clone() };
            Directories::new(builds, own, &format!("{slug}{suffix}"))
        }
    };
    (variables(config, payload, kind, slot, &directories), directories)
}

/// The runner's variables around the job's: some that the job may override, then some that it may not.
fn variables(config: &RunnerConfig, payload: &JobPayload, kind: ExecutorKind, slot: usize, directories: &Directories) -> JobVariables {
    let image = payload.image.as_ref().map(|image| image.name.clone()).or_else(|| config.docker.default_image.clone());
    let mut list = Vec::new();
    if let (ExecutorKind::Docker | ExecutorKind::Custom, Some(image)) = (kind, image) {
        list.push(dockwright_job::Variable { raw: false, ..public("CI_JOB_IMAGE", image) });
    }
    list.push(public("CI_RUNNER_SHORT_TOKEN", &config.short_token));
    list.extend(config.environment.iter().map(|variable| dockwright_job::Variable { public: true, ..variable.clone() }));
    list.push(public("CI_BUILDS_DIR", &directories.builds));
    list.push(public("CI_PROJECT_DIR", &directories.project));
    list.push(public("CI_CONCURRENT_ID", slot.to_string()));
    list.push(public("CI_CONCURRENT_PROJECT_ID", slot.to_string()));
    list.push(public("CI_SERVER", "yes"));
    list.push(public("CI_JOB_STATUS", "running"));
    list.push(public("CI_JOB_TIMEOUT", payload.runner_info.timeout.to_string()));
    list.extend(payload.variables.iter().cloned());
    list.extend(config.feature_flags.iter().map(|(name, is_on)| public(name, is_on.to_string())));
    let environment = match kind {
        ExecutorKind::Shell | ExecutorKind::Custom => "CI_SHARED_ENVIRONMENT",
        ExecutorKind::Docker => "CI_DISPOSABLE_ENVIRONMENT",
    };
    list.push(public(environment, "true"));
    list.push(public("CI_RUNNER_VERSION", &config.version));
    list.push(public("CI_RUNNER_REVISION", &config.revision));
    list.push(public("CI_RUNNER_EXECUTABLE_ARCH", format!("linux/{}", std::env::consts::ARCH)));
    list.push(public("RUNNER_TEMP_PROJECT_DIR", &directories.temp));
    JobVariables::new(list).expanded(|key| directories.file_variable_path(key))
}

/// What of a job the hints are about.
pub(super) fn docker_setup(context: &ExecutorContext, own_endpoint: Option<String>) -> DockerSetup {
    let variables = &context.variables;
    let set = |key: &str| variables.get(key).map(str::to_owned);
    let is_client = job_image(context).is_some_and(|image| is_docker_client(&variables.expand(&image.name)));
    let services = context.payload.services.iter().map(|service| {
        let image = variables.expand(&service.name);
        let names = ServiceName::parse(&image, &variables.expand(&service.alias));
        let own = JobVariables::new(service.variables.clone());
        ServiceSetup {
            aliases: names.map(|names| names.aliases).unwrap_or_default(),
            is_dind: is_dind(&image),
            tls_certdir: own.get("DOCKER_TLS_CERTDIR").map(str::to_owned),
            image,
        }
    });
    DockerSetup {
        docker_host: set("DOCKER_HOST"),
        tls_certdir: set("DOCKER_TLS_CERTDIR"),
        client_uses_tls: is_client || !variables.text("DOCKER_TLS_VERIFY").is_empty(),
        services: services.collect(),
        own_endpoint,
    }
}

#[cfg(test)]
mod tests {
    use dockwright_job::{JobInfo, Variable};

    use super::*;

    #[test]
    fn feature_flags_of_the_runner_win_over_the_jobs() {
        let mut config = RunnerConfig::local("/b".into(), "/c".into(), "/bin/true".into());
        let variables = vec![public("FF_TIMESTAMPS", "true"), public("FF_OTHER", "true")];
        let payload = JobPayload { variables, ..JobPayload::default() };
        config.feature_flags.insert("FF_TIMESTAMPS".to_owned(), false);
        let (variables, _) = surroundings(&config, &payload, ExecutorKind::Shell, 0, None);
        assert_eq!((variables.text("FF_TIMESTAMPS"), variables.text("FF_OTHER")), ("false", "true"));
    }

    #[test]
    fn jobs_override_some_variables_and_not_others() {
        let config = RunnerConfig::local("/b".into(), "/c".into(), "/bin/true".into());
        let variable = |key: &str, value: &str| Variable { key: key.to_owned(), value: value.to_owned(), ..Variable::default() };
        let payload = JobPayload {
            job_info: JobInfo { project_full_path: "group/project".to_owned(), ..JobInfo::default() },
            variables: vec![variable("CI_SERVER", "no"), variable("CI_RUNNER_VERSION", "9"), variable("MNT", "$CI_PROJECT_DIR/mnt")],
            ..JobPayload::default()
        };
        let (shell, directories) = surroundings(&config, &payload, ExecutorKind::Shell, 2, None);
        assert_eq!(directories.project, "/b/local/2/group/project");
        assert_eq!(shell.text("CI_SERVER"), "no");
        assert_eq!(shell.text("CI_RUNNER_VERSION"), config.version);
        let (docker, directories) = surroundings(&config, &payload, ExecutorKind::Docker, 2, None);
        assert_eq!(directories.temp, "/builds/group/project.tmp");
        assert_eq!(docker.text("MNT"), "/builds/group/project/mnt");
    }
}
