//! `dockwright image pull`.
use crate::{cli::ImagePullArgs, error::CommandError, exit_code::ExitCode, report::Streams};
use dockwright_store::Store;
pub(super) fn run(_arguments: &ImagePullArgs, _store: &Store, _streams: Streams) -> Result<ExitCode, CommandError> {
    Ok(ExitCode::Internal)
}
