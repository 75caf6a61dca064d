//! For logs and pipes: what jobs print as it comes, each line with its job's name before it.

use anstyle::{AnsiColor, Style};

use super::{
    JobOutcome, Reporter, RunEvent, Streams,
    streams::{FAINT, print_warning},
    summary::{Summary, words_for_time},
};

/// Jobs take these in turn, so that neighbours differ.
const JOB_COLORS: [AnsiColor; 5] = [AnsiColor::Cyan, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Green, AnsiColor::Yellow];

pub(super) struct PlainReporter {
    streams: Streams,
    jobs: Vec<String>,
    width: usize,
    summary: Summary,
}

impl PlainReporter {
    pub(super) fn new(streams: Streams) -> Self {
        Self { streams, jobs: Vec::new(), width: 0, summary: Summary::default() }
    }

    fn prefix(&self, job: &str) -> String {
        let place = self.jobs.iter().position(|known| known == job).unwrap_or(0);
        let style: Style = JOB_COLORS[place % JOB_COLORS.len()].on_default();
        format!("{style}{job:width$} |{style:#}", width = self.width)
    }
}

impl Reporter for PlainReporter {
    fn event(&mut self, event: &RunEvent) {
        self.summary.take(event);
        match event {
            RunEvent::PipelineStarted { project, ref_name, sha, jobs, .. } => {
                self.width = jobs.iter().map(|job| job.chars().count()).max().unwrap_or(0);
                self.jobs = jobs.clone();
                let sha = sha.get(..8).unwrap_or(sha);
                self.streams.say(format!("{FAINT}{project}, {ref_name} at {sha}: {} {}{FAINT:#}", jobs.len(), plural(jobs.len())));
            }
            RunEvent::JobStarted { job, .. } => self.streams.say(format!("{} {FAINT}started{FAINT:#}", self.prefix(job))),
            RunEvent::JobOutput { job, line } => self.streams.data(format!("{} {line}", self.prefix(job))),
            RunEvent::JobFinished { job, outcome, duration, .. } => {
                if matches!(outcome, JobOutcome::Skipped | JobOutcome::Manual) {
                    return;
                }
                let (sign, style) = outcome.sign();
                let time = words_for_time(*duration);
                self.streams.say(format!("{} {style}{sign} {}{style:#} in {time}", self.prefix(job), outcome.words()));
            }
            RunEvent::Warning { message, hint } => print_warning(message, hint.as_deref()),
            RunEvent::PipelineFinished { status, duration } => {
                self.streams.say("");
                self.summary.print_jobs(&self.streams);
                self.summary.print_end(&self.streams, *status, *duration);
            }
            RunEvent::JobPhase { .. } | RunEvent::ImagePushed { .. } => {}
        }
    }
}

pub(super) fn plural(jobs: usize) -> &'static str {
    if jobs == 1 { "job" } else { "jobs" }
}
