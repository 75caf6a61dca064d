//! What this runner says about itself.

use dockwright_job::{RunnerDetails, RunnerDetailsConfig, RunnerFeatures};

/// The GitLab Runner whose behaviour is followed. Servers compare it to decide what a runner can do.
pub const COMPATIBLE_VERSION: &str = "19.3.0";

/// How a runner runs its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorKind {
    Shell,
    Docker,
    Custom,
}

impl ExecutorKind {
    fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Docker => "docker",
            Self::Custom => "custom",
        }
    }
}

/// Returns the `info` of requests. `executor` is absent where GitLab Runner does not know it either: during registration.
pub fn details(executor: Option<ExecutorKind>) -> RunnerDetails {
    RunnerDetails {
        name: "gitlab-runner".to_owned(),
        version: COMPATIBLE_VERSION.to_owned(),
        revision: concat!("dockwright-", env!("CARGO_PKG_VERSION")).to_owned(),
        platform: std::env::consts::OS.to_owned(),
        architecture: architecture().to_owned(),
        executor: executor.map(|executor| executor.name().to_owned()).unwrap_or_default(),
        shell: executor.map(|_| "bash".to_owned()).unwrap_or_default(),
        features: features(executor),
        config: RunnerDetailsConfig::default(),
    }
}

/// As Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Only what this crate does: a server that is told more sends jobs that fail. So `session`, `terminal`, `vault_secrets`, `job_inputs`
/// and `native_steps_integration` are not here.
fn features(executor: Option<ExecutorKind>) -> RunnerFeatures {
    let is_docker = executor == Some(ExecutorKind::Docker);
    // A driver is told of image and services, and does with them what it likes.
    let has_images = is_docker || executor == Some(ExecutorKind::Custom);
    RunnerFeatures {
        // The protocol.
        trace_reset: true,
        trace_checksum: true,
        trace_size: true,
        cancelable: true,
        cancel_gracefully: true,
        two_phase_job_commit: true,
        // Scripts and archives.
        artifacts: true,
        upload_multiple_artifacts: true,
        upload_raw_artifacts: true,
        artifacts_exclude: true,
        cache: true,
        fallback_cache_keys: true,
        refspecs: true,
        masking: true,
        raw_variables: true,
        multi_build_steps: true,
        return_exit_code: true,
        // Executors.
        variables: executor.is_some(),
        shared: matches!(executor, Some(ExecutorKind::Shell | ExecutorKind::Custom)),
        image: has_images,
        services: has_images,
        image_executor_opts: is_docker,
        service_executor_opts: is_docker,
        service_multiple_aliases: is_docker,
        service_variables: is_docker,
        ..RunnerFeatures::default()
    }
}

/// `User-Agent` of all requests: GitLab Runner's form, and who it really is.
pub(super) fn user_agent() -> String {
    let details = details(None);
    format!(
        "gitlab-runner {} (main; rust; {}/{}) dockwright/{}",
        details.version,
        details.platform,
        details.architecture,
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_features_are_named_and_no_others_claimed() {
        let info = serde_json::to_value(details(Some(ExecutorKind::Docker))).expect("plain data");
        let features = info["features"].as_object().expect("an object");
        let absent: Vec<&str> = features.iter().filter(|(_, on)| *on == false).map(|(name, _)| name.as_str()).collect();
        assert_eq!(features.len(), 31);
        assert_eq!(absent, ["job_inputs", "native_steps_integration", "proxy", "session", "shared", "terminal", "vault_secrets"]);
        let registering = serde_json::to_value(details(None)).expect("plain data");
        assert_eq!((registering.get("executor"), registering.get("shell")), (None, None));
    }
}
