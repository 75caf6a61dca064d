//! What a `config.toml` says, typed: the keys that have an effect. What each of them means for a runner is decided in `decide`.

use std::collections::{BTreeMap, HashMap};

use dockwright_job::RunnerToken;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::{
    check::{self, UsedKey},
    custom::CustomTable,
    duration::GoDuration,
    problem::Problem,
    secret::Secret,
};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConfigFile {
    /// How many jobs run at once, over all runners.
    pub concurrent: i64,
    /// Seconds between two requests for a job; 0 is the default.
    pub check_interval: i64,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    /// Where metrics are served.
    pub listen_address: String,
    /// Seconds that jobs have to end after SIGTERM; 0 is the default.
    pub shutdown_timeout: i64,
    pub runners: Vec<RunnerEntry>,
}

impl Default for ConfigFile {
    fn default() -> Self {
        Self {
            concurrent: 1,
            check_interval: 0,
            log_level: None,
            log_format: None,
            listen_address: String::new(),
            shutdown_timeout: 0,
            runners: Vec::new(),
        }
    }
}

/// One `[[runners]]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RunnerEntry {
    pub name: String,
    pub url: String,
    pub id: i64,
    pub token: RunnerToken,
    #[serde(deserialize_with = "time")]
    pub token_obtained_at: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub token_expires_at: Option<Timestamp>,
    #[serde(rename = "tls-ca-file")]
    pub tls_ca_file: String,
    #[serde(rename = "tls-cert-file")]
    pub tls_cert_file: String,
    #[serde(rename = "tls-key-file")]
    pub tls_key_file: String,
    /// How many jobs of this entry run at once; 0 does not limit them.
    pub limit: i64,
    /// KiB of trace; 0 is the default.
    pub output_limit: i64,
    pub request_concurrency: i64,
    pub strict_check_interval: Option<bool>,
    pub unhealthy_requests_limit: i64,
    pub unhealthy_interval: Option<GoDuration>,
    /// How often the end of a job is reported again; 0 is the default.
    pub job_status_final_update_retry_limit: i64,
    pub executor: String,
    pub builds_dir: String,
    pub cache_dir: String,
    /// `KEY=VALUE`.
    pub environment: Vec<String>,
    pub feature_flags: BTreeMap<String, bool>,
    pub pre_build_script: String,
    pub post_build_script: String,
    pub pre_get_sources_script: String,
    pub post_get_sources_script: String,
    pub clone_url: String,
    pub docker: Option<DockerTable>,
    pub custom: Option<CustomTable>,
    pub cache: Option<CacheTable>,
}

/// `[runners.cache]`, whose keys are in another case.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CacheTable {
    /// `s3`, `gcs` or `azure`; empty keeps caches on this machine only.
    #[serde(rename = "Type")]
    pub kind: String,
    pub path: String,
    pub shared: bool,
    /// Bytes; 0 does not limit them.
    pub max_uploaded_archive_size: i64,
    #[serde(rename = "s3")]
    pub s3: S3Table,
    #[serde(rename = "gcs")]
    pub gcs: GcsTable,
    #[serde(rename = "azure")]
    pub azure: AzureTable,
}

/// `[runners.cache.s3]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct S3Table {
    pub server_address: String,
    pub access_key: Secret,
    pub secret_key: Secret,
    pub session_token: Secret,
    pub bucket_name: String,
    pub bucket_location: String,
    pub insecure: bool,
    pub authentication_type: String,
    pub server_side_encryption: String,
    #[serde(rename = "ServerSideEncryptionKeyID")]
    pub server_side_encryption_key_id: String,
    pub dual_stack: Option<bool>,
    pub path_style: Option<bool>,
    pub accelerate: bool,
}

/// `[runners.cache.gcs]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct GcsTable {
    #[serde(rename = "AccessID")]
    pub access_id: String,
    pub private_key: Secret,
    pub credentials_file: String,
    pub bucket_name: String,
    pub universe_domain: String,
}

/// `[runners.cache.azure]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AzureTable {
    pub account_name: String,
    pub account_key: Secret,
    pub container_name: String,
    pub storage_domain: String,
}

/// `[runners.docker]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DockerTable {
    pub host: String,
    pub image: String,
    pub privileged: bool,
    /// As `privileged` when it is not set.
    pub services_privileged: Option<bool>,
    pub user: String,
    pub allowed_users: Vec<String>,
    pub allowed_images: Vec<String>,
    pub allowed_services: Vec<String>,
    pub allowed_privileged_images: Vec<String>,
    pub allowed_privileged_services: Vec<String>,
    pub allowed_pull_policies: Vec<String>,
    pub disable_entrypoint_overwrite: bool,
    pub hostname: String,
    pub runtime: String,
    /// Sizes such as `512m`.
    pub memory: String,
    pub memory_swap: String,
    pub memory_reservation: String,
    pub cgroup_parent: String,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// `0.5` or `1/2`.
    pub cpus: String,
    pub cpu_shares: i64,
    pub service_memory: String,
    pub service_memory_swap: String,
    pub service_memory_reservation: String,
    pub service_cgroup_parent: String,
    pub service_cpuset_cpus: String,
    pub service_cpus: String,
    pub service_cpu_shares: i64,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub extra_hosts: Vec<String>,
    pub group_add: Vec<String>,
    pub userns_mode: String,
    pub ipcmode: String,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub oom_kill_disable: bool,
    pub oom_score_adjust: i64,
    pub security_opt: Vec<String>,
    pub services_security_opt: Vec<String>,
    /// `host[:container[:rwm]]`.
    pub devices: Vec<String>,
    pub device_cgroup_rules: Vec<String>,
    pub disable_cache: bool,
    pub volumes_from: Vec<String>,
    /// Bytes.
    pub shm_size: i64,
    pub tmpfs: HashMap<String, String>,
    pub services_tmpfs: HashMap<String, String>,
    pub sysctls: HashMap<String, String>,
    /// `soft[:hard]` by name.
    pub ulimit: BTreeMap<String, String>,
    pub volumes: Vec<String>,
    #[serde(deserialize_with = "one_or_more")]
    pub pull_policy: Vec<String>,
    /// Seconds; 0 is the default, less than 0 does not wait.
    pub wait_for_services_timeout: i64,
    pub tls_cert_path: String,
    pub tls_verify: bool,
    pub network_mode: String,
    /// `container[:alias]`.
    pub links: Vec<String>,
    pub enable_ipv6: bool,
    pub network_mtu: i64,
    pub pid_mode: String,
    pub mac_address: String,
    pub services: Vec<ServiceTable>,
    /// Less than 0 does not limit.
    pub services_limit: Option<i64>,
    /// By the pattern of an image.
    pub services_devices: BTreeMap<String, Vec<String>>,
    pub gpus: String,
    pub service_gpus: String,
    pub cache_dir: String,
    pub volume_driver: String,
    pub volume_driver_ops: HashMap<String, String>,
    pub volume_keep: bool,
    pub container_labels: BTreeMap<String, String>,
    pub log_options: HashMap<String, String>,
}

/// `[[runners.docker.services]]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceTable {
    pub name: String,
    pub alias: String,
    pub command: Vec<String>,
    pub entrypoint: Vec<String>,
    /// `KEY=VALUE`.
    pub environment: Vec<String>,
}

/// A file as far as it could be read.
#[derive(Debug, Default)]
pub struct LoadedConfig {
    pub file: ConfigFile,
    /// The file has errors if one of these is an error, and is not to be used.
    pub problems: Vec<Problem>,
    pub used: Vec<UsedKey>,
    /// The `[[runners]]` as they are written, with every known key.
    pub entries: Vec<toml::Table>,
}

impl LoadedConfig {
    /// Reads a text. `variable` looks up what `$NAME` in a URL or token stands for.
    pub fn read(text: &str, variable: impl Fn(&str) -> Option<String>) -> Self {
        let reading = check::read(text);
        let mut problems = reading.problems;
        let written = reading.table.get("runners").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let entries = written.into_iter().filter_map(|entry| entry.try_into().ok()).collect();
        let mut file = toml::Value::Table(reading.table).try_into::<ConfigFile>().unwrap_or_else(|error| {
            problems.push(Problem::error("wrong-value", error.message().to_owned()));
            ConfigFile::default()
        });
        for entry in &mut file.runners {
            entry.token = RunnerToken::new(expand(entry.token.expose(), &variable));
            entry.url = expand(&entry.url, &variable);
        }
        Self { file, problems, used: reading.used, entries }
    }

    /// Tells whether the file can be used.
    pub fn is_valid(&self) -> bool {
        !self.problems.iter().any(Problem::is_error)
    }
}

/// Replaces `$NAME` and `${NAME}`, as GitLab Runner does for `url` and `token`. A variable that is not set is empty.
fn expand(text: &str, variable: &impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, behind) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some(parts) => parts,
            None => after.split_at(after.find(|next: char| !next.is_ascii_alphanumeric() && next != '_').unwrap_or(after.len())),
        };
        if name.is_empty() {
            expanded.push('$');
        }
        expanded.push_str(&variable(name).unwrap_or_default());
        rest = behind;
    }
    expanded.push_str(rest);
    expanded
}

/// Reads a time; Go's zero time means that there is none.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let written = toml::value::Datetime::deserialize(deserializer)?;
    let time = written.to_string().parse::<Timestamp>().ok();
    Ok(time.filter(|time| time.as_second() > ZERO_TIME_SECS))
}

/// 0001-01-01T00:00:00Z.
const ZERO_TIME_SECS: i64 = -62_135_596_800;

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => Ok(vec![text]),
        toml::Value::Array(list) => Ok(list.into_iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()),
        _ => Ok(Vec::new()),
    }
}
