//! Asking one server for jobs of one entry.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Numbers,
    slots::{Slot, Slots},
};
use crate::{
    Runner,
    api::{HttpCoordinator, Polled},
};

/// Longest pause between requests to a server that does not answer.
const MAX_PAUSE_SECS: u64 = 30;

/// Longest that a server may take for an answer while others wait for the slot.
const SHORT_POLL_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for jobs of an entry; several may do so for one.
#[derive(Clone)]
pub(super) struct Poller {
    pub(super) runner: Runner,
    pub(super) coordinator: Arc<HttpCoordinator>,
    pub(super) slots: Arc<Slots>,
    /// `limit` of the entry.
    pub(super) limit: Option<Arc<Semaphore>>,
    pub(super) numbers: Arc<Numbers>,
    pub(super) check_interval: Duration,
    /// A request every interval, no sooner.
    pub(super) strict: bool,
    pub(super) stop: CancellationToken,
    pub(super) abort: CancellationToken,
    pub(super) jobs: TaskTracker,
}

impl Poller {
    /// Asks until told to stop. A request that is then open is given up: the server gives a job that nobody confirms to others.
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        let _counted = self.slots.poller();
        let _ = stop.run_until_cancelled(self.ask_forever()).await;
    }

    async fn ask_forever(&self) {
        let mut failures = 0_u32;
        let mut may_hurry = true;
        loop {
            if let Some(rest) = self.coordinator.rest() {
                sleep(rest).await;
            }
            let permit = self.permit().await;
            let slot = self.slots.take().await;
            let began = Instant::now();
            let polled = self.poll().await;
            failures = if matches!(polled, Polled::Failed) { failures.saturating_add(1) } else { 0 };
            let interval = self.check_interval.saturating_sub(began.elapsed());
            let pause = match polled {
                Polled::Job(payload) => {
                    self.start(*payload, slot, permit);
                    if self.strict { interval } else { Duration::ZERO }
                }
                nothing => {
                    // Nobody waits for a slot while this poller does nothing.
                    drop((slot, permit));
                    match nothing {
                        Polled::Nothing { is_news: true } if may_hurry && !self.strict => Duration::ZERO,
                        Polled::Failed => back_off(self.check_interval, failures),
                        _ => interval,
                    }
                }
            };
            may_hurry = !pause.is_zero() || began.elapsed() >= self.check_interval;
            sleep(pause).await;
        }
    }

    /// Lets the server hold the request as long as nobody else needs the slot.
    async fn poll(&self) -> Polled {
        if !self.slots.are_plenty() {
            let answer = timeout(SHORT_POLL_TIMEOUT, self.coordinator.poll_without_waiting()).await;
            return answer.unwrap_or(Polled::Failed);
        }
        tokio::select! {
            polled = self.coordinator.poll() => polled,
            () = self.slots.are_wanted() => Polled::Nothing { is_news: false },
        }
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        match &self.limit {
            Some(limit) => Arc::clone(limit).acquire_owned().await.ok(),
            None => None,
        }
    }

    fn start(&self, payload: dockwright_job::JobPayload, slot: Slot, permit: Option<OwnedSemaphorePermit>) {
        let (runner, abort, slot, number) = (self.runner.clone(), self.abort.clone(), slot.with_job(), self.numbers.take());
        self.jobs.spawn(async move {
            runner.run_job(payload, number.number, abort).await;
            drop((slot, permit, number));
        });
    }
}

fn back_off(interval: Duration, failures: u32) -> Duration {
    let doubled = interval.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(Duration::from_secs(MAX_PAUSE_SECS).max(interval))
}
