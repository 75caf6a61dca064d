//! Directories of other projects: those that the user names, and clones that lie beside this repository.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use dockwright_pipeline::{LoadError, LoadErrorKind};

use super::repository::origin;
use crate::project::{Project, Remote};

/// Levels above the repository in which clones are looked for.
const MAX_LEVELS: usize = 4;
/// Levels below a named directory that wildcards look into.
const MAX_DEPTH: usize = 16;

/// Returns the directory that the user named for a project.
pub(super) fn named(project: &str, directory: &Path) -> Result<PathBuf, LoadError> {
    if directory.is_dir() {
        return Ok(directory.to_owned());
    }
    let help = format!("the settings file names `{}` for `{project}`, which is no directory", directory.display());
    Err(LoadError::from(LoadErrorKind::NoProject).help(help))
}

/// Reads a file of a named directory, as it lies there.
pub(super) fn read(directory: &Path, path: &str) -> Result<String, LoadError> {
    let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !is_inside {
        return Err(LoadErrorKind::NotFound.into());
    }
    fs::read_to_string(directory.join(path)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => LoadErrorKind::NotFound.into(),
        _ => LoadErrorKind::Unreadable(error.to_string()).into(),
    })
}

/// Lists the files of a named directory.
pub(super) fn list(directory: &Path) -> Vec<String> {
    let mut files = Vec::new();
    walk(directory, "", 0, &mut files);
    files
}

fn walk(directory: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if name != ".git" && depth < MAX_DEPTH {
                walk(&entry.path(), &format!("{prefix}{name}/"), depth + 1, files);
            }
        } else {
            files.push(format!("{prefix}{name}"));
        }
    }
}

/// Finds a clone of a project beside this repository: below a directory above it, under its path or the end of it, and with a remote on
/// the same server. This repository may be it.
pub(super) fn beside(own: &Project, project: &str) -> Option<PathBuf> {
    if own.remote.path.eq_ignore_ascii_case(project) {
        return Some(own.root.clone());
    }
    let parts: Vec<&str> = project.split('/').collect();
    let ends: Vec<PathBuf> = (0..parts.len()).map(|skipped| parts[skipped..].iter().collect()).collect();
    let candidates = own.root.ancestors().skip(1).take(MAX_LEVELS).flat_map(|above| ends.iter().map(|end| above.join(end)));
    candidates.filter(|path| path.join(".git").exists()).find(|path| {
        let remote = origin(path).and_then(|url| Remote::parse(&url));
        remote.is_some_and(|remote| remote.path.eq_ignore_ascii_case(project) && remote.host == own.remote.host)
    })
}
