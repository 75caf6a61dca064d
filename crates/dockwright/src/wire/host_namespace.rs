//! Entering the user namespace in which the store's files belong to their owners. Root stays where it is.

use dockwright_container::rootless::{EnterError, enter_host_namespace};

use super::control::Problem;
use crate::error::{CommandError, ErrorKind};

/// Enters it. Must come before any thread of the process.
pub(crate) fn enter() -> Result<(), CommandError> {
    enter_host_namespace().map_err(|error| {
        let remedy = error.remedy();
        let error = CommandError::new(ErrorKind::Environment, anyhow::Error::new(error).context("run containers without root"));
        match remedy {
            Some(remedy) => error.hint(remedy),
            None => error.hint("`dockwright doctor` looks at what this machine lacks"),
        }
    })
}

/// Enters it, for a process that tells its parent.
pub(crate) fn enter_or_tell() -> Result<(), Problem> {
    enter_host_namespace().map_err(|error: EnterError| {
        let remedy = error.remedy();
        Problem { remedy, ..Problem::of(&error) }
    })
}
