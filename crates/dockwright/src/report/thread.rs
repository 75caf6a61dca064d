//! The thread that owns a reporter, so that writing to a slow terminal never holds up the jobs' own tasks for long.

use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::{Reporter, RunEvent};

/// Events that may wait to be printed; then jobs wait.
const MAX_WAITING_EVENTS: usize = 1024;

/// A reporter at work.
pub(crate) struct ReportThread {
    thread: JoinHandle<()>,
}

impl ReportThread {
    /// Starts it. It ends when the last sender is gone.
    pub(crate) fn start(mut reporter: Box<dyn Reporter>) -> (mpsc::Sender<RunEvent>, Self) {
        let (sender, mut receiver) = mpsc::channel(MAX_WAITING_EVENTS);
        let thread = std::thread::Builder::new()
            .name("report".to_owned())
            .spawn(move || {
                while let Some(event) = receiver.blocking_recv() {
                    reporter.event(&event);
                }
            })
            .expect("a thread can be started");
        (sender, Self { thread })
    }

    /// Waits until everything is printed. All senders must be gone.
    pub(crate) fn finish(self) {
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
