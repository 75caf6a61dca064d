//! `runner list`.

use super::config_file::RunnerConfigFile;
use crate::{cli::RunnerListArgs, error::CommandError, exit_code::ExitCode};

pub(super) fn run(arguments: &RunnerListArgs) -> Result<ExitCode, CommandError> {
    let file = RunnerConfigFile::decide(&arguments.config);
    let loaded = file.load()?;
    tracing::info!(ConfigFile = %file.path().display(), "Listing configured runners");
    for entry in &loaded.file.runners {
        tracing::info!(Executor = entry.executor, Token = entry.token.expose(), URL = entry.url, "{}", entry.name);
    }
    Ok(ExitCode::Success)
}
