//! Every environment variable that dockwright reads, and the only place that reads them.
//!
//! Flags with a variable of their own (`--jobs` and `DOCKWRIGHT_JOBS`) are read by the command line parser; the names stand here too, so
//! that the reference page and the code share one list.

use std::{ffi::OsString, path::PathBuf};

/// Where the store, the scratch directories and the pipelines' results live.
pub(crate) const HOME: &str = "DOCKWRIGHT_HOME";
/// Settings file to read instead of `$XDG_CONFIG_HOME/dockwright/config.toml`.
pub(crate) const CONFIG: &str = "DOCKWRIGHT_CONFIG";
/// What to write to standard error about dockwright's own doings, as in `debug` or `dockwright_engine=trace`.
pub(crate) const LOG: &str = "DOCKWRIGHT_LOG";
/// How many jobs run at once.
pub(crate) const JOBS: &str = "DOCKWRIGHT_JOBS";
/// When job images are pulled.
pub(crate) const PULL: &str = "DOCKWRIGHT_PULL";
/// A Docker daemon to run jobs on instead of the embedded engine.
pub(crate) const DOCKER_ENDPOINT: &str = "DOCKWRIGHT_DOCKER_HOST";

/// Returns a variable that is set and not empty.
pub(crate) fn read(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns a variable as an absolute path; XDG says that relative ones are ignored.
pub(crate) fn absolute_path(name: &str) -> Option<PathBuf> {
    read(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// True inside a CI system, where nobody watches a terminal.
pub(crate) fn in_ci() -> bool {
    read("CI").is_some_and(|value| value != "false" && value != "0")
}
