//! `dockwright image …`: the images in the store that all engines of this machine share.

mod import;
mod ls;
mod pull;
mod rm;

use dockwright_store::Store;

use crate::{
    cli::ImageCommand,
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    paths::Paths,
    report::Streams,
    settings::GlobalSettings,
    wire::host_namespace,
};

pub(super) fn run(command: ImageCommand, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    // Before anything else: the files of the store belong to ids of this namespace, and no thread exists yet.
    host_namespace::enter()?;
    let store = open_store(&settings.paths)?;
    match command {
        ImageCommand::Ls(arguments) => ls::run(&arguments, &store, streams),
        ImageCommand::Import(arguments) => import::run(&arguments, &store, streams),
        ImageCommand::Pull(arguments) => pull::run(&arguments, &store, streams),
        ImageCommand::Rm(arguments) => rm::run(&arguments, &store, streams),
    }
}

fn open_store(paths: &Paths) -> Result<Store, CommandError> {
    let directory = paths.store();
    Store::open(&directory).explain(ErrorKind::Environment, || format!("open the store `{}`", directory.display()))
}
