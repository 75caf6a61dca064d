//! What the run of a pipeline and those of its child pipelines share: the runners that wait for a job, who owns which job, and how files
//! from elsewhere are found.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dockwright_job::{Dependency, JobId, JobPayload};
use indexmap::IndexMap;
use tokio::sync::{mpsc, oneshot, watch};

use super::{ChildIncludes, Request};

/// Where a runner gets its job.
pub(super) type Reply = oneshot::Sender<Option<JobPayload>>;

/// What a job left for jobs of other pipelines.
#[derive(Debug, Clone)]
pub(super) struct Left {
    /// Absent: it left no archive.
    pub(super) dependency: Option<Dependency>,
    /// Variables of its dotenv report.
    pub(super) dotenv: IndexMap<String, String>,
}

#[derive(Debug, Clone)]
pub(super) struct Family {
    /// Held while a child pipeline is made: two of them may not write the lock file at once.
    pub(super) includes: Arc<Mutex<ChildIncludes>>,
    waiting: Arc<Mutex<VecDeque<Reply>>>,
    /// What jobs that succeeded left, by pipeline and name.
    left: Arc<Mutex<HashMap<(u64, String), Left>>>,
    /// Owners of the jobs of child pipelines.
    owners: Arc<Mutex<HashMap<JobId, mpsc::Sender<Request>>>>,
    arrivals: watch::Sender<u64>,
}

impl Family {
    pub(super) fn new(includes: ChildIncludes) -> Self {
        Self {
            includes: Arc::new(Mutex::new(includes)),
            waiting: Arc::default(),
            left: Arc::default(),
            owners: Arc::default(),
            arrivals: watch::Sender::default(),
        }
    }

    /// Lets a runner wait, and tells all owners.
    pub(super) fn wait(&self, reply: Reply) {
        self.waiting().push_back(reply);
        self.arrivals.send_modify(|count| *count += 1);
    }

    /// Puts a runner that was taken back before all others.
    pub(super) fn put_back(&self, reply: Reply) {
        self.waiting().push_front(reply);
    }

    /// Takes the runner that has waited longest and is still there.
    pub(super) fn take_waiting(&self) -> Option<Reply> {
        let mut waiting = self.waiting();
        while let Some(reply) = waiting.pop_front() {
            if !reply.is_closed() {
                return Some(reply);
            }
        }
        None
    }

    /// Tells when runners arrive.
    pub(super) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// Keeps what a job left.
    pub(super) fn leave(&self, pipeline: u64, job: &str, left: Left) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).insert((pipeline, job.to_owned()), left);
    }

    /// Returns what a job left, if it succeeded.
    pub(super) fn left(&self, pipeline: u64, job: &str) -> Option<Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).get(&(pipeline, job.to_owned())).cloned()
    }

    /// Says who owns a job of a child pipeline.
    pub(super) fn own(&self, job: JobId, owner: mpsc::Sender<Request>) {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).insert(job, owner);
    }

    /// Returns the owner of a job of a child pipeline.
    pub(super) fn owner(&self, job: JobId) -> Option<mpsc::Sender<Request>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).get(&job).cloned()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Reply>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
