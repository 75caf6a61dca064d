//! `dockwright preview`.

use crate::{
    cli::PreviewArgs,
    error::CommandError,
    exit_code::ExitCode,
    report::Streams,
    settings::{GlobalSettings, ProjectSettings},
    wire::{Checkout, LoadedPipeline},
};

pub(super) fn run(arguments: &PreviewArgs, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let project = ProjectSettings::decide(&arguments.project, &settings.file.run)?;
    let checkout = Checkout::temporary()?;
    let loaded = LoadedPipeline::load(&project, settings, None, checkout.path())?;
    if let Some(merged) = &loaded.merged {
        let text = if arguments.json { merged.to_json() } else { merged.to_yaml() };
        streams.data(text.trim_end_matches('\n'));
    }
    loaded.report_problems()?;
    Ok(ExitCode::Success)
}
