//! Everything that can end a job early, brought together.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task::AbortHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{coordinator::JobSignals, outcome::StopReason};

/// The stop signals of one job. The first reason counts.
pub(super) struct Stops {
    /// Ends the whole job; only clean-up follows.
    pub(super) job: CancellationToken,
    /// Ends the script. Part of `job`.
    pub(super) script: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
    in_scripts: Arc<AtomicBool>,
    watcher: AbortHandle,
}

impl Stops {
    /// Watches the coordinator's signals, the runner's, the trace's and the clock until this is dropped.
    pub(super) fn watch(signals: JobSignals, runner_stop: CancellationToken, trace_lost: CancellationToken, limit: Duration) -> Self {
        let job = CancellationToken::new();
        let script = job.child_token();
        let reason = Arc::new(OnceLock::new());
        let in_scripts = Arc::new(AtomicBool::new(false));
        let task = {
            let (job, script, reason, in_scripts) = (job.clone(), script.clone(), Arc::clone(&reason), Arc::clone(&in_scripts));
            async move {
                let clock = sleep(limit);
                tokio::pin!(clock);
                let mut canceled = false;
                loop {
                    let why = tokio::select! {
                        () = signals.abort.cancelled() => StopReason::Aborted,
                        () = runner_stop.cancelled() => StopReason::Interrupted,
                        () = trace_lost.cancelled() => StopReason::TraceLost,
                        () = &mut clock => StopReason::JobTimeout(limit),
                        () = signals.cancel.cancelled(), if !canceled => StopReason::Canceled,
                    };
                    // Setting fails when there is an earlier reason, which then stays.
                    let _ = reason.set(why);
                    if why != StopReason::Canceled || !in_scripts.load(Ordering::Acquire) {
                        job.cancel();
                        return;
                    }
                    canceled = true;
                    script.cancel();
                }
            }
        };
        let watcher = tokio::spawn(task).abort_handle();
        Self { job, script, reason, in_scripts, watcher }
    }

    pub(super) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    pub(super) fn set_reason(&self, reason: StopReason) {
        // The first reason counts.
        let _ = self.reason.set(reason);
    }

    /// From now on, canceling ends only the script.
    pub(super) fn scripts_start(&self) {
        self.in_scripts.store(true, Ordering::Release);
    }

    /// From here on, canceling comes too late to end anything but the script: uploads run to their end.
    pub(super) fn scripts_end(&self) {
        self.script.cancel();
    }
}

impl Drop for Stops {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Runs something that heeds `stop`, which is cancelled when the limit is over. Tells whether it was.
pub(super) async fn within<T>(limit: Option<Duration>, stop: &CancellationToken, work: impl Future<Output = T>) -> (T, bool) {
    let Some(limit) = limit else { return (work.await, false) };
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => (result, false),
        () = sleep(limit) => {
            stop.cancel();
            (work.await, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(limit: Duration) -> (JobSignals, CancellationToken, Stops) {
        let (signals, runner_stop) = (JobSignals::default(), CancellationToken::new());
        let stops = Stops::watch(signals.clone(), runner_stop.clone(), CancellationToken::new(), limit);
        (signals, runner_stop, stops)
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn canceling_ends_the_script_and_aborting_the_job() {
        let (signals, _, stops) = watch(LONG);
        stops.scripts_start();
        signals.cancel.cancel();
        stops.script.cancelled().await;
        assert!(!stops.job.is_cancelled());
        assert_eq!(stops.reason(), Some(StopReason::Canceled));
        signals.abort.cancel();
        stops.job.cancelled().await;
        assert_eq!(stops.reason(), Some(StopReason::Canceled));
    }

    #[tokio::test]
    async fn canceling_before_the_script_ends_the_job() {
        let (signals, _, stops) = watch(LONG);
        signals.cancel.cancel();
        stops.job.cancelled().await;
        assert_eq!(stops.reason(), Some(StopReason::Canceled));
    }

    #[tokio::test]
    async fn the_runners_end_and_the_clock_end_the_job() {
        let (_, runner_stop, stops) = watch(LONG);
        runner_stop.cancel();
        stops.job.cancelled().await;
        assert_eq!(stops.reason(), Some(StopReason::Interrupted));
        let (_, _, stops) = watch(Duration::ZERO);
        stops.script.cancelled().await;
        assert_eq!(stops.reason(), Some(StopReason::JobTimeout(Duration::ZERO)));
    }
}
