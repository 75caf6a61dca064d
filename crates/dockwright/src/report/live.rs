//! For a terminal: one line per running job, redrawn in place; finished jobs scroll up; the failing job's log comes at the end.

use std::{collections::HashMap, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    JobOutcome, Reporter, RunEvent, Streams,
    plain::plural,
    streams::{FAINT, HINT, WARNING},
    summary::{Summary, words_for_time},
};

const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct LiveReporter {
    streams: Streams,
    screen: MultiProgress,
    bars: HashMap<String, ProgressBar>,
    width: usize,
    summary: Summary,
}

impl LiveReporter {
    pub(super) fn new(streams: Streams) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { streams, screen, bars: HashMap::new(), width: 0, summary: Summary::default() }
    }

    fn start_job(&mut self, job: &str) {
        let style = ProgressStyle::with_template("{spinner:.cyan} {prefix} {elapsed:>5} {wide_msg:.dim}")
            .expect("the template is constant")
            .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ");
        let bar = self.screen.add(ProgressBar::new_spinner().with_style(style));
        bar.set_prefix(format!("{job:width$}", width = self.width));
        bar.enable_steady_tick(REDRAW_INTERVAL);
        self.bars.insert(job.to_owned(), bar);
    }

    fn show(&self, job: &str, message: String) {
        if let Some(bar) = self.bars.get(job) {
            bar.set_message(message);
        }
    }

    fn finish_job(&mut self, job: &str, outcome: &JobOutcome, duration: Duration) {
        if let Some(bar) = self.bars.remove(job) {
            bar.finish_and_clear();
            self.screen.remove(&bar);
        }
        if matches!(outcome, JobOutcome::Skipped | JobOutcome::Manual) {
            return;
        }
        let (sign, style) = outcome.sign();
        let time = words_for_time(duration);
        self.scroll(format!("{style}{sign}{style:#} {job:width$}  {time:>12}  {}", outcome.words(), width = self.width));
    }

    /// Prints a line above the live ones.
    fn scroll(&self, line: String) {
        self.screen.suspend(|| self.streams.say(line));
    }
}

impl Reporter for LiveReporter {
    fn event(&mut self, event: &RunEvent) {
        self.summary.take(event);
        match event {
            RunEvent::PipelineStarted { project, ref_name, sha, jobs, .. } => {
                self.width = jobs.iter().map(|job| job.chars().count()).max().unwrap_or(0);
                let sha = sha.get(..8).unwrap_or(sha);
                self.scroll(format!("{FAINT}{project}, {ref_name} at {sha}: {} {}{FAINT:#}", jobs.len(), plural(jobs.len())));
            }
            RunEvent::JobStarted { job, .. } => self.start_job(job),
            RunEvent::JobPhase { job, phase } => self.show(job, phase.replace('_', " ")),
            RunEvent::JobOutput { job, line } => self.show(job, anstream::adapter::strip_str(line).to_string()),
            RunEvent::JobFinished { job, outcome, duration, .. } => self.finish_job(job, outcome, *duration),
            RunEvent::Warning { message, hint } => {
                self.scroll(format!("{WARNING}warning:{WARNING:#} {message}"));
                if let Some(hint) = hint {
                    self.scroll(format!("{HINT}hint:{HINT:#} {hint}"));
                }
            }
            RunEvent::ImagePushed { .. } => {}
            RunEvent::PipelineFinished { status, duration } => {
                self.summary.print_idle_jobs(&self.streams);
                self.summary.print_failed_logs(&self.streams);
                self.summary.print_end(&self.streams, *status, *duration);
            }
        }
    }
}
