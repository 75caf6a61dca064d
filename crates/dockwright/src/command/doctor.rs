//! `dockwright doctor`: what this machine can do, and the command that mends what it cannot.
//!
//! Each group of checks is a file below. A check looks or tries; what it tries is gone afterwards.

mod finding;
mod kernel;
mod programs;
mod storage;
mod trial;
mod user;

use finding::{Finding, Status};
use serde::Serialize;

use crate::{
    cli::DoctorArgs,
    error::CommandError,
    exit_code::ExitCode,
    report::{FAILURE, FAINT, HINT, SUCCESS, Streams, WARNING},
    settings::GlobalSettings,
};

#[derive(Serialize)]
struct Report {
    /// Jobs can run.
    healthy: bool,
    findings: Vec<Finding>,
}

pub(super) fn run(arguments: &DoctorArgs, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let findings = if arguments.store { storage::check_thoroughly(&settings.paths) } else { examine(settings) };
    let healthy = findings.iter().all(|finding| finding.status != Status::Problem);
    let report = Report { healthy, findings };
    if arguments.json {
        streams.json(&report);
    } else {
        print(&report, streams);
    }
    Ok(if healthy { ExitCode::Success } else { ExitCode::JobFailed })
}

fn examine(settings: &GlobalSettings) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(kernel::check());
    findings.extend(user::check());
    findings.extend(programs::check());
    findings.extend(trial::check(settings));
    // Last, because it moves the process into the namespace of the store's files.
    findings.extend(storage::check(&settings.paths));
    findings
}

fn print(report: &Report, streams: Streams) {
    for finding in &report.findings {
        let (sign, style) = match finding.status {
            Status::Good => ("✓", SUCCESS),
            Status::Remark => ("!", WARNING),
            Status::Problem => ("✗", FAILURE),
        };
        streams.data(format!("{style}{sign}{style:#} {:<18} {}", finding.check, finding.message));
        if let Some(remedy) = &finding.remedy {
            streams.data(format!("  {FAINT}{:<18}{FAINT:#} {HINT}→{HINT:#} {remedy}", ""));
        }
    }
    let problems = report.findings.iter().filter(|finding| finding.status == Status::Problem).count();
    streams.say(match problems {
        0 => "\njobs can run here".to_owned(),
        1 => "\n1 problem stops jobs from running".to_owned(),
        _ => format!("\n{problems} problems stop jobs from running"),
    });
}
