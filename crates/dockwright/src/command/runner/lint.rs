//! `runner lint`: what is wrong with config.toml, and what of it has no effect in this version.

use dockwright_runner::config::{UsedKey, file::LoadedConfig, schema::Support};

use super::config_file::{RunnerConfigFile, print_problems, variable};
use crate::{cli::RunnerLintArgs, error::CommandError, exit_code::ExitCode, report::Streams};

pub(super) fn run(arguments: &RunnerLintArgs, streams: Streams) -> Result<ExitCode, CommandError> {
    let file = RunnerConfigFile::decide(&arguments.config);
    let text = file
        .read()?
        .ok_or_else(|| CommandError::configuration(format!("configuration file `{}` does not exist", file.path().display())))?;
    let loaded = LoadedConfig::read(&text, variable);
    print_problems(&loaded.problems, file.path(), &text);
    for key in &loaded.used {
        if let Some(remark) = remark(key) {
            let line = key.span.as_ref().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            streams.data(format!("{}:{line}: {remark}", file.path().display()));
        }
    }
    if !loaded.is_valid() {
        return Ok(ExitCode::JobFailed);
    }
    streams.data("Configuration file is valid.");
    Ok(ExitCode::Success)
}

/// Returns what a reader should know of a key that is not simply honoured.
pub(super) fn remark(key: &UsedKey) -> Option<String> {
    match key.support {
        Support::Honoured => None,
        Support::Approximated(how) => Some(format!("`{}` is approximated: {how}", key.path)),
        Support::Ignored(why) => Some(format!("`{}` has no effect: {why}", key.path)),
    }
}
