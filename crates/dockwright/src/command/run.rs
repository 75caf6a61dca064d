//! `dockwright run`.

use dockwright_coordinator::PipelineStatus;

use crate::{
    cli::RunArgs,
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    report::{ReportThread, Streams},
    settings::{GlobalSettings, RunSettings},
    wire::{RunEnd, host_setup, run_pipeline},
};

pub(super) fn run(arguments: &RunArgs, global: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let settings = RunSettings::decide(arguments, &global.file.run, &streams)?;
    let runtime = host_setup::runtime().explain(ErrorKind::Environment, || "start the async runtime".to_owned())?;
    let (events, report) = ReportThread::start(settings.report.reporter(streams));
    let ended = runtime.block_on(run_pipeline(&settings, global, events));
    // Ends whatever still holds a sender of events, so that the report can end too.
    drop(runtime);
    report.finish();
    ended.map(exit_code)
}

fn exit_code(end: RunEnd) -> ExitCode {
    match (end.signal, end.status) {
        (Some(signal), _) => signal.exit_code(),
        (None, PipelineStatus::Success | PipelineStatus::Skipped) => ExitCode::Success,
        (None, PipelineStatus::Manual) => ExitCode::Blocked,
        (None, PipelineStatus::Canceled) => ExitCode::Interrupted,
        (None, _) => ExitCode::JobFailed,
    }
}
