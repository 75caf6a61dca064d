//! What rules ask about the files of the commit: which there are, and which changed. Git is asked when a rule does, and once.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use dockwright_pipeline::Repository;

use super::{NO_COMMIT, Project, git};

/// What an event's changes are changes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// This commit: the state of the branch before a push, or where it left the target of a merge request.
    Commit(String),
    /// Nobody knows: a new branch, a tag, a schedule, a start by hand.
    Unknown,
}

impl Base {
    /// Returns the base of an event.
    pub(crate) fn of(project: &Project, source: &str) -> Self {
        match (&project.changes_base, &project.merge_request) {
            (Some(sha), _) => Self::Commit(sha.clone()),
            (None, Some(merge_request)) => Self::Commit(merge_request.base_sha.clone()),
            (None, None) if source != "push" || project.is_tag || project.before_sha == NO_COMMIT => Self::Unknown,
            (None, None) => Self::Commit(project.before_sha.clone()),
        }
    }
}

/// The files of a project's commit.
#[derive(Debug)]
pub(crate) struct ProjectFiles {
    root: PathBuf,
    sources: PathBuf,
    sha: String,
    base: Base,
    changed: OnceLock<Option<Arc<[String]>>>,
    files: OnceLock<Arc<[String]>>,
    since: Mutex<HashMap<String, Option<Arc<[String]>>>>,
}

impl ProjectFiles {
    pub(crate) fn new(project: &Project, base: Base) -> Self {
        Self {
            root: project.root.clone(),
            sources: project.sources.clone(),
            sha: project.sha.clone(),
            base,
            changed: OnceLock::new(),
            files: OnceLock::new(),
            since: Mutex::default(),
        }
    }

    fn branched_from(&self, reference: &str) -> Option<Arc<[String]>> {
        self.between(&branching_point(&self.root, &self.sources, &self.sha, reference)?)
    }

    fn between(&self, base: &str) -> Option<Arc<[String]>> {
        git(&self.sources, &["diff", "--name-only", "-z", base, &self.sha]).text().ok().map(|text| paths(&text))
    }
}

impl Repository for ProjectFiles {
    fn changed_paths(&self) -> Option<Arc<[String]>> {
        let look = || match &self.base {
            Base::Commit(sha) => self.between(sha),
            Base::Unknown => None,
        };
        self.changed.get_or_init(look).clone()
    }

    fn changed_since(&self, reference: &str) -> Option<Arc<[String]>> {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.entry(reference.to_owned()).or_insert_with(|| self.branched_from(reference)).clone()
    }

    fn files(&self) -> Arc<[String]> {
        let look = || paths(&git(&self.sources, &["ls-tree", "-r", "-z", "--name-only", &self.sha]).text().unwrap_or_default());
        self.files.get_or_init(look).clone()
    }
}

fn paths(text: &str) -> Arc<[String]> {
    text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

/// Returns the last commit that `sha` and a reference of the user's repository share. On GitLab there is only what was pushed, so the
/// remote's branch of this name comes first.
pub(super) fn branching_point(root: &Path, sources: &Path, sha: &str, reference: &str) -> Option<String> {
    let commit = |name: String| {
        let question = ["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")];
        git(root, &question).text().ok()
    };
    let other = commit(format!("refs/remotes/origin/{reference}")).or_else(|| commit(reference.to_owned()))?;
    git(sources, &["merge-base", &other, sha]).text().ok()
}
