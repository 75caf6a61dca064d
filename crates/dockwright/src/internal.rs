//! Roles that other processes of dockwright start. People never type them.
//!
//! Roles that make or enter namespaces do so before any thread exists; which is why `main` comes here before anything else.

use std::{ffi::OsString, process::ExitCode};

use crate::error::CommandError;

/// First argument of every internal role.
pub(crate) const COMMAND: &str = "internal";
/// Serves engines to its parent, a `dockwright run`.
pub(crate) const ENGINE_HOST: &str = "engine-host";

/// Runs a role; called before any thread exists.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let role = arguments.next().unwrap_or_default();
    match role.to_str() {
        _ => {
            let error = CommandError::usage(format!("`{}` is not a role of dockwright", role.to_string_lossy()));
            crate::report::print_error(&error.parts());
            error.exit_code().into()
        }
    }
}
