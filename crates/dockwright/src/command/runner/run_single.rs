//! `runner run-single`: one runner, one job after the other.

use std::time::Duration;

use dockwright_runner::{
    config::file::{LoadedConfig, RunnerEntry},
    manager::{SingleLimits, run_single},
};
use tokio_util::sync::CancellationToken;

use super::{config_file::RunnerConfigFile, run::Runners, server};
use crate::{
    cli::RunSingleArgs,
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    settings::GlobalSettings,
    wire::Stop,
};

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn run(arguments: &RunSingleArgs, settings: &GlobalSettings) -> Result<ExitCode, CommandError> {
    let file = RunnerConfigFile::decide(&arguments.config);
    let entry = entry(arguments, &file)?;
    if entry.url.is_empty() || entry.token.expose().is_empty() || entry.executor.is_empty() {
        return Err(CommandError::usage("a runner needs --url, --token and --executor"));
    }
    let runtime = server::runtime()?;
    let ended = runtime.block_on(async {
        let mut runners = Runners::prepare(settings, &file, None)?;
        let managed = runners.make(entry, &file)?;
        let limits = SingleLimits {
            jobs: Some(arguments.max_builds).filter(|jobs| *jobs > 0),
            idle: Some(Duration::from_secs(arguments.wait_timeout)).filter(|idle| !idle.is_zero()),
        };
        let mut stop = Stop::listen().explain(ErrorKind::Environment, || "wait for signals".to_owned())?;
        let abort = CancellationToken::new();
        let mut work = std::pin::pin!(run_single(managed, limits, abort.clone()));
        let result = tokio::select! {
            result = &mut work => result,
            _ = stop.wait() => {
                abort.cancel();
                tokio::select! {
                    result = &mut work => result,
                    () = tokio::time::sleep(SHUTDOWN_TIMEOUT) => Ok(()),
                    _ = stop.wait() => Ok(()),
                }
            }
        };
        runners.end().await;
        result.map_err(|error| CommandError::new(ErrorKind::Environment, error))
    });
    runtime.shutdown_background();
    ended.map(|()| ExitCode::Success)
}

/// The entry of that name, or the one that the flags describe.
fn entry(arguments: &RunSingleArgs, file: &RunnerConfigFile) -> Result<RunnerEntry, CommandError> {
    let Some(name) = &arguments.runner else {
        let value = toml::Value::Table(arguments.options.values.clone());
        return value.try_into().explain(ErrorKind::Usage, || "understand the runner's options".to_owned());
    };
    let LoadedConfig { file: loaded, .. } = file.load()?;
    let entry = loaded.runners.into_iter().find(|entry| entry.name == *name);
    entry.ok_or_else(|| CommandError::usage(format!("no runner `{name}` in `{}`", file.path().display())))
}
