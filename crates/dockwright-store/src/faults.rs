//! Tests only: let the n-th step of an operation fail.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::store::Store;

/// Counts steps; fails the one that was chosen.
#[derive(Default)]
pub(crate) struct Faults {
    taken: AtomicU64,
    fail_at: AtomicU64,
}

impl Faults {
    pub(crate) fn step(&self, name: &'static str) -> io::Result<()> {
        let number = self.taken.fetch_add(1, Ordering::SeqCst) + 1;
        if number == self.fail_at.load(Ordering::SeqCst) {
            return Err(io::Error::other(format!("injected at step {number}: {name}")));
        }
        Ok(())
    }

    fn arm(&self, fail_at: u64) {
        self.taken.store(0, Ordering::SeqCst);
        self.fail_at.store(fail_at, Ordering::SeqCst);
    }
}

/// Fails `operation` at its first step, its second, and so on until it succeeds; calls `check` after each.
pub(crate) fn fail_each_step<T, E>(store: &Store, mut operation: impl FnMut() -> Result<T, E>, mut check: impl FnMut(Option<T>)) {
    for fail_at in 1.. {
        store.inner.faults.arm(fail_at);
        let outcome = operation().ok();
        let steps = store.inner.faults.taken.load(Ordering::SeqCst);
        store.inner.faults.arm(0);
        let succeeded = outcome.is_some();
        check(outcome);
        if succeeded {
            assert!(steps > 0, "the operation has no step that could fail");
            return;
        }
    }
}
