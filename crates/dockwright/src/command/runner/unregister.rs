//! `runner unregister`.

use std::collections::BTreeSet;

use dockwright_job::RunnerToken;
use dockwright_runner::{
    api::{ApiError, Client},
    config::{file::RunnerEntry, remove_runners},
};

use super::{config_file::RunnerConfigFile, select::Selection, server};
use crate::{cli::UnregisterArgs, error::CommandError, exit_code::ExitCode};

pub(super) fn run(arguments: &UnregisterArgs) -> Result<ExitCode, CommandError> {
    let file = RunnerConfigFile::decide(&arguments.config);
    let loaded = file.load_or_default()?;
    let system_id = file.system_id();
    let entries = &loaded.file.runners;
    let selected = select(arguments, entries)?;
    let runtime = server::runtime()?;
    let mut gone = BTreeSet::new();
    let mut failures = 0_usize;
    for entry in selected {
        let result = runtime.block_on(unregister(&entry, &system_id, &file));
        if result {
            gone.extend(entries.iter().enumerate().filter(|(_, other)| same_credentials(&entry, other)).map(|(index, _)| index));
        } else {
            failures += 1;
        }
    }
    if !gone.is_empty() {
        file.change(|text| remove_runners(text.unwrap_or_default(), &gone))?;
        tracing::info!(ConfigFile = %file.path().display(), "Updated");
    }
    match failures {
        0 => Ok(ExitCode::Success),
        _ => Err(CommandError::environment("Failed to unregister runner")),
    }
}

/// Returns what is to be removed; a token need not be in the file.
fn select(arguments: &UnregisterArgs, entries: &[RunnerEntry]) -> Result<Vec<RunnerEntry>, CommandError> {
    if arguments.all_runners == Some(true) {
        tracing::warn!("Unregistering all runners");
        return Ok(entries.to_vec());
    }
    let selection =
        Selection { name: arguments.name.as_deref(), url: arguments.url.as_deref(), token: arguments.token.as_deref(), id: None };
    if arguments.name.is_none() && arguments.token.is_none() {
        return Err(CommandError::usage("which runner?").hint("give --name, --token (with --url), or --all-runners"));
    }
    match (selection.of(entries).first(), &arguments.token, &arguments.url) {
        (Some((_, entry)), _, _) => Ok(vec![(*entry).clone()]),
        (None, Some(token), Some(url)) if arguments.name.is_none() => {
            Ok(vec![RunnerEntry { url: url.clone(), token: RunnerToken::new(token.clone()), ..RunnerEntry::default() }])
        }
        _ => Err(CommandError::usage("no runner of the configuration matches")),
    }
}

fn same_credentials(left: &RunnerEntry, right: &RunnerEntry) -> bool {
    left.url == right.url && left.token == right.token
}

async fn unregister(entry: &RunnerEntry, system_id: &str, file: &RunnerConfigFile) -> bool {
    let runner = entry.token.short();
    let result = match server::client(entry, &file.certificates()) {
        Ok(client) => take_back(&client, &entry.token, system_id).await,
        Err(error) => {
            tracing::error!(runner, error = error.parts().message, "Unregistering runner from GitLab error");
            return false;
        }
    };
    match result {
        Ok(()) => tracing::info!(runner, "Unregistering runner from GitLab succeeded"),
        Err(error) if error.is_forbidden() => {
            tracing::error!(runner, "Unregistering runner from GitLab forbidden");
            return false;
        }
        Err(error) => {
            tracing::error!(runner, error = format!("{:#}", anyhow::Error::from(error)), "Unregistering runner from GitLab failed");
            return false;
        }
    }
    true
}

/// Removes a runner that came from a registration, or this machine from one that was made in GitLab.
pub(super) async fn take_back(client: &Client, token: &RunnerToken, system_id: &str) -> Result<(), ApiError> {
    match token.is_created_at_server() {
        true => client.unregister_manager(token, system_id).await,
        false => client.unregister(token).await,
    }
}
