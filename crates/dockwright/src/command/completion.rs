//! `dockwright completion SHELL`.

use clap::CommandFactory as _;

use crate::{
    cli::{Cli, CompletionArgs},
    exit_code::ExitCode,
    report::Streams,
};

pub(super) fn run(arguments: &CompletionArgs, streams: Streams) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "dockwright", &mut script);
    streams.raw_data(&script);
    ExitCode::Success
}
