//! `[runners.custom]`: the programs that make, use and remove the environment of a job.

use std::time::Duration;

use serde::Deserialize;

use super::{
    decide::{DecideError, not_empty, positive},
    file::RunnerEntry,
};

/// What GitLab Runner takes where an entry says nothing.
const DEFAULT_PROGRAM_TIMEOUT_SECS: u64 = 3600;
const DEFAULT_GRACEFUL_KILL_SECS: u64 = 600;
const DEFAULT_FORCE_KILL_SECS: u64 = 10;

/// Settings of a custom executor.
#[derive(Debug, Clone)]
pub struct CustomConfig {
    /// Says on its standard output, as JSON, what the job's environment is like.
    pub config: Option<CustomProgram>,
    pub prepare: Option<CustomProgram>,
    /// Runs a script; called once for each phase. Its time is the job's.
    pub run: CustomProgram,
    pub cleanup: Option<CustomProgram>,
    /// How long a program has between SIGTERM and SIGKILL.
    pub graceful_kill_timeout: Duration,
    /// How long a program may take to end after SIGKILL.
    pub force_kill_timeout: Duration,
    /// In the job's environment; empty where `config` decides.
    pub builds_dir: String,
    pub cache_dir: String,
    /// Where commands in the job's environment reach the coordinator.
    pub coordinator_url: String,
}

/// A program with the arguments in front of those that it is called with.
#[derive(Debug, Clone)]
pub struct CustomProgram {
    pub path: String,
    pub arguments: Vec<String>,
    /// `None` does not limit it.
    pub timeout: Option<Duration>,
}

/// `[runners.custom]` as it is written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CustomTable {
    pub config_exec: String,
    pub config_args: Vec<String>,
    /// Seconds, as are the other timeouts; 0 is the default.
    pub config_exec_timeout: i64,
    pub prepare_exec: String,
    pub prepare_args: Vec<String>,
    pub prepare_exec_timeout: i64,
    pub run_exec: String,
    pub run_args: Vec<String>,
    pub cleanup_exec: String,
    pub cleanup_args: Vec<String>,
    pub cleanup_exec_timeout: i64,
    pub graceful_kill_timeout: i64,
    pub force_kill_timeout: i64,
}

impl CustomConfig {
    pub(super) fn decide(entry: &RunnerEntry) -> Result<Self, DecideError> {
        let table = entry.custom.clone().unwrap_or_default();
        let path = not_empty(&table.run_exec).ok_or(DecideError::NoRunProgram)?;
        Ok(Self {
            config: optional(&table.config_exec, &table.config_args, table.config_exec_timeout),
            prepare: optional(&table.prepare_exec, &table.prepare_args, table.prepare_exec_timeout),
            run: CustomProgram { path, arguments: table.run_args, timeout: None },
            cleanup: optional(&table.cleanup_exec, &table.cleanup_args, table.cleanup_exec_timeout),
            graceful_kill_timeout: seconds(table.graceful_kill_timeout, DEFAULT_GRACEFUL_KILL_SECS),
            force_kill_timeout: seconds(table.force_kill_timeout, DEFAULT_FORCE_KILL_SECS),
            builds_dir: entry.builds_dir.clone(),
            cache_dir: entry.cache_dir.clone(),
            coordinator_url: entry.url.clone(),
        })
    }
}

fn optional(path: &str, arguments: &[String], timeout: i64) -> Option<CustomProgram> {
    let timeout = Some(seconds(timeout, DEFAULT_PROGRAM_TIMEOUT_SECS));
    not_empty(path).map(|path| CustomProgram { path, arguments: arguments.to_vec(), timeout })
}

fn seconds(number: i64, default: u64) -> Duration {
    Duration::from_secs(positive(number).unwrap_or(default))
}
