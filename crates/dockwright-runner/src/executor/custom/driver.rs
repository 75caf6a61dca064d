//! What the driver's programs are told, and what they answer.

use std::{collections::BTreeMap, fs, io, os::unix::fs::OpenOptionsExt as _, path::Path};

use serde::{Deserialize, Serialize};

use crate::{config::CustomConfig, executor::ExecutorContext};

/// What a program exits with when the job's own script failed.
pub(super) const BUILD_FAILURE_EXIT_CODE: i32 = 1;
/// What it exits with when the environment failed.
pub(super) const SYSTEM_FAILURE_EXIT_CODE: i32 = 2;

/// Files of one job beside its scripts.
const JOB_RESPONSE_FILE: &str = "response.json";
const EXIT_CODE_FILE: &str = "build_exit_code";

/// What `config_exec` prints. All of it may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub(super) builds_dir: Option<String>,
    pub(super) cache_dir: Option<String>,
    pub(super) builds_dir_is_shared: Option<bool>,
    pub(super) hostname: Option<String>,
    pub(super) driver: Option<Driver>,
    pub(super) job_env: Option<BTreeMap<String, String>>,
    pub(super) shell: Option<String>,
}

/// Who the driver is, for the trace.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Driver {
    name: Option<String>,
    version: Option<String>,
}

impl Answer {
    /// Reads the output of `config_exec`; none at all changes nothing.
    pub(super) fn parse(output: &[u8]) -> Result<Self, serde_json::Error> {
        if output.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(output)
    }

    pub(super) fn title(&self) -> String {
        let driver = self.driver.as_ref().and_then(|driver| Some((driver.name.as_ref()?, driver.version.as_ref())));
        match driver {
            None => "Using Custom executor...".to_owned(),
            Some((name, None)) => format!("Using Custom executor with driver {name}..."),
            Some((name, Some(version))) => format!("Using Custom executor with driver {name} {version}..."),
        }
    }
}

/// Where a job's files are in its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) builds_dir: String,
    pub(crate) cache_dir: String,
    /// Other jobs use the builds directory at the same time.
    pub(crate) is_shared: bool,
}

impl Place {
    /// As the runner's settings have it.
    pub(crate) fn configured(config: &CustomConfig) -> Self {
        Self { builds_dir: config.builds_dir.clone(), cache_dir: config.cache_dir.clone(), is_shared: false }
    }

    pub(super) fn changed_by(self, answer: &Answer) -> Self {
        Self {
            builds_dir: answer.builds_dir.clone().unwrap_or(self.builds_dir),
            cache_dir: answer.cache_dir.clone().unwrap_or(self.cache_dir),
            is_shared: answer.builds_dir_is_shared.unwrap_or(self.is_shared),
        }
    }
}

/// A service as drivers know it.
#[derive(Serialize)]
struct Service<'a> {
    name: String,
    alias: String,
    entrypoint: Option<&'a [String]>,
    command: Option<&'a [String]>,
}

/// Writes the job's payload for the driver to read; it holds the job's token.
pub(super) fn write_payload(context: &ExecutorContext, directory: &Path) -> io::Result<()> {
    let bytes = serde_json::to_vec(&*context.payload)?;
    write_private(&directory.join(JOB_RESPONSE_FILE), &bytes)
}

/// Writes a file that nobody else may read and its owner may run.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(path)?;
    io::Write::write_all(&mut file, bytes)
}

/// Reads the exit code that a program left of the job's script, and removes it.
pub(super) fn take_exit_code(directory: &Path) -> Option<i32> {
    let path = directory.join(EXIT_CODE_FILE);
    let text = fs::read_to_string(&path).ok()?;
    let _ = fs::remove_file(&path);
    text.trim().parse().ok()
}

/// Returns the environment of all programs, beside that of the runner itself. `directory` is the job's own.
pub(super) fn environment(context: &ExecutorContext, directory: &Path) -> Vec<(String, String)> {
    let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let mut list = vec![
        ("TMPDIR".to_owned(), directory.to_string_lossy().into_owned()),
        ("JOB_RESPONSE_FILE".to_owned(), file(JOB_RESPONSE_FILE)),
        ("BUILD_EXIT_CODE_FILE".to_owned(), file(EXIT_CODE_FILE)),
        ("BUILD_FAILURE_EXIT_CODE".to_owned(), BUILD_FAILURE_EXIT_CODE.to_string()),
        ("SYSTEM_FAILURE_EXIT_CODE".to_owned(), SYSTEM_FAILURE_EXIT_CODE.to_string()),
    ];
    let variables = context.variables.iter().map(|variable| (variable.key.as_str(), variable.value.as_str()));
    list.extend(variables.map(|(key, value)| (format!("CUSTOM_ENV_{key}"), value.to_owned())));
    if let Some(services) = services(context) {
        list.push(("CUSTOM_ENV_CI_JOB_SERVICES".to_owned(), services));
    }
    list.retain(|(key, _)| is_environment_name(key));
    list.iter_mut().for_each(|(_, value)| value.retain(|c| c != '\0'));
    list
}

/// What no process can have in its environment would keep the program from starting.
pub(super) fn is_environment_name(key: &str) -> bool {
    !key.is_empty() && !key.contains(['=', '\0'])
}

fn services(context: &ExecutorContext) -> Option<String> {
    let services: Vec<Service<'_>> = context
        .payload
        .services
        .iter()
        .map(|service| Service {
            name: context.variables.expand(&service.name),
            alias: context.variables.expand(&service.alias),
            entrypoint: Some(service.entrypoint.as_slice()).filter(|words| !words.is_empty()),
            command: Some(service.command.as_slice()).filter(|words| !words.is_empty()),
        })
        .collect();
    (!services.is_empty()).then(|| serde_json::to_string(&services).expect("plain data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_replaces_what_it_names() {
        let configured = Place { builds_dir: "/b".to_owned(), cache_dir: "/c".to_owned(), is_shared: false };
        let silent = Answer::parse(b" \n").expect("nothing is an answer");
        assert_eq!(configured.clone().changed_by(&silent), configured);
        assert_eq!(silent.title(), "Using Custom executor...");
        let answer = br#"{"builds_dir": "/x", "builds_dir_is_shared": true, "driver": {"name": "vm", "version": "2"}, "further": 1}"#;
        let answer = Answer::parse(answer).expect("an answer");
        let expected = Place { builds_dir: "/x".to_owned(), cache_dir: "/c".to_owned(), is_shared: true };
        assert_eq!(configured.changed_by(&answer), expected);
        assert_eq!(answer.title(), "Using Custom executor with driver vm 2...");
        assert!(Answer::parse(b"starting the machine").is_err());
    }
}
