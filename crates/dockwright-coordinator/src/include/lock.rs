//! The lock file `.gitlab-ci.lock`: what references and addresses meant when they were last looked up.
//!
//! ```text
//! commit group/lib v1 4f1c…
//! remote https://example.com/ci.yml sha256-…
//! version group/lib ~latest 1.4.2
//! ```
//!
//! One line for each, sorted, so that changes of two branches merge. Projects of another server begin with its name: `host//group/lib`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Name of the file, at the root of the repository.
const NAME: &str = ".gitlab-ci.lock";
const HEADER: &str =
    "# What this configuration includes from elsewhere. Written by dockwright; keep it in Git. `--refresh` looks everything up anew.";

/// The kinds of lines, and how many words follow each.
const KINDS: [(&str, usize); 3] = [("commit", 3), ("remote", 2), ("version", 3)];

/// A lock file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("read the lock file `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("line {line} of the lock file `{path}` is not understood")]
    Line { path: PathBuf, line: usize },
    #[error("write the lock file `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Everything that is locked: the last word of each line by the words before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LockFile {
    lines: BTreeMap<String, String>,
    is_changed: bool,
}

impl LockFile {
    /// Reads the lock file of a repository; one that does not exist is empty.
    pub(super) fn read(root: &Path) -> Result<Self, LockError> {
        let path = root.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(LockError::Read { path, source }),
        };
        let mut lock = Self::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
            let (key, value) = parse(line).ok_or_else(|| LockError::Line { path: path.clone(), line: index + 1 })?;
            lock.lines.insert(key, value);
        }
        Ok(lock)
    }

    /// Writes it when something changed, and returns where.
    pub(super) fn write(&self, root: &Path) -> Result<Option<PathBuf>, LockError> {
        if !self.is_changed {
            return Ok(None);
        }
        let path = root.join(NAME);
        let mut text = format!("{HEADER}\n");
        for (key, value) in &self.lines {
            text.extend([key, " ", value, "\n"]);
        }
        fs::write(&path, text).map_err(|source| LockError::Write { path: path.clone(), source })?;
        Ok(Some(path))
    }

    /// Returns the commit that a reference of a project meant.
    pub(super) fn commit(&self, project: &str, reference: &str) -> Option<String> {
        self.lines.get(&format!("commit {project} {reference}")).cloned()
    }

    /// References that are commits themselves need no lock.
    pub(super) fn set_commit(&mut self, project: &str, reference: &str, sha: &str) {
        if reference != sha {
            self.set(format!("commit {project} {reference}"), sha);
        }
    }

    /// Returns the digest of a remote file.
    pub(super) fn digest(&self, url: &str) -> Option<String> {
        self.lines.get(&format!("remote {url}")).cloned()
    }

    pub(super) fn set_digest(&mut self, url: &str, digest: &str) {
        self.set(format!("remote {url}"), digest);
    }

    /// Returns the tag that a version like `~latest` meant.
    pub(super) fn version(&self, project: &str, version: &str) -> Option<String> {
        self.lines.get(&format!("version {project} {version}")).cloned()
    }

    pub(super) fn set_version(&mut self, project: &str, version: &str, tag: &str) {
        self.set(format!("version {project} {version}"), tag);
    }

    fn set(&mut self, key: String, value: &str) {
        // What holds a blank cannot be written on a line of words; Git has no such names, and addresses escape them.
        if !value.contains(char::is_whitespace) && parse(&format!("{key} {value}")).is_some() {
            self.is_changed |= self.lines.insert(key, value.to_owned()).as_deref() != Some(value);
        }
    }
}

fn parse(line: &str) -> Option<(String, String)> {
    let words: Vec<&str> = line.split(' ').collect();
    let is_known = KINDS.iter().any(|(kind, count)| words.first() == Some(kind) && words.len() == count + 1);
    let (value, key) = words.split_last()?;
    (is_known && words.iter().all(|word| !word.is_empty())).then(|| (key.join(" "), (*value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut lock = LockFile::read(root.path()).expect("no file is an empty one");
        assert_eq!(lock.write(root.path()).expect("nothing to write"), None);
        lock.set_commit("group/lib", "v1", "abc");
        lock.set_commit("group/lib", "abc", "abc");
        lock.set_digest("https://example.com/a.yml", "sha256-x");
        lock.set_digest("https://example.com/a b.yml", "sha256-x");
        lock.set_version("host//group/lib", "~latest", "1.2.3");
        lock.write(root.path()).expect("written");
        let read = LockFile::read(root.path()).expect("read");
        assert_eq!(read.lines.len(), 3);
        assert_eq!(read.commit("group/lib", "v1").as_deref(), Some("abc"));
        assert_eq!(read.digest("https://example.com/a.yml").as_deref(), Some("sha256-x"));
        assert_eq!(read.version("host//group/lib", "~latest").as_deref(), Some("1.2.3"));
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join(NAME), "# comment\n<<<<<<< HEAD\n").expect("written");
        assert!(matches!(LockFile::read(root.path()), Err(LockError::Line { line: 2, .. })));
    }
}
