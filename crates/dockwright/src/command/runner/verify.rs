//! `runner verify`.

use std::collections::BTreeSet;

use dockwright_runner::{
    api,
    config::{file::RunnerEntry, remove_runners},
};

use super::{config_file::RunnerConfigFile, select::Selection, server};
use crate::{cli::VerifyArgs, error::CommandError, exit_code::ExitCode};

pub(super) fn run(arguments: &VerifyArgs) -> Result<ExitCode, CommandError> {
    let file = RunnerConfigFile::decide(&arguments.config);
    let loaded = file.load()?;
    let system_id = file.system_id();
    let selection =
        Selection { name: arguments.name.as_deref(), url: arguments.url.as_deref(), token: arguments.token.as_deref(), id: None };
    let selected = selection.of(&loaded.file.runners);
    if selected.is_empty() && !selection.is_empty() {
        return Err(CommandError::usage("no runner of the configuration matches"));
    }
    let runtime = server::runtime()?;
    let mut invalid = BTreeSet::new();
    for (index, entry) in selected {
        if !runtime.block_on(is_valid(entry, &system_id, &file)) {
            invalid.insert(index);
        }
    }
    match (invalid.is_empty(), arguments.delete == Some(true)) {
        (true, _) => Ok(ExitCode::Success),
        (false, false) => Err(CommandError::environment("Failed to verify runners")
            .hint("--delete removes those that GitLab no longer knows from the configuration")),
        (false, true) => {
            file.change(|text| remove_runners(text.unwrap_or_default(), &invalid))?;
            tracing::info!(ConfigFile = %file.path().display(), "Updated");
            Ok(ExitCode::Success)
        }
    }
}

/// Only a refusal makes a runner invalid: a server that does not answer says nothing about it.
async fn is_valid(entry: &RunnerEntry, system_id: &str, file: &RunnerConfigFile) -> bool {
    let runner = entry.token.short();
    let answer = match server::client(entry, &file.certificates()) {
        Ok(client) => client.verify(&entry.token, system_id, &api::details(None)).await,
        Err(error) => {
            tracing::error!(runner, error = error.parts().message, "Verifying runner... error");
            return true;
        }
    };
    match answer {
        Ok(_) => tracing::info!(runner, "Verifying runner... is valid"),
        Err(error) if error.is_forbidden() => {
            tracing::error!(runner, "Verifying runner... is removed");
            return false;
        }
        Err(error) => tracing::warn!(runner, error = format!("{:#}", anyhow::Error::from(error)), "Verifying runner... failed"),
    }
    true
}
