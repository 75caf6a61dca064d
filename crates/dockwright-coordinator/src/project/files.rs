//! What rules ask about the files of the commit: which there are, and which changed. Git is asked when a rule does, and once.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use dockwright_pipeline::Repository;

use super::{NO_COMMIT, Project, git};

/// What an event's changes are changes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// The state of the branch before this push.
    Before(String),
    /// Nobody knows: a new branch, a tag, a schedule, a start by hand.
    Unknown,
}

impl Base {
    /// A push of commits to a branch that was there.
    pub(crate) fn of_push(project: &Project) -> Self {
        if project.is_tag || project.before_sha == NO_COMMIT { Self::Unknown } else { Self::Before(project.before_sha.clone()) }
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

    /// Returns the commit that a reference of the user's repository means. On GitLab there is only what was pushed, so that comes first.
    fn resolve(&self, reference: &str) -> Option<String> {
        let commit = |name: String| {
            let question = ["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")];
            git(&self.root, &question).text().ok()
        };
        commit(format!("refs/remotes/origin/{reference}")).or_else(|| commit(reference.to_owned()))
    }

    fn branched_from(&self, reference: &str) -> Option<Arc<[String]>> {
        let other = self.resolve(reference)?;
        let base = git(&self.sources, &["merge-base", &other, &self.sha]).text().ok()?;
        self.between(&base)
    }

    fn between(&self, base: &str) -> Option<Arc<[String]>> {
        git(&self.sources, &["diff", "--name-only", "-z", base, &self.sha]).text().ok().map(|text| paths(&text))
    }
}

impl Repository for ProjectFiles {
    fn changed_paths(&self) -> Option<Arc<[String]>> {
        let look = || match &self.base {
            Base::Before(sha) => self.between(sha),
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
