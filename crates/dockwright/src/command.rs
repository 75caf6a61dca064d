//! The commands, one per file. Each takes decided settings and answers an exit code or a [`CommandError`].

mod completion;
mod coordinator;
mod doctor;
mod engine;
mod image;
mod lint;
mod list;
mod preview;
mod registry;
mod run;
mod variables;
mod version;
mod why;

use crate::{
    cli::{Cli, Command},
    error::CommandError,
    exit_code::ExitCode,
    log,
    report::{Streams, print_error},
    settings::GlobalSettings,
};

/// Runs the command that was typed.
pub(crate) fn run(typed: Cli) -> Result<ExitCode, CommandError> {
    let settings = GlobalSettings::decide(&typed.global)?;
    let streams = Streams::open(typed.global.color.or(settings.file.color).unwrap_or_default());
    log::start(typed.global.log.as_deref())?;
    match typed.command {
        Command::Run(arguments) => run::run(&arguments, &settings, streams),
        Command::List(arguments) => list::run(&arguments, &settings, streams),
        Command::Lint(arguments) => lint::run(&arguments, &settings, streams),
        Command::Preview(arguments) => preview::run(&arguments, &settings, streams),
        Command::Why(arguments) => why::run(&arguments, &settings, streams),
        Command::Variables(arguments) => variables::run(&arguments, &settings, streams),
        Command::Engine(command) => engine::run(command, &settings, streams),
        Command::Registry(command) => registry::run(command, &settings, streams),
        Command::Coordinator(command) => coordinator::run(command, &settings, streams),
        Command::Image(command) => image::run(command, &settings, streams),
        Command::Doctor(arguments) => doctor::run(&arguments, &settings, streams),
        Command::Completion(arguments) => Ok(completion::run(&arguments, streams)),
        Command::Version(arguments) => Ok(version::run(&arguments, streams)),
    }
}

/// Called as `gitlab-runner`: the runner's commands are a later part.
pub(crate) fn as_gitlab_runner() -> ExitCode {
    let error = CommandError::usage("this version of dockwright has no runner commands (`register`, `run`, …)")
        .hint("to run a pipeline on this machine, call it as `dockwright run` in the repository");
    print_error(&error.parts());
    error.exit_code()
}
