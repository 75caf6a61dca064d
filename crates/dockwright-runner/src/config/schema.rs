//! Every key of `config.toml`, in one table: its type, how GitLab Runner writes it, its flag of `register`, and what this version does
//! with it.
//!
//! The table has four readers: the check of a file (`check`), the writer of a new entry (`encode`), the flags of `register` and
//! `run-single`, and the reference page. The order of keys is the order in which GitLab Runner writes them.

mod cache;
mod docker;
mod executors;
mod global;
mod key;
mod kubernetes;
mod runner;

pub use self::{
    global::GLOBAL,
    key::{Flag, Key, Kind, Support, Table, Unset},
    runner::RUNNER,
};

/// Name of an executor in `executor = "…"`, and the table that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorName {
    pub name: &'static str,
    /// Tables of `[[runners]]` that `register` keeps for it.
    pub tables: &'static [&'static str],
    /// This version runs its jobs.
    pub runs: bool,
}

impl ExecutorName {
    /// Jobs get containers, so the entry needs a default image.
    pub fn is_docker(self) -> bool {
        self.tables.contains(&"docker")
    }

    /// Returns the executor of this name.
    pub fn find(name: &str) -> Option<Self> {
        EXECUTORS.iter().copied().find(|executor| executor.name == name)
    }
}

/// All executors of GitLab Runner, in the order in which `register` offers them.
pub const EXECUTORS: [ExecutorName; 11] = [
    ExecutorName { name: "custom", tables: &["custom"], runs: true },
    ExecutorName { name: "shell", tables: &[], runs: true },
    ExecutorName { name: "ssh", tables: &["ssh"], runs: false },
    ExecutorName { name: "parallels", tables: &["parallels", "ssh"], runs: false },
    ExecutorName { name: "virtualbox", tables: &["virtualbox", "ssh"], runs: false },
    ExecutorName { name: "docker", tables: &["docker"], runs: true },
    ExecutorName { name: "docker-windows", tables: &["docker"], runs: false },
    ExecutorName { name: "docker+machine", tables: &["docker", "machine"], runs: false },
    ExecutorName { name: "kubernetes", tables: &["kubernetes"], runs: false },
    ExecutorName { name: "docker-autoscaler", tables: &["docker", "autoscaler"], runs: false },
    ExecutorName { name: "instance", tables: &["instance", "autoscaler"], runs: false },
];

/// A key with its place and the class that it has there.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `runners.docker.image`.
    pub path: String,
    pub key: &'static Key,
    /// The table that it is in.
    pub table: &'static Table,
    pub support: Support,
}

/// Lists the keys below a table that hold values, tables excepted.
pub fn entries(table: &'static Table, path: &str) -> Vec<Entry> {
    let mut list = Vec::new();
    collect(table, path, Support::Honoured, &mut list);
    list
}

fn collect(table: &'static Table, path: &str, inherited: Support, list: &mut Vec<Entry>) {
    for key in table.keys {
        let support = key.support.unwrap_or(inherited);
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        match key.kind {
            Kind::Table(inner) | Kind::Tables(inner) => collect(inner, &path, support, list),
            _ => list.push(Entry { path, key, table, support }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key without a class of its own has the class of its table; honoured is never inherited by accident.
    #[test]
    fn every_key_has_a_class() {
        fn check(table: &Table, path: &str, inherited: bool) {
            for key in table.keys {
                let decided = key.support.is_some() || inherited;
                match key.kind {
                    Kind::Table(inner) | Kind::Tables(inner) => check(inner, &format!("{path}.{}", key.name), decided),
                    _ => assert!(decided, "{path}.{} has no class", key.name),
                }
            }
        }
        check(&GLOBAL, "", false);
    }

    #[test]
    fn names_are_unique_within_a_table_even_without_case() {
        fn check(table: &Table, path: &str) {
            let mut names: Vec<String> = table.keys.iter().map(|key| key.name.to_lowercase()).collect();
            names.sort();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{path}: {names:?}");
            for key in table.keys {
                if let Kind::Table(inner) | Kind::Tables(inner) = key.kind {
                    check(inner, key.name);
                }
            }
        }
        check(&GLOBAL, "");
    }
}
