//! Roles that other processes of dockwright start. People never type them.
//!
//! Roles that make or enter namespaces do so before any thread exists; which is why `main` comes here before anything else.

mod engine_host;

use std::{ffi::OsString, process::ExitCode};

use crate::{error::CommandError, log, report::print_error};

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
        _ => {
            let error = CommandError::usage(format!("`{}` is not a role of dockwright", role.to_string_lossy()));
            print_error(&error.parts());
            error.exit_code().into()
        }
    }
}
