//! Roles of the binary that this crate provides. They must be entered before the process starts a thread.

use std::{ffi::OsString, process::ExitCode};

use rustix::process::Pid;

use crate::sys;

/// Arguments with which a container's own PID 1 is executed; the pid of its child is added. Whatever binary a sandbox runs answers them
/// with [`init_main`].
pub(crate) const INIT_ARGUMENTS: [&str; 2] = ["internal", "init"];

/// Becomes a sandbox's PID 1: what the binary does for the arguments of [`crate::sandbox::SandboxSpec::sandbox_arguments`].
pub fn sandbox_main() -> ExitCode {
    crate::sandbox::init::run()
}

/// Becomes the PID 1 of a container that asked for one: what the binary does for `internal init PID`. Hands signals on to that child,
/// reaps whatever ends, and ends as the child does.
pub fn init_main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let child = arguments.next().and_then(|pid| Pid::from_raw(pid.to_str()?.parse().ok()?));
    match child {
        Some(child) => sys::forward_signals_until_exit(child),
        None => ExitCode::FAILURE,
    }
}
