//! What a new configuration changes.

use crate::config::file::{ConfigFile, RunnerEntry};

/// What to do to get from one configuration to another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// Entries to start.
    pub added: Vec<RunnerEntry>,
    /// Entries to stop. One that has changed is in both lists.
    pub removed: Vec<RunnerEntry>,
    /// `concurrent` or `check_interval` is another; the entries that stay have to be started anew for the latter.
    pub shared: bool,
}

impl Change {
    /// Tells whether everything stays as it is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares the entries at work with a new file. Their order does not matter; an entry that stands twice is two entries.
pub fn diff(running: &[RunnerEntry], old: &ConfigFile, new: &ConfigFile) -> Change {
    let restart = old.check_interval != new.check_interval;
    let mut removed: Vec<RunnerEntry> = running.to_vec();
    let mut added = Vec::new();
    for entry in &new.runners {
        match removed.iter().position(|known| known == entry).filter(|_| !restart) {
            Some(index) => {
                removed.swap_remove(index);
            }
            None => added.push(entry.clone()),
        }
    }
    Change { added, removed, shared: restart || old.concurrent != new.concurrent }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(concurrent: i64, names: &[(&str, i64)]) -> ConfigFile {
        let entry = |(name, limit): &(&str, i64)| RunnerEntry { name: (*name).to_owned(), limit: *limit, ..RunnerEntry::default() };
        ConfigFile { concurrent, runners: names.iter().map(entry).collect(), ..ConfigFile::default() }
    }

    fn check(old: &ConfigFile, new: &ConfigFile, added: &[&str], removed: &[&str], shared: bool) {
        let change = diff(&old.runners, old, new);
        let names = |entries: &[RunnerEntry]| entries.iter().map(|entry| format!("{}{}", entry.name, entry.limit)).collect::<Vec<_>>();
        assert_eq!((names(&change.added), names(&change.removed), change.shared), (owned(added), owned(removed), shared));
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_what_changed_is_touched() {
        let old = file(1, &[("a", 0), ("b", 0), ("b", 0)]);
        check(&old, &old, &[], &[], false);
        check(&old, &file(1, &[("b", 0), ("a", 0), ("b", 0)]), &[], &[], false);
        check(&old, &file(4, &[("a", 0), ("b", 0), ("b", 0)]), &[], &[], true);
        check(&old, &file(1, &[("a", 2), ("b", 0)]), &["a2"], &["a0", "b0"], false);
        check(&old, &file(1, &[("a", 0), ("b", 0), ("b", 0), ("c", 0)]), &["c0"], &[], false);
        check(&old, &file(1, &[]), &[], &["a0", "b0", "b0"], false);
    }

    #[test]
    fn another_interval_starts_all_anew() {
        let old = file(1, &[("a", 0)]);
        check(&old, &ConfigFile { check_interval: 9, ..old.clone() }, &["a0"], &["a0"], true);
    }
}
