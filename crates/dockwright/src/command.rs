//! The commands, one per file. Each takes decided settings and answers an exit code or a [`CommandError`].

mod completion;
mod doctor;
mod image;
mod version;

use std::io;

use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Command},
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    report::{Streams, print_error},
    settings::GlobalSettings,
};

/// Without a filter, only what somebody should act on is logged.
const DEFAULT_LOG_FILTER: &str = "warn";

/// Runs the command that was typed.
pub(crate) fn run(typed: Cli) -> Result<ExitCode, CommandError> {
    let settings = GlobalSettings::decide(&typed.global)?;
    let streams = Streams::open(typed.global.color.or(settings.file.color).unwrap_or_default());
    start_log(typed.global.log.as_deref())?;
    match typed.command {
        Command::Run(_) | Command::List(_) | Command::Lint(_) | Command::Engine(_) | Command::Registry(_) => {
            Err(CommandError::internal("this command is not connected yet"))
        }
        Command::Image(command) => image::run(command, &settings, streams),
        Command::Doctor(arguments) => doctor::run(&arguments, &settings, streams),
        Command::Completion(arguments) => Ok(completion::run(&arguments, streams)),
        Command::Version(arguments) => Ok(version::run(&arguments, streams)),
    }
}

fn start_log(filter: Option<&str>) -> Result<(), CommandError> {
    let filter = filter.unwrap_or(DEFAULT_LOG_FILTER);
    let filter = EnvFilter::try_new(filter).explain(ErrorKind::Usage, || format!("understand the log filter `{filter}`"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(true).init();
    Ok(())
}

/// Called as `gitlab-runner`: the runner's commands are a later part.
pub(crate) fn as_gitlab_runner() -> ExitCode {
    let error = CommandError::usage("this version of dockwright has no runner commands (`register`, `run`, …)")
        .hint("to run a pipeline on this machine, call it as `dockwright run` in the repository");
    print_error(&error.parts());
    error.exit_code()
}
