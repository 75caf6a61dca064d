//! `dockwright`: one program with several roles.
//!
//! Roles that make or enter namespaces are chosen before anything else happens, because that must come before any thread or async
//! runtime exists. `cli` is what can be typed, `settings` what was decided, `command` has one file per command, `wire` connects the
//! crates, `report` prints. `ARCHITECTURE.md` has the map.

mod cli;
mod command;
mod docker_config;
mod environment;
mod error;
mod exit_code;
mod internal;
mod log;
mod paths;
mod report;
mod settings;
mod wire;

use std::{ffi::OsStr, path::Path, process::ExitCode};

use clap::Parser as _;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    if arguments.next().as_deref() == Some(OsStr::new(internal::COMMAND)) {
        return internal::run(arguments);
    }
    if Path::new(&program).file_name() == Some(OsStr::new("gitlab-runner")) {
        return command::as_gitlab_runner(std::env::args_os().skip(1).collect()).into();
    }
    let typed = cli::Cli::parse();
    match command::run(typed) {
        Ok(code) => code.into(),
        Err(error) => {
            report::print_error(&error.parts());
            error.exit_code().into()
        }
    }
}
