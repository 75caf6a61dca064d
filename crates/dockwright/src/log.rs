//! What dockwright says about its own doings, to standard error. What jobs print is the trace, which never comes here.

mod runner;

use std::io;

use tracing_subscriber::EnvFilter;

pub(crate) use runner::RunnerLog;

use crate::{
    environment,
    error::{CommandError, ErrorKind, Explain as _},
};

/// Without a filter, only what somebody should act on is logged.
const DEFAULT_FILTER: &str = "warn";

/// Starts the log of a command.
pub(crate) fn start(filter: Option<&str>) -> Result<(), CommandError> {
    let filter = filter.unwrap_or(DEFAULT_FILTER);
    let parsed = EnvFilter::try_new(filter).explain(ErrorKind::Usage, || format!("understand the log filter `{filter}`"))?;
    subscribe(parsed);
    Ok(())
}

/// Starts the log of an internal role, whose parent has checked the filter.
pub(crate) fn start_for_role() {
    let filter = environment::read(environment::LOG).and_then(|filter| EnvFilter::try_new(filter.to_string_lossy()).ok());
    subscribe(filter.unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER)));
}

fn subscribe(filter: EnvFilter) {
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}
