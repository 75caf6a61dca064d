//! `runner reset-token`.

use dockwright_runner::config::{file::RunnerEntry, set_runner_values};

use super::{config_file::RunnerConfigFile, select::Selection, server};
use crate::{
    cli::ResetTokenArgs,
    error::{CommandError, ErrorKind},
    exit_code::ExitCode,
};

pub(super) fn run(arguments: &ResetTokenArgs) -> Result<ExitCode, CommandError> {
    let file = RunnerConfigFile::decide(&arguments.config);
    let loaded = file.load()?;
    let selection = Selection { name: arguments.name.as_deref(), url: arguments.url.as_deref(), token: None, id: arguments.id };
    if selection.is_empty() && arguments.all_runners != Some(true) {
        return Err(CommandError::usage("which runner?").hint("give --name, --id (with --url), or --all-runners"));
    }
    let selected = selection.of(&loaded.file.runners);
    if selected.is_empty() {
        return Err(CommandError::usage("no runner of the configuration matches"));
    }
    let runtime = server::runtime()?;
    let mut failures = 0_usize;
    for (index, entry) in selected {
        if let Err(error) = runtime.block_on(reset(index, entry, arguments.pat.as_deref(), &file)) {
            let parts = error.parts();
            let cause = std::iter::once(parts.message).chain(parts.causes).collect::<Vec<_>>().join(": ");
            tracing::error!(runner = entry.token.short(), error = cause, "Resetting runner authentication token... failed");
            failures += 1;
        }
    }
    match failures {
        0 => Ok(ExitCode::Success),
        _ => Err(CommandError::environment("Failed to reset runner authentication token")),
    }
}

/// Gets a new token and writes it down at once: the old one is void.
pub(super) async fn reset(index: usize, entry: &RunnerEntry, pat: Option<&str>, file: &RunnerConfigFile) -> Result<(), CommandError> {
    let client = server::client(entry, &file.certificates())?;
    let answer = match pat {
        Some(pat) => client.reset_token_of(u64::try_from(entry.id).unwrap_or_default(), pat).await,
        None => client.reset_token(&entry.token).await,
    };
    let runner = answer.map_err(|error| CommandError::new(ErrorKind::Environment, error))?;
    let values = [
        ("token", toml::Value::String(runner.token.expose().to_owned())),
        ("token_obtained_at", server::obtained_now()),
        ("token_expires_at", server::expiry(&runner)),
    ];
    file.change(|text| set_runner_values(text.unwrap_or_default(), index, &values))?;
    tracing::info!(runner = runner.token.short(), "Resetting runner authentication token... succeeded");
    Ok(())
}
