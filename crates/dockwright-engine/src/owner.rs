//! What the engine's owner keeps apart from those whom the engine serves.
//!
//! A runner puts a job's own container, its services, their network and their volumes into the engine that the job then uses. A job with
//! a Docker of its own would not see them, and its `docker rm -f $(docker ps -aq)` and `docker system prune` must not end the job itself.
//! So they are in no list that a caller inside of the engine asks for, and in none of its prunes. Whoever has the id or the name still
//! finds them: jobs inspect the container they run in.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::api::Caller;

/// The ids of containers and networks, and the names of volumes, that the owner made.
#[derive(Debug)]
pub(crate) struct OwnersThings {
    kept_apart: bool,
    ids: Mutex<HashSet<String>>,
}

impl OwnersThings {
    /// Begins without any; where they are not `kept_apart`, all callers see the same.
    pub(crate) fn new(kept_apart: bool) -> Self {
        Self { kept_apart, ids: Mutex::default() }
    }

    /// Notes a thing that a caller made.
    pub(crate) fn made(&self, id: &str, by: Caller) {
        if self.kept_apart && by == Caller::Outside {
            self.ids().insert(id.to_owned());
        }
    }

    /// Whether a thing is none of a caller's business.
    pub(crate) fn are_hidden(&self, id: &str, from: Caller) -> bool {
        self.kept_apart && from != Caller::Outside && self.ids().contains(id)
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_sees_what_the_owner_made() {
        let inside = Caller::Process(7);
        let things = OwnersThings::new(true);
        things.made("job", Caller::Outside);
        things.made("db", inside);
        assert!(things.are_hidden("job", inside));
        assert!(!things.are_hidden("job", Caller::Outside));
        assert!(!things.are_hidden("db", inside) && !things.are_hidden("db", Caller::Outside));
    }

    #[test]
    fn a_shared_engine_hides_nothing() {
        let things = OwnersThings::new(false);
        things.made("web", Caller::Outside);
        assert!(!things.are_hidden("web", Caller::Process(7)));
    }
}
