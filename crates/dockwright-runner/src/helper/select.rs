//! Which files an archive holds.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{HelperError, git_index, glob::Pattern};

/// Files below a directory, by pattern.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Selection {
    /// The project directory; patterns and entries are relative to it.
    pub(crate) directory: PathBuf,
    pub(crate) paths: Vec<String>,
    pub(crate) exclude: Vec<String>,
    /// All files that git does not track, too.
    pub(crate) untracked: bool,
}

impl Selection {
    /// Returns the selected entries relative to the directory, parents before their content, and tells the user what was found.
    pub(super) fn entries(&self, log: &mut dyn Write) -> Result<BTreeSet<PathBuf>, HelperError> {
        let mut entries = BTreeSet::new();
        for path in &self.paths {
            self.add_path(path, &mut entries, log)?;
        }
        if self.untracked {
            self.add_untracked(&mut entries, log)?;
        }
        for rule in &self.exclude {
            let excluded = exclude(rule, &mut entries);
            if excluded > 0 {
                say(log, &format!("{rule}: excluded {excluded} files"));
            }
        }
        Ok(entries)
    }

    fn add_path(&self, path: &str, entries: &mut BTreeSet<PathBuf>, log: &mut dyn Write) -> Result<(), HelperError> {
        let directory = self.directory.display();
        let Some(relative) = relative_pattern(path, &self.directory) else {
            say(log, &format!("WARNING: {path}: artifact path is not a subpath of project directory: {directory}"));
            return Ok(());
        };
        let before = entries.len();
        let pattern = Pattern::new(&relative);
        let base = self.directory.join(pattern.base());
        if base != self.directory && !pattern.base().is_empty() && pattern.matches(pattern.base()) {
            if let Ok(metadata) = fs::symlink_metadata(&base) {
                self.add_tree(&base, metadata.is_dir(), entries)?;
            }
        } else if base.is_dir() {
            self.add_matches(&base, &pattern, relative.is_empty(), entries)?;
        }
        match entries.len() - before {
            0 if !entries.contains(Path::new(&relative)) => say(
                log,
                &format!(
                    "WARNING: {path}: no matching files. Ensure that the artifact path is relative to the working directory ({directory})"
                ),
            ),
            found => say(log, &format!("{path}: found {found} matching artifact files and directories")),
        }
        Ok(())
    }

    /// Adds what matches below `base`, and everything below what matches.
    fn add_matches(&self, base: &Path, pattern: &Pattern, all: bool, entries: &mut BTreeSet<PathBuf>) -> Result<(), HelperError> {
        for (path, is_directory) in children(base)? {
            let relative = self.relative(&path);
            if all || relative.to_str().is_some_and(|text| pattern.matches(text)) {
                self.add_tree(&path, is_directory, entries)?;
            } else if is_directory {
                self.add_matches(&path, pattern, all, entries)?;
            }
        }
        Ok(())
    }

    fn add_tree(&self, path: &Path, is_directory: bool, entries: &mut BTreeSet<PathBuf>) -> Result<(), HelperError> {
        entries.insert(self.relative(path));
        if is_directory {
            for (child, is_directory) in children(path)? {
                self.add_tree(&child, is_directory, entries)?;
            }
        }
        Ok(())
    }

    fn add_untracked(&self, entries: &mut BTreeSet<PathBuf>, log: &mut dyn Write) -> Result<(), HelperError> {
        let index = self.directory.join(".git/index");
        let tracked = match fs::read(&index) {
            Ok(bytes) => git_index::paths(&bytes).map_err(HelperError::file("read the git index", &index))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(HelperError::file("read", &index)(error)),
        };
        let mut all = BTreeSet::new();
        for (path, is_directory) in children(&self.directory)? {
            if path.file_name().is_some_and(|name| name != ".git") {
                self.add_tree(&path, is_directory, &mut all)?;
            }
        }
        let untracked: Vec<PathBuf> =
            all.into_iter().filter(|path| !tracked.contains(path) && !is_directory(&self.directory.join(path))).collect();
        say(log, &format!("untracked: found {} files", untracked.len()));
        entries.extend(untracked);
        Ok(())
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.directory).expect("entries are found by walking the directory").to_owned()
    }
}

fn exclude(rule: &str, entries: &mut BTreeSet<PathBuf>) -> usize {
    let pattern = Pattern::new(rule.trim_start_matches("./"));
    let before = entries.len();
    entries.retain(|path| !path.to_str().is_some_and(|text| pattern.matches(text)));
    before - entries.len()
}

/// Returns a pattern relative to the directory, or `None` when it points elsewhere.
fn relative_pattern(text: &str, directory: &Path) -> Option<String> {
    let inside = match Path::new(text).is_absolute() {
        true => Path::new(text).strip_prefix(directory).ok()?,
        false => Path::new(text),
    };
    let mut components = Vec::new();
    for component in inside.components() {
        match component {
            Component::Normal(name) => components.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => {
                components.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(components.join("/"))
}

/// A directory itself, not a link to one: links are archived as links.
fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Returns what is in a directory, and what of it are directories.
fn children(directory: &Path) -> Result<Vec<(PathBuf, bool)>, HelperError> {
    let read = || -> io::Result<Vec<(PathBuf, bool)>> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.path(), entry.file_type()?.is_dir()))
        };
        fs::read_dir(directory)?.map(entry).collect()
    };
    read().map_err(HelperError::file("list", directory))
}

/// The user's copy of this line may be gone; the work goes on.
fn say(log: &mut dyn Write, text: &str) {
    let _ = writeln!(log, "{text}");
}
