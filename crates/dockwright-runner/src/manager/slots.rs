//! The slots that all entries share: `concurrent` of them, given in the order in which they are asked for.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// `concurrent`, which may change.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    size: Mutex<Size>,
    /// Those who ask for slots again and again.
    pollers: AtomicUsize,
    jobs: AtomicUsize,
    /// Somebody waits for a slot.
    wanted: Notify,
}

#[derive(Debug)]
struct Size {
    slots: usize,
    /// Slots that are in use and end when they are given back.
    surplus: usize,
}

/// The right to run one job, or to ask for one.
#[derive(Debug)]
pub(super) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    slots: Arc<Slots>,
    runs_job: bool,
}

impl Slots {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(slots)),
            size: Mutex::new(Size { slots, surplus: 0 }),
            pollers: AtomicUsize::new(0),
            jobs: AtomicUsize::new(0),
            wanted: Notify::new(),
        }
    }

    /// Waits for a slot. Whoever asked first gets the first.
    pub(super) async fn take(self: &Arc<Self>) -> Slot {
        if self.free.available_permits() == 0 {
            self.wanted.notify_one();
        }
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Slot { permit, slots: Arc::clone(self), runs_job: false }
    }

    /// Counts somebody who asks for slots again and again, until the answer is dropped.
    pub(super) fn poller(self: &Arc<Self>) -> PollerCount {
        self.pollers.fetch_add(1, Ordering::Relaxed);
        PollerCount(Arc::clone(self))
    }

    /// Tells whether there is a slot for everybody who may ask for one, so that one can be kept while a server holds a request.
    pub(super) fn are_plenty(&self) -> bool {
        let slots = self.size.lock().unwrap_or_else(PoisonError::into_inner).slots;
        slots >= self.pollers.load(Ordering::Relaxed) + self.jobs()
    }

    /// Waits until somebody needs a slot and there is none. One of those who wait here is told.
    pub(super) async fn are_wanted(&self) {
        self.wanted.notified().await;
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Changes their number. Jobs that are too many go on, and their slots end with them.
    pub(super) fn resize(&self, slots: usize) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if slots >= size.slots {
            let more = slots - size.slots;
            let settled = more.min(size.surplus);
            size.surplus -= settled;
            self.free.add_permits(more - settled);
        } else {
            let fewer = size.slots - slots;
            size.surplus += fewer - self.free.forget_permits(fewer);
        }
        size.slots = slots;
    }
}

impl Slot {
    /// Notes that a job runs in it.
    pub(super) fn with_job(mut self) -> Self {
        self.runs_job = true;
        self.slots.jobs.fetch_add(1, Ordering::Relaxed);
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.runs_job {
            self.slots.jobs.fetch_sub(1, Ordering::Relaxed);
        }
        let mut size = self.slots.size.lock().unwrap_or_else(PoisonError::into_inner);
        if size.surplus > 0 {
            size.surplus -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

/// Somebody who asks for slots.
pub(super) struct PollerCount(Arc<Slots>);

impl Drop for PollerCount {
    fn drop(&mut self) {
        self.0.pollers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_number_follows_the_configuration() {
        let slots = Arc::new(Slots::new(2));
        let (first, second) = (slots.take().await, slots.take().await);
        assert!(slots.take().now_or_never().is_none());
        slots.resize(1);
        drop(first);
        assert!(slots.take().now_or_never().is_none(), "the slot of the first job has ended");
        slots.resize(3);
        let third = slots.take().now_or_never().expect("a free slot");
        drop((second, third));
        slots.resize(1);
        let only = slots.take().now_or_never().expect("a free slot").with_job();
        assert_eq!(slots.jobs(), 1);
        assert!(slots.take().now_or_never().is_none());
        drop(only);
        assert_eq!(slots.jobs(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_longest_is_next() {
        let slots = Arc::new(Slots::new(1));
        let held = slots.take().await;
        let mut first = Box::pin(slots.take());
        assert!((&mut first).now_or_never().is_none());
        let mut second = Box::pin(slots.take());
        assert!((&mut second).now_or_never().is_none());
        drop(held);
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut first).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_keeps_a_slot_is_told_when_it_is_wanted() {
        let slots = Arc::new(Slots::new(2));
        let _pollers = (slots.poller(), slots.poller());
        let (first, _second) = (slots.take().await, slots.take().await);
        assert!(slots.are_plenty() && slots.are_wanted().now_or_never().is_none());
        let first = first.with_job();
        assert!(!slots.are_plenty());
        assert!(slots.take().now_or_never().is_none());
        assert!(slots.are_wanted().now_or_never().is_some() && slots.are_wanted().now_or_never().is_none());
        drop(first);
        assert!(slots.are_plenty());
    }
}
