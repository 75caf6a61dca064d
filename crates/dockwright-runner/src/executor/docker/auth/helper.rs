//! Programs that keep credentials: `docker-credential-<name>`, asked through standard input and output.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::Login;

/// A program may ask a server for what it keeps.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// In place of a user's name where the secret is a token.
const TOKEN_USER: &str = "<token>";
/// What programs print for a server that they do not know.
const NOT_FOUND: &str = "credentials not found";

/// A program that is there.
#[derive(Debug, Clone)]
pub(super) struct Helper {
    program: PathBuf,
}

/// Why a program did not answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::executor::docker) enum HelperError {
    #[error("the credentials helper `{name}` must not contain a path separator")]
    Path { name: String },
    #[error("the program `docker-credential-{name}` is not installed on the runner's machine")]
    Missing { name: String },
    #[error("`{program} {action}`: {reason}")]
    Failed { program: String, action: &'static str, reason: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Helper {
    /// Finds the program in one of the directories.
    pub(super) fn find(name: &str, directories: &[PathBuf]) -> Result<Self, HelperError> {
        if name.contains(['/', '\\']) {
            return Err(HelperError::Path { name: name.to_owned() });
        }
        let file = format!("docker-credential-{name}");
        let program = directories.iter().map(|directory| directory.join(&file)).find(|program| program.is_file());
        program.map(|program| Self { program }).ok_or_else(|| HelperError::Missing { name: name.to_owned() })
    }

    /// Returns the servers that it has credentials for.
    pub(super) async fn list(&self) -> Result<Vec<String>, HelperError> {
        let output = self.ask("list", "").await?.unwrap_or_else(|| b"{}".to_vec());
        let users: BTreeMap<String, String> = serde_json::from_slice(&output).map_err(|_| self.failed("list", "it prints no JSON"))?;
        Ok(users.into_keys().collect())
    }

    /// Returns the credentials for a server, if it has them.
    pub(super) async fn get(&self, server: &str) -> Result<Option<Login>, HelperError> {
        let Some(output) = self.ask("get", server).await? else { return Ok(None) };
        // The error would show a part of the secret.
        let answer: Answer = serde_json::from_slice(&output).map_err(|_| self.failed("get", "it prints no credentials"))?;
        Ok(Some(match answer.username.as_str() {
            TOKEN_USER => Login::IdentityToken(answer.secret),
            _ => Login::Password { username: answer.username, password: answer.secret },
        }))
    }

    /// Runs the program. `None` when it has nothing of that kind.
    async fn ask(&self, action: &'static str, input: &str) -> Result<Option<Vec<u8>>, HelperError> {
        let system = |error: io::Error| self.failed(action, &error.to_string());
        let mut command = Command::new(&self.program);
        command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(system)?;
        let mut stdin = child.stdin.take().expect("it is piped");
        let answer = async {
            // One that does not read its input says in its answer why.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| self.failed(action, "it does not answer"))?.map_err(system)?;
        if output.status.success() {
            return Ok(Some(output.stdout));
        }
        // Programs print their errors to standard output.
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if printed.contains(NOT_FOUND) {
            return Ok(None);
        }
        let reason = printed.lines().next().filter(|line| !line.trim().is_empty()).map_or_else(|| output.status.to_string(), str::to_owned);
        Err(self.failed(action, &reason))
    }

    fn failed(&self, action: &'static str, reason: &str) -> HelperError {
        let program = self.program.file_name().map(Path::new).unwrap_or(&self.program).display().to_string();
        HelperError::Failed { program, action, reason: reason.to_owned() }
    }
}
