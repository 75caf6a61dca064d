//! Roles of the binary that this crate provides. They must be entered before the process starts a thread.

use std::process::ExitCode;

/// Becomes a sandbox's PID 1: what the binary does for the arguments of [`crate::sandbox::SandboxSpec::sandbox_arguments`].
pub fn sandbox_main() -> ExitCode {
    crate::sandbox::init::run()
}
