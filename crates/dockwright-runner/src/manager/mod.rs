//! Many runners in one process: the entries of a config.toml, which share the slots for jobs.
//!
//! ```text
//! entry ─► pollers (request_concurrency) ─► limit of the entry ─► slot of the process ─► one request ─► job, on a task of its own
//!              ▲                                                        │ nothing
//!              └──────────── pause (check_interval) ◄───────────────────┘
//! ```
//!
//! Slots are given in the order in which they are asked for. A request that the server may hold open is made only while there are slots
//! for everybody, and given up when somebody needs its slot after all: so no entry keeps another from its jobs. A job that the server
//! hands out at that very moment is not confirmed, and the server gives it to the next who asks. A change of the configuration replaces
//! single entries while jobs of the old ones go on.

mod diff;
mod metrics;
mod poller;
mod single;
mod slots;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    diff::{Change, diff},
    metrics::Metrics,
    single::{SingleLimits, run_single},
};
use self::{metrics::Labels, poller::Poller, slots::Slots};
use crate::{
    EngineProvider, Runner, RunnerConfig,
    api::HttpCoordinator,
    config::{decide::positive, file::RunnerEntry},
};

/// Pause between two requests of an entry when config.toml names none.
const DEFAULT_CHECK_INTERVAL_SECS: u64 = 3;

/// One entry, ready to take jobs.
pub struct ManagedRunner {
    pub entry: RunnerEntry,
    pub coordinator: Arc<HttpCoordinator>,
    pub engines: Arc<dyn EngineProvider>,
    pub config: RunnerConfig,
}

/// Runs jobs of several entries.
pub struct Manager {
    slots: Arc<Slots>,
    metrics: Arc<Metrics>,
    running: Vec<Running>,
    /// Everything that polls or runs a job.
    tasks: TaskTracker,
    check_interval: Duration,
    /// Ends jobs at work.
    abort: CancellationToken,
}

/// An entry that takes jobs.
struct Running {
    entry: RunnerEntry,
    /// Ends its pollers, not its jobs.
    stop: CancellationToken,
}

impl Manager {
    /// Makes a manager for so many jobs at once.
    pub fn new(concurrent: usize, check_interval: i64, metrics: Arc<Metrics>) -> Self {
        metrics.set_concurrent(concurrent);
        Self {
            slots: Arc::new(Slots::new(concurrent)),
            metrics,
            running: Vec::new(),
            tasks: TaskTracker::new(),
            check_interval: interval(check_interval),
            abort: CancellationToken::new(),
        }
    }

    /// Returns the entries that take jobs.
    pub fn entries(&self) -> Vec<RunnerEntry> {
        self.running.iter().map(|running| running.entry.clone()).collect()
    }

    /// Returns how many jobs are at work.
    pub fn jobs(&self) -> usize {
        self.slots.jobs()
    }

    /// Changes what all entries share. The interval counts for entries that are started from now on.
    pub fn set_shared(&mut self, concurrent: usize, check_interval: i64) {
        self.slots.resize(concurrent);
        self.metrics.set_concurrent(concurrent);
        self.check_interval = interval(check_interval);
    }

    /// Starts to take jobs of an entry. Its scratch directory is emptied first.
    pub async fn add(&mut self, managed: ManagedRunner) -> Result<(), crate::CoordinatorError> {
        let ManagedRunner { entry, coordinator, engines, config } = managed;
        let labels = Labels::of(&entry, &config.system_id);
        let (events, received) = mpsc::unbounded_channel();
        let runner = Runner { coordinator: Arc::clone(&coordinator) as _, engines, config: Arc::new(config), events: Some(events) };
        runner.sweep_scratch().await?;
        self.tasks.spawn(Arc::clone(&self.metrics).watch(labels.clone(), received));
        self.metrics.set_limits(&labels, &entry);
        let stop = CancellationToken::new();
        let poller = Poller {
            runner,
            coordinator,
            slots: Arc::clone(&self.slots),
            limit: positive(entry.limit).map(|limit| Arc::new(Semaphore::new(bounded(limit)))),
            numbers: Arc::default(),
            check_interval: self.check_interval,
            strict: entry.strict_check_interval == Some(true),
            stop: stop.clone(),
            abort: self.abort.clone(),
            jobs: self.tasks.clone(),
        };
        for _ in 0..bounded(positive(entry.request_concurrency).unwrap_or(1)) {
            self.tasks.spawn(poller.clone().run());
        }
        self.running.push(Running { entry, stop });
        Ok(())
    }

    /// Takes no more jobs of an entry. Those at work go on.
    pub fn remove(&mut self, entry: &RunnerEntry) {
        self.running.retain(|running| {
            let stays = running.entry != *entry;
            if !stays {
                running.stop.cancel();
            }
            stays
        });
    }

    /// Takes no more jobs at all.
    pub fn drain(&mut self) {
        for running in self.running.drain(..) {
            running.stop.cancel();
        }
        self.tasks.close();
    }

    /// Ends jobs at work; they fail with `runner_interrupted`.
    pub fn abort(&self) {
        self.abort.cancel();
    }

    /// Returns a future that ends when nothing polls and no job runs, after [`Manager::drain`].
    pub fn done(&self) -> impl Future<Output = ()> + use<> {
        let tasks = self.tasks.clone();
        async move { tasks.wait().await }
    }
}

fn interval(seconds: i64) -> Duration {
    Duration::from_secs(positive(seconds).unwrap_or(DEFAULT_CHECK_INTERVAL_SECS))
}

/// Longer queues than this serve nobody.
const MAX_PARALLEL: u64 = 10_000;

fn bounded(number: u64) -> usize {
    usize::try_from(number.min(MAX_PARALLEL)).unwrap_or(1)
}

/// Gives each job at work of an entry the smallest free number.
#[derive(Debug, Default)]
struct Numbers(std::sync::Mutex<BTreeSet<usize>>);

impl Numbers {
    fn take(self: &Arc<Self>) -> Number {
        let mut taken = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let number = (0..).find(|number| !taken.contains(number)).unwrap_or_default();
        taken.insert(number);
        Number { number, of: Arc::clone(self) }
    }
}

/// A number that is free again when dropped.
struct Number {
    number: usize,
    of: Arc<Numbers>,
}

impl Drop for Number {
    fn drop(&mut self) {
        self.of.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_free_number_is_taken() {
        let numbers = Arc::<Numbers>::default();
        let (first, second) = (numbers.take(), numbers.take());
        assert_eq!((first.number, second.number), (0, 1));
        drop(first);
        assert_eq!((numbers.take().number, second.number), (0, 1));
    }
}
