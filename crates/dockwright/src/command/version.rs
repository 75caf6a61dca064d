//! `dockwright version`.

use serde::Serialize;

use crate::{cli::VersionArgs, exit_code::ExitCode, report::Streams};

#[derive(Serialize)]
struct Version {
    version: &'static str,
    os: &'static str,
    architecture: &'static str,
}

pub(super) fn run(arguments: &VersionArgs, streams: Streams) -> ExitCode {
    let version = Version { version: env!("CARGO_PKG_VERSION"), os: std::env::consts::OS, architecture: std::env::consts::ARCH };
    if arguments.json {
        streams.json(&version);
    } else {
        streams.data(format!("dockwright {} ({}/{})", version.version, version.os, version.architecture));
    }
    ExitCode::Success
}
