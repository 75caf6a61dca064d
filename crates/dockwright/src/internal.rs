//! Roles that other processes of dockwright, and the scripts that package it, start. People never type them.
//!
//! Roles that make or enter namespaces do so before any thread exists; which is why `main` comes here before anything else.

mod engine_host;

use std::{ffi::OsString, path::Path, process::ExitCode};

use crate::{command, error::CommandError, exit_code, log, report::print_error};

/// First argument of every internal role.
pub(crate) const COMMAND: &str = "internal";
/// Serves engines to its parent, a `dockwright run`.
pub(crate) const ENGINE_HOST: &str = "engine-host";
/// PID 1 of an engine's sandbox.
const SANDBOX: &str = "sandbox";
/// PID 1 of a container with `--init`.
const INIT: &str = "init";
/// The Docker API, in a sandbox.
const ENGINE: &str = "engine";
/// Stands in for dockerd in containers of `docker:dind`.
const DIND: &str = "dind";
/// Works on a job's files, beside the job.
const HELPER: &str = "helper";
/// Writes the files of a package that the program itself describes: unit, man pages, completions.
const PACKAGE_FILES: &str = "package-files";

/// Runs a role; called before any thread exists.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let role = arguments.next().unwrap_or_default();
    match role.to_str() {
        Some(ENGINE_HOST) => {
            log::start_for_role();
            engine_host::run()
        }
        Some(SANDBOX) => dockwright_container::internal::sandbox_main(),
        Some(INIT) => dockwright_container::internal::init_main(arguments),
        Some(ENGINE) => dockwright_engine::engine_main(arguments),
        Some(DIND) => dockwright_engine::dind_main(arguments),
        Some(HELPER) => dockwright_runner::helper::main(arguments),
        Some(PACKAGE_FILES) => {
            let root = arguments.next().unwrap_or_else(|| ".".into());
            end(command::package_files(Path::new(&root)))
        }
        _ => end(Err(CommandError::usage(format!("`{}` is not a role of dockwright", role.to_string_lossy())))),
    }
}

fn end(result: Result<exit_code::ExitCode, CommandError>) -> ExitCode {
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            print_error(&error.parts());
            error.exit_code().into()
        }
    }
}
