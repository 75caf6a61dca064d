//! The repository that a pipeline is for: facts from Git, and the commit that jobs check out.
//!
//! GitLab only ever sees commits. To run what lies in the working tree, its tracked, changed and new files (without ignored ones) are
//! written as a commit of their own. That happens through a second index into a second repository, which borrows the objects of the first:
//! the user's index, HEAD, refs and objects stay untouched. The commit takes over message, author and dates of HEAD, so the same files
//! give the same commit.

mod facts;
mod files;
pub(crate) mod git;
mod mirror;
mod remote;
mod snapshot;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use dockwright_pipeline::{LoadError, LoadErrorKind, Loaded, Loader, Place, Request, matching_paths};

use crate::predefined::stable_id;
use facts::Places;
pub(crate) use files::{Base, ProjectFiles};
pub use git::GitError;
pub(crate) use git::git;
pub(crate) use mirror::{Mirror, ProjectPlace, RefName};
pub use remote::Remote;
pub(crate) use remote::is_path_char;

/// Which files jobs see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tree {
    /// What lies in the working tree, committed or not.
    #[default]
    Working,
    /// The last commit.
    Committed,
}

/// A repository and the commit of it that jobs run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// `CI_PROJECT_ID`.
    pub id: u64,
    /// Top of the working tree.
    pub root: PathBuf,
    /// A bare repository that jobs fetch from. It holds the commit, and borrows the objects of the user's repository.
    pub sources: PathBuf,
    /// The commit that jobs check out.
    pub sha: String,
    /// Branch, or tag when the tag is checked out and no branch is.
    pub ref_name: String,
    pub is_tag: bool,
    /// `sha` is not HEAD: it holds changes that are not committed.
    pub has_changes: bool,
    pub commit: Commit,
    /// Head of the branch at the remote when it is an ancestor, else zeros.
    pub before_sha: String,
    pub default_branch: String,
    pub remote: Remote,
    pub user: Person,
    /// The pipeline is for a merge request from the branch.
    pub merge_request: Option<MergeRequest>,
    /// What changed since the commit left this reference's history counts as changed by the event.
    pub changes_base: Option<String>,
}

/// What is known of a merge request that nobody has opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRequest {
    pub target_branch: String,
    /// Where the source branch left the target branch.
    pub base_sha: String,
}

/// What is known of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    pub message: String,
    /// `Name <email>`.
    pub author: String,
    /// Committer date in ISO 8601.
    pub timestamp: String,
    /// Message of the annotated tag, when a tag is checked out.
    pub tag_message: Option<String>,
}

impl Commit {
    fn of(head: facts::Head, tag_message: Option<String>) -> Self {
        let author = format!("{} <{}>", head.author.name, head.author.email);
        Self { message: head.message, author, timestamp: head.committed, tag_message }
    }
}

/// Who runs the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Person {
    pub name: String,
    pub email: String,
}

/// A directory that no pipeline can run in.
#[derive(Debug, thiserror::Error)]
pub enum OpenProjectError {
    #[error("`{directory}` is in no Git repository")]
    NoRepository { directory: PathBuf },
    #[error("the Git repository `{root}` has no commit")]
    NoCommit { root: PathBuf },
    #[error("the Git repository `{root}` has no working tree")]
    Bare { root: PathBuf },
    #[error("`{reference}` is no branch, tag or commit of the Git repository `{root}` that the checked-out commit has a history with")]
    UnknownReference { root: PathBuf, reference: String },
    /// Files that cannot be read, or a repository without a commit inside of this one.
    #[error("take the files of the working tree `{root}`")]
    WorkingTree {
        root: PathBuf,
        #[source]
        source: GitError,
    },
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("prepare the sources of the pipeline in `{directory}`")]
    Prepare {
        directory: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl OpenProjectError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRepository { .. } => Some("jobs check out a commit: run `git init`, `git add --all` and `git commit` there first"),
            Self::NoCommit { .. } => Some("commit something first: `git add --all && git commit --message 'first'`"),
            Self::Bare { .. } => Some("run Dockwright in a clone of it"),
            Self::WorkingTree { .. } => Some("name in `.gitignore` what jobs are not to see, or run what is committed with `--committed`"),
            Self::UnknownReference { .. } => {
                Some("`git fetch origin` brings the branches of the remote; a shallow clone needs `--unshallow`")
            }
            Self::Git(error) => error.hint(),
            Self::Prepare { .. } => None,
        }
    }
}

/// Forty zeros: no commit.
pub(crate) const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

impl Project {
    /// Looks at the repository around `directory` and makes the commit that jobs run on, in a new repository at `sources`.
    pub fn open(directory: &Path, tree: Tree, sources: &Path) -> Result<Self, OpenProjectError> {
        // Git runs in other directories, so the path must hold from everywhere.
        let sources = std::path::absolute(sources).map_err(|source| OpenProjectError::Prepare { directory: sources.to_owned(), source })?;
        let places = Places::find(directory)?;
        let root = &places.root;
        let head = facts::head(root)?;
        let (ref_name, is_tag) = facts::ref_name(root);
        let full_ref = full_ref(&ref_name, is_tag);
        let sha = snapshot::create(&places, &head, tree, &sources, &full_ref)?;
        let refs = facts::refs(root, &ref_name)?;
        let settings = facts::settings(root);
        // Without a usable remote, the project is called like its directory.
        let directory_name = root.file_name().map_or_else(|| "project".to_owned(), |name| name.to_string_lossy().into_owned());
        let remote = settings.remote.as_deref().and_then(Remote::parse).unwrap_or_else(|| Remote::local(&directory_name));
        Ok(Self {
            id: stable_id(&remote.path),
            before_sha: if is_tag { NO_COMMIT.to_owned() } else { facts::before(root, &refs, &ref_name, &head.sha) },
            default_branch: refs.default_branch.clone().unwrap_or_else(|| if is_tag { "main".to_owned() } else { ref_name.clone() }),
            remote,
            has_changes: sha != head.sha,
            commit: Commit::of(head, if is_tag { facts::tag_message(root, &ref_name) } else { None }),
            user: settings.user,
            merge_request: None,
            changes_base: None,
            root: places.root,
            sources,
            sha,
            ref_name,
            is_tag,
        })
    }

    /// Behaves as if a branch of this name had been pushed with the same commit.
    pub fn stand_on_branch(&mut self, name: &str) -> Result<(), OpenProjectError> {
        self.stand_on(name, false)
    }

    /// Behaves as if a tag of this name had been pushed with the same commit.
    pub fn stand_on_tag(&mut self, name: &str) -> Result<(), OpenProjectError> {
        self.before_sha = NO_COMMIT.to_owned();
        self.stand_on(name, true)
    }

    /// Behaves as if a merge request of the branch into another had been opened.
    pub fn stand_on_merge_request(&mut self, target_branch: &str) -> Result<(), OpenProjectError> {
        let base_sha = self.branching_point(target_branch)?;
        self.before_sha = NO_COMMIT.to_owned();
        self.merge_request = Some(MergeRequest { target_branch: target_branch.to_owned(), base_sha });
        Ok(())
    }

    /// Takes as changed what changed since the commit left the history of a reference.
    pub fn compare_changes_with(&mut self, reference: &str) -> Result<(), OpenProjectError> {
        self.changes_base = Some(self.branching_point(reference)?);
        Ok(())
    }

    fn branching_point(&self, reference: &str) -> Result<String, OpenProjectError> {
        files::branching_point(&self.root, &self.sources, &self.sha, reference)
            .ok_or_else(|| OpenProjectError::UnknownReference { root: self.root.clone(), reference: reference.to_owned() })
    }

    fn stand_on(&mut self, name: &str, is_tag: bool) -> Result<(), OpenProjectError> {
        snapshot::point(&self.sources, &full_ref(name, is_tag), &self.sha)?;
        self.ref_name = name.to_owned();
        self.is_tag = is_tag;
        Ok(())
    }

    /// Returns `refs/heads/…` or `refs/tags/…`.
    pub(crate) fn full_ref(&self) -> String {
        full_ref(&self.ref_name, self.is_tag)
    }

    /// Returns the Git blob ids of files of the commit, by path or by a pattern with `*`; those that do not exist are left out.
    pub(crate) fn blob_ids(&self, paths: &[String]) -> Result<Vec<String>, GitError> {
        let has_pattern = paths.iter().any(|path| path.contains('*'));
        let mut arguments = vec!["ls-tree", "-z", "--format=%(objecttype) %(objectname) %(path)"];
        if has_pattern {
            arguments.push("-r");
        }
        arguments.extend([self.sha.as_str(), "--"]);
        if !has_pattern {
            arguments.extend(paths.iter().map(String::as_str));
        }
        let listed = git(&self.sources, &arguments).text()?;
        let files = listed.split('\0').filter_map(|entry| entry.strip_prefix("blob ")?.split_once(' '));
        let ids: HashMap<&str, &str> = files.map(|(id, path)| (path, id)).collect();
        let wanted = paths.iter().flat_map(|path| matching_paths(path, ids.keys().copied()));
        Ok(wanted.map(|path| ids[path].to_owned()).collect())
    }

    /// Returns the last commits that touched each of the files.
    pub(crate) fn last_commits(&self, paths: &[String]) -> Result<Vec<String>, GitError> {
        let commit = |path: &String| git(&self.sources, &["log", "-1", "--format=%H", &self.sha, "--", path]).text();
        let commits: Result<Vec<String>, GitError> = paths.iter().map(commit).collect();
        Ok(commits?.into_iter().filter(|commit| !commit.is_empty()).collect())
    }
}

/// The files of the commit, and no others.
impl Loader for Project {
    fn load(&self, request: &Request) -> Result<Loaded, LoadError> {
        let Request::Local { place: Place::Own, path } = request else { return Err(LoadErrorKind::NoProject.into()) };
        let text = git::read_file(&self.sources, &self.sha, path)?;
        Ok(Loaded { text, place: Place::Own, component: None })
    }

    fn list_files(&self, place: &Place) -> Vec<String> {
        if *place == Place::Own { git::list_files(&self.sources, &self.sha) } else { Vec::new() }
    }
}

fn full_ref(ref_name: &str, is_tag: bool) -> String {
    format!("refs/{}/{ref_name}", if is_tag { "tags" } else { "heads" })
}

#[cfg(test)]
mod tests;
