//! Nothing but failures: the log of each job that failed the pipeline, and warnings.

use super::{Reporter, RunEvent, Streams, streams::print_warning, summary::Summary};

pub(super) struct QuietReporter {
    streams: Streams,
    summary: Summary,
}

impl QuietReporter {
    pub(super) fn new(streams: Streams) -> Self {
        Self { streams, summary: Summary::default() }
    }
}

impl Reporter for QuietReporter {
    fn event(&mut self, event: &RunEvent) {
        self.summary.take(event);
        match event {
            RunEvent::Warning { message, hint } => print_warning(message, hint.as_deref()),
            RunEvent::PipelineFinished { .. } => self.summary.print_failed_logs(&self.streams),
            _ => {}
        }
    }
}
