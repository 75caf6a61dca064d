//! The job payload: the answer to `POST /jobs/request`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use crate::JobToken;

/// Number of a job, unique at its coordinator (`CI_JOB_ID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything a runner needs to execute one job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobPayload {
    pub id: JobId,
    pub token: JobToken,
    /// Default `GIT_STRATEGY`: fetch when true, clone when false.
    pub allow_git_fetch: bool,
    pub job_info: JobInfo,
    pub git_info: GitInfo,
    pub runner_info: RunnerInfo,
    /// In order of precedence: a later definition of a key wins.
    #[serde(deserialize_with = "null_as_default")]
    pub variables: Vec<Variable>,
    #[serde(deserialize_with = "null_as_default")]
    pub steps: Vec<Step>,
    /// Absent when the job names no image; the runner's default applies.
    #[serde(deserialize_with = "null_as_default")]
    pub image: Option<Image>,
    #[serde(deserialize_with = "null_as_default")]
    pub services: Vec<Image>,
    #[serde(deserialize_with = "null_as_default")]
    pub artifacts: Vec<Artifact>,
    #[serde(deserialize_with = "null_as_default")]
    pub cache: Vec<Cache>,
    #[serde(deserialize_with = "null_as_default")]
    pub credentials: Vec<Credentials>,
    #[serde(deserialize_with = "null_as_default")]
    pub dependencies: Vec<Dependency>,
    #[serde(deserialize_with = "null_as_default")]
    pub features: Features,
    #[serde(deserialize_with = "null_as_default")]
    pub hooks: Vec<Hook>,
}

/// Go servers write `null` for empty lists and objects.
fn null_as_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobInfo {
    pub name: String,
    pub stage: String,
    pub pipeline_id: u64,
    pub project_id: u64,
    pub project_name: String,
    /// Path with namespace, `group/project`.
    pub project_full_path: String,
    pub time_in_queue_seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GitInfo {
    /// Clone address; may hold `gitlab-ci-token:<token>@`.
    pub repo_url: String,
    /// `sha1` (also when empty) or `sha256`.
    pub repo_object_format: String,
    #[serde(rename = "ref")]
    pub ref_name: String,
    pub sha: String,
    pub before_sha: String,
    pub ref_type: RefType,
    pub refspecs: Vec<String>,
    /// History depth; 0 fetches everything.
    pub depth: u32,
    pub protected: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefType {
    #[default]
    Branch,
    Tag,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerInfo {
    /// Seconds the job may take; zero or less means two hours.
    pub timeout: i64,
}

#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Variable {
    pub key: String,
    pub value: String,
    /// Given to services too.
    pub public: bool,
    /// The variable holds the path of a file with the value.
    pub file: bool,
    /// The value is replaced by `[MASKED]` in the trace.
    pub masked: bool,
    /// The value is not expanded.
    pub raw: bool,
}

/// Masked values do not print.
impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.masked { "[masked]" } else { &self.value };
        write!(f, "{}={value:?}", self.key)
    }
}

/// One script of a job. All but `after_script` run in order until the first failure.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// `script`, `after_script` or `release`.
    pub name: String,
    pub script: Vec<String>,
    pub timeout: i64,
    pub when: String,
    pub allow_failure: bool,
}

/// An image of a job or of one of its services.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    pub name: String,
    /// Several aliases may be separated by spaces or commas.
    #[serde(deserialize_with = "null_as_default")]
    pub alias: String,
    #[serde(deserialize_with = "null_as_default")]
    pub command: Vec<String>,
    /// `[""]` clears the image's entrypoint; an empty list keeps it.
    #[serde(deserialize_with = "null_as_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub pull_policy: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub variables: Vec<Variable>,
    #[serde(deserialize_with = "null_as_default")]
    pub executor_opts: ImageOptions,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageOptions {
    #[serde(deserialize_with = "null_as_default")]
    pub docker: DockerOptions,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactWhen {
    #[default]
    OnSuccess,
    OnFailure,
    Always,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactFormat {
    #[default]
    Zip,
    Gzip,
    Raw,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Artifact {
    pub name: String,
    pub untracked: bool,
    #[serde(deserialize_with = "null_as_default")]
    pub paths: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub exclude: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub when: ArtifactWhen,
    /// `archive`, or a report's name such as `dotenv`.
    pub artifact_type: String,
    #[serde(deserialize_with = "null_as_default")]
    pub artifact_format: ArtifactFormat,
    #[serde(deserialize_with = "null_as_default")]
    pub expire_in: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CachePolicy {
    #[default]
    #[serde(rename = "pull-push", alias = "")]
    PullPush,
    #[serde(rename = "pull")]
    Pull,
    #[serde(rename = "push")]
    Push,
}

/// One entry of `cache:` (GitLab's job cache, not the build cache of images).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    pub key: String,
    pub untracked: bool,
    #[serde(deserialize_with = "null_as_default")]
    pub policy: CachePolicy,
    #[serde(deserialize_with = "null_as_default")]
    pub paths: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub when: ArtifactWhen,
    #[serde(deserialize_with = "null_as_default")]
    pub fallback_keys: Vec<String>,
}

/// Access to a registry, for pulling the job's images. Only `kind == "registry"` is used.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
    pub username: String,
    pub password: String,
}

/// The password does not print.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} ({})", self.username, self.url, self.kind)
    }
}

/// An earlier job whose artifacts this job receives.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dependency {
    pub id: JobId,
    pub token: JobToken,
    pub name: String,
    #[serde(deserialize_with = "null_as_default")]
    pub artifacts_file: DependencyFile,
}

/// Empty `filename`: the job left no archive.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DependencyFile {
    pub filename: String,
    pub size: u64,
}

/// What the coordinator can do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    /// The trace viewer understands `section_start` and `section_end`.
    pub trace_sections: bool,
    #[serde(deserialize_with = "null_as_default")]
    pub token_mask_prefixes: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub failure_reasons: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookName {
    PreGetSourcesScript,
    PostGetSourcesScript,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    pub name: HookName,
    pub script: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_nulls_and_unknown_fields_are_accepted() {
        let text = r#"{"id":7,"token":"t","image":null,"services":null,"variables":[{"key":"A","value":"1","masked":true}],
                       "git_info":{"ref":"main","ref_type":"tag"},"cache":[{"key":"k","policy":""}],"later_field":{"x":1}}"#;
        let payload: JobPayload = serde_json::from_str(text).expect("payload parses");
        assert_eq!(payload.id, JobId(7));
        assert_eq!(payload.git_info.ref_type, RefType::Tag);
        assert_eq!(payload.cache[0].policy, CachePolicy::PullPush);
        assert_eq!(payload.image, None);
    }

    #[test]
    fn secrets_do_not_print() {
        let payload: JobPayload = serde_json::from_str(
            r#"{"token":"sesame","variables":[{"key":"A","value":"tulip","masked":true}],
                                     "credentials":[{"type":"registry","url":"r","username":"u","password":"rosebud"}]}"#,
        )
        .expect("payload parses");
        let printed = format!("{payload:?}");
        for secret in ["sesame", "tulip", "rosebud"] {
            assert!(!printed.contains(secret), "{secret} printed");
        }
    }
}
