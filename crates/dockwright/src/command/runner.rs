//! `dockwright runner`, also as `gitlab-runner`: one file per command.
//!
//! Like GitLab Runner, these commands report in their log and end with 1 whatever went wrong.

mod config_file;
mod health_check;
mod lint;
mod list;
mod register;
mod reset_token;
mod run;
mod run_single;
mod select;
mod server;
mod service;
mod unregister;
mod verify;

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};
use config_file::RunnerConfigFile;
pub(super) use service::Unit;

use crate::{
    cli::{ColorChoice, GitlabRunner, LogFormat, LogLevel, RunnerArgs, RunnerCommand, RunnerLogArgs},
    error::CommandError,
    exit_code::ExitCode,
    log::RunnerLog,
    report::{Streams, print_error},
    settings::GlobalSettings,
};

/// Runs a command of `dockwright runner`.
pub(super) fn run(arguments: RunnerArgs, settings: &GlobalSettings, streams: Streams) -> ExitCode {
    let log = RunnerLog::start(level(&arguments.log), format(&arguments));
    tracing::info!(
        arch = architecture(),
        os = std::env::consts::OS,
        pid = std::process::id(),
        version = env!("CARGO_PKG_VERSION"),
        "Runtime platform"
    );
    let result = match arguments.command {
        RunnerCommand::Register(arguments) => register::run(&arguments, streams),
        RunnerCommand::Verify(arguments) => verify::run(&arguments),
        RunnerCommand::Unregister(arguments) => unregister::run(&arguments),
        RunnerCommand::ResetToken(arguments) => reset_token::run(&arguments),
        RunnerCommand::Run(typed) => run::run(&typed, &arguments.log, &log, settings),
        RunnerCommand::RunSingle(arguments) => run_single::run(&arguments, settings),
        RunnerCommand::Install(arguments) => service::install(&arguments),
        RunnerCommand::Uninstall(arguments) => service::uninstall(&arguments),
        RunnerCommand::Start(arguments) => service::control(&arguments, "start"),
        RunnerCommand::Stop(arguments) => service::control(&arguments, "stop"),
        RunnerCommand::Restart(arguments) => service::control(&arguments, "restart"),
        RunnerCommand::Status(arguments) => service::status(&arguments, streams),
        RunnerCommand::HealthCheck(arguments) => health_check::run(&arguments, streams),
        RunnerCommand::List(arguments) => list::run(&arguments),
        RunnerCommand::Lint(arguments) => lint::run(&arguments, streams),
    };
    result.unwrap_or_else(|error| fail(&error))
}

/// Runs the command line of `gitlab-runner`.
pub(super) fn as_gitlab_runner(arguments: Vec<OsString>) -> ExitCode {
    let streams = Streams::open(ColorChoice::Auto);
    if arguments.first().is_some_and(|first| first == "--version" || first == "-v") {
        print_version(streams);
        return ExitCode::Success;
    }
    let mut command = GitlabRunner::command();
    let arguments = arguments.into_iter().map(|argument| with_two_dashes(argument, &command)).collect::<Vec<_>>();
    let program = std::iter::once(OsString::from("gitlab-runner"));
    let parsed = command.try_get_matches_from_mut(program.chain(arguments)).and_then(|matches| GitlabRunner::from_arg_matches(&matches));
    match parsed {
        Ok(typed) => match GlobalSettings::without_file() {
            Ok(settings) => run(typed.runner, &settings, streams),
            Err(error) => fail(&error),
        },
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() { ExitCode::JobFailed } else { ExitCode::Success }
        }
    }
}

fn fail(error: &CommandError) -> ExitCode {
    print_error(&error.parts());
    ExitCode::JobFailed
}

/// `run` takes the form of its log from the configuration; whatever is wrong with that is said when it is read for good.
fn format(arguments: &RunnerArgs) -> LogFormat {
    let configured = || match &arguments.command {
        RunnerCommand::Run(typed) => RunnerConfigFile::decide(&typed.config).log_format(),
        _ => None,
    };
    arguments.log.log_format.or_else(configured).unwrap_or_default()
}

fn level(typed: &RunnerLogArgs) -> LogLevel {
    if typed.debug == Some(true) { LogLevel::Debug } else { typed.log_level.unwrap_or_default() }
}

/// Go's flags may have one dash where others have two: `-url` is `--url`.
fn with_two_dashes(argument: OsString, command: &clap::Command) -> OsString {
    let Some(name) = argument.to_str().and_then(|text| text.strip_prefix('-')) else { return argument };
    let name = name.split('=').next().unwrap_or_default();
    let is_long = name.len() > 1 && !name.starts_with('-');
    let has_flag = |command: &clap::Command| {
        command.get_arguments().any(|argument| argument.get_long_and_visible_aliases().is_some_and(|names| names.contains(&name)))
    };
    if is_long && command.get_subcommands().any(has_flag) {
        let mut two = OsString::from("-");
        two.push(&argument);
        return two;
    }
    argument
}

/// As GitLab Runner prints it. `Version` is the one whose behaviour is followed: scripts compare it.
fn print_version(streams: Streams) {
    streams.data(format!("Version:      {}", dockwright_runner::api::COMPATIBLE_VERSION));
    streams.data(format!("Git revision: dockwright-{}", env!("CARGO_PKG_VERSION")));
    streams.data("Git branch:   dockwright");
    streams.data("GO version:   none");
    streams.data("Built:        unknown");
    streams.data(format!("OS/Arch:      {}/{}", std::env::consts::OS, architecture()));
}

/// As Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
