//! The commands, one per file. Each takes decided settings and answers an exit code or a [`CommandError`].

mod completion;
mod coordinator;
mod doctor;
mod engine;
mod image;
mod lint;
mod list;
mod lsp;
mod package_files;
mod preview;
mod registry;
mod run;
mod runner;
mod test;
mod variables;
mod version;
mod why;

use std::{ffi::OsString, path::Path};

use crate::{
    cli::{Cli, Command},
    error::CommandError,
    exit_code::ExitCode,
    log,
    report::Streams,
    settings::GlobalSettings,
};

/// Runs the command that was typed.
pub(crate) fn run(typed: Cli) -> Result<ExitCode, CommandError> {
    // The runner's `--config` is another file, and its log has other forms.
    let is_runner = matches!(typed.command, Command::Runner(_));
    let settings = if is_runner { GlobalSettings::without_file()? } else { GlobalSettings::decide(&typed.global)? };
    let streams = Streams::open(typed.global.color.or(settings.file.color).unwrap_or_default());
    if !is_runner {
        log::start(typed.global.log.as_deref())?;
    }
    match typed.command {
        Command::Run(arguments) => run::run(&arguments, &settings, streams),
        Command::List(arguments) => list::run(&arguments, &settings, streams),
        Command::Lint(arguments) => lint::run(&arguments, &settings, streams),
        Command::Lsp(arguments) => lsp::run(&arguments, &settings),
        Command::Preview(arguments) => preview::run(&arguments, &settings, streams),
        Command::Why(arguments) => why::run(&arguments, &settings, streams),
        Command::Variables(arguments) => variables::run(&arguments, &settings, streams),
        Command::Test(arguments) => test::run(&arguments, &settings, streams),
        Command::Engine(command) => engine::run(command, &settings, streams),
        Command::Registry(command) => registry::run(command, &settings, streams),
        Command::Coordinator(command) => coordinator::run(command, &settings, streams),
        Command::Image(command) => image::run(command, &settings, streams),
        Command::Runner(arguments) => Ok(runner::run(arguments, &settings, streams)),
        Command::Doctor(arguments) => doctor::run(&arguments, &settings, streams),
        Command::Completion(arguments) => Ok(completion::run(&arguments, streams)),
        Command::Version(arguments) => Ok(version::run(&arguments, streams)),
    }
}

/// Runs the command line of `gitlab-runner`.
pub(crate) fn as_gitlab_runner(arguments: Vec<OsString>) -> ExitCode {
    runner::as_gitlab_runner(arguments)
}

/// Writes the files of a package that the program itself describes.
pub(crate) fn package_files(root: &Path) -> Result<ExitCode, CommandError> {
    package_files::write(root)
}
