//! What a runner says about itself: `POST /runners` and its like, and `POST /jobs/request`.

use serde::{Deserialize, Serialize};

use crate::RunnerToken;

/// The `info` of nearly every request of a runner. Servers store it with the runner manager, and rely on its features.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerDetails {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Servers compare it with the versions in which GitLab Runner gained something.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// As Go calls it: `linux`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// As Go calls it: `amd64`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub executor: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shell: String,
    pub features: RunnerFeatures,
    pub config: RunnerDetailsConfig,
}

/// Settings of a runner that servers want to know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerDetailsConfig {
    pub gpus: String,
}

/// What a runner can do. All keys are always sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerFeatures {
    pub variables: bool,
    pub image: bool,
    pub services: bool,
    pub artifacts: bool,
    pub cache: bool,
    pub fallback_cache_keys: bool,
    pub shared: bool,
    pub upload_multiple_artifacts: bool,
    pub upload_raw_artifacts: bool,
    pub session: bool,
    pub terminal: bool,
    pub refspecs: bool,
    pub masking: bool,
    pub proxy: bool,
    pub raw_variables: bool,
    pub artifacts_exclude: bool,
    pub multi_build_steps: bool,
    pub trace_reset: bool,
    pub trace_checksum: bool,
    pub trace_size: bool,
    pub vault_secrets: bool,
    pub cancelable: bool,
    pub cancel_gracefully: bool,
    pub return_exit_code: bool,
    pub service_variables: bool,
    pub service_multiple_aliases: bool,
    pub image_executor_opts: bool,
    pub service_executor_opts: bool,
    pub native_steps_integration: bool,
    pub two_phase_job_commit: bool,
    pub job_inputs: bool,
}

/// Body of `POST /runners`: a registration token is exchanged for a runner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Registration {
    pub token: RunnerToken,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub maintenance_note: String,
    /// Separated by commas.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag_list: String,
    pub run_untagged: bool,
    pub locked: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_level: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub maximum_timeout: i64,
    pub paused: bool,
    pub info: RunnerDetails,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Answer to a registration, a verification and a reset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RegisteredRunner {
    /// 0 when the server did not say.
    pub id: u64,
    pub token: RunnerToken,
    /// ISO 8601; absent when the token does not expire.
    pub token_expires_at: Option<String>,
}

/// Body of `POST /runners/verify`, and with less in it of `DELETE /runners`, `DELETE /runners/managers` and the resets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerCredentials {
    pub token: RunnerToken,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<RunnerDetails>,
}

/// Body of `POST /jobs/request`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobRequest {
    pub info: RunnerDetails,
    pub token: RunnerToken,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// State of the queue that the runner knows; while it is the latest, the server may hold the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update: Option<String>,
}
