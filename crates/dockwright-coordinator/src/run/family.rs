//! What the run of a pipeline and those of its child pipelines share: the runners that wait for a job, who owns which job, and how files
//! from elsewhere are found.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dockwright_job::{JobId, JobPayload};
use tokio::sync::{mpsc, oneshot, watch};

use super::{ChildIncludes, Request};

/// Where a runner gets its job.
pub(super) type Reply = oneshot::Sender<Option<JobPayload>>;

#[derive(Debug, Clone)]
pub(super) struct Family {
    /// Held while a child pipeline is made: two of them may not write the lock file at once.
    pub(super) includes: Arc<Mutex<ChildIncludes>>,
    waiting: Arc<Mutex<VecDeque<Reply>>>,
    /// Owners of the jobs of child pipelines.
    owners: Arc<Mutex<HashMap<JobId, mpsc::Sender<Request>>>>,
    arrivals: watch::Sender<u64>,
}

impl Family {
    pub(super) fn new(includes: ChildIncludes) -> Self {
        Self {
            includes: Arc::new(Mutex::new(includes)),
            waiting: Arc::default(),
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
