//! The repository that a pipeline is for: facts from Git, and the commit that jobs check out.
//!
//! GitLab only ever sees commits. To run what lies in the working tree, its tracked, changed and new files (without ignored ones) are
//! written as a commit of their own. That happens through a second index into a second repository, which borrows the objects of the first:
//! the user's index, HEAD, refs and objects stay untouched. The commit takes over message, author and dates of HEAD, so the same files
//! give the same commit.

mod git;
mod remote;
mod snapshot;

use std::path::{Path, PathBuf};

use dockwright_pipeline::{LoadError, Loader};

pub use git::GitError;
pub(crate) use git::git;
pub use remote::Remote;

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
        let root = root(directory)?;
        // Git runs in other directories, so the path must hold from everywhere.
        let sources =
            &std::path::absolute(sources).map_err(|source| OpenProjectError::Prepare { directory: sources.to_owned(), source })?;
        let text = |arguments: &[&str]| git(&root, arguments).text();
        let optional = |arguments: &[&str]| text(arguments).ok().filter(|text| !text.is_empty());
        let Some(head) = optional(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]) else {
            return Err(OpenProjectError::NoCommit { root });
        };
        let branch = optional(&["symbolic-ref", "--quiet", "--short", "HEAD"]);
        let tag = match &branch {
            Some(_) => None,
            None => optional(&["describe", "--tags", "--exact-match", "HEAD"]),
        };
        let is_tag = tag.is_some();
        // A detached HEAD without a tag stands on no branch; GitLab has no such pipelines, so it is shown by its name.
        let ref_name = branch.clone().or(tag.clone()).unwrap_or_else(|| "HEAD".to_owned());
        let snapshot = snapshot::create(&root, &head, tree, sources)?;
        snapshot::point(sources, &ref_name, is_tag, &snapshot)?;
        let remote = remote(&root, optional(&["remote", "get-url", "origin"]));
        let project = Self {
            commit: Commit {
                message: text(&["log", "-1", "--format=%B", &head])?,
                author: text(&["log", "-1", "--format=%an <%ae>", &head])?,
                timestamp: text(&["log", "-1", "--format=%cI", &head])?,
                tag_message: tag.and_then(|tag| optional(&["tag", "--list", "--format=%(contents:subject)", &tag])),
            },
            has_changes: snapshot != head,
            sha: snapshot,
            is_tag,
            before_sha: branch.as_deref().and_then(|branch| before(&root, branch)).unwrap_or_else(|| NO_COMMIT.to_owned()),
            default_branch: default_branch(&root).or(branch).unwrap_or_else(|| "main".to_owned()),
            ref_name,
            remote,
            user: Person {
                name: optional(&["config", "user.name"]).unwrap_or_default(),
                email: optional(&["config", "user.email"]).unwrap_or_default(),
            },
            sources: sources.to_owned(),
            root,
        };
        Ok(project)
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

    fn stand_on(&mut self, name: &str, is_tag: bool) -> Result<(), OpenProjectError> {
        snapshot::point(&self.sources, name, is_tag, &self.sha)?;
        self.ref_name = name.to_owned();
        self.is_tag = is_tag;
        Ok(())
    }

    /// Returns `refs/heads/…` or `refs/tags/…`.
    pub(crate) fn full_ref(&self) -> String {
        format!("refs/{}/{}", if self.is_tag { "tags" } else { "heads" }, self.ref_name)
    }

    /// Returns the Git blob ids of files of the commit, by path; those that do not exist are left out.
    pub(crate) fn blob_ids(&self, paths: &[String]) -> Result<Vec<String>, GitError> {
        let mut arguments = vec!["ls-tree", "-r", "--format=%(objectname)", &self.sha, "--"];
        arguments.extend(paths.iter().map(String::as_str));
        Ok(git(&self.sources, &arguments).text()?.lines().map(str::to_owned).collect())
    }

    /// Returns the last commits that touched each of the files.
    pub(crate) fn last_commits(&self, paths: &[String]) -> Result<Vec<String>, GitError> {
        let commit = |path: &String| git(&self.sources, &["log", "-1", "--format=%H", &self.sha, "--", path]).text();
        let commits: Result<Vec<String>, GitError> = paths.iter().map(commit).collect();
        Ok(commits?.into_iter().filter(|commit| !commit.is_empty()).collect())
    }
}

/// The files of the commit.
impl Loader for Project {
    fn load_local(&self, path: &str) -> Result<String, LoadError> {
        let object = format!("{}:{path}", self.sha);
        if git(&self.sources, &["cat-file", "-e", &object]).bytes().is_err() {
            return Err(LoadError::NotFound);
        }
        let bytes = git(&self.sources, &["cat-file", "blob", &object]).bytes().map_err(|error| LoadError::Unreadable(error.to_string()))?;
        String::from_utf8(bytes).map_err(|_| LoadError::Unreadable("it is not valid UTF-8".to_owned()))
    }

    fn list_files(&self) -> Vec<String> {
        let list = git(&self.sources, &["ls-tree", "-r", "-z", "--name-only", &self.sha]).text();
        list.unwrap_or_default().split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
    }
}

fn root(directory: &Path) -> Result<PathBuf, OpenProjectError> {
    let is_inside = git(directory, &["rev-parse", "--is-inside-work-tree"]).text();
    match is_inside.as_deref() {
        Ok("true") => Ok(PathBuf::from(git(directory, &["rev-parse", "--show-toplevel"]).text()?)),
        Ok(_) => Err(OpenProjectError::Bare { root: directory.to_owned() }),
        Err(GitError::Failed { .. }) => Err(OpenProjectError::NoRepository { directory: directory.to_owned() }),
        Err(_) => Err(OpenProjectError::Git(is_inside.expect_err("the other case was matched"))),
    }
}

/// What the remote knows of the branch, when it is behind HEAD: the state before this push.
fn before(root: &Path, branch: &str) -> Option<String> {
    let upstream = git(root, &["rev-parse", "--verify", "--quiet", &format!("refs/remotes/origin/{branch}")]).text().ok()?;
    git(root, &["merge-base", "--is-ancestor", &upstream, "HEAD"]).bytes().ok()?;
    Some(upstream)
}

fn default_branch(root: &Path) -> Option<String> {
    if let Ok(head) = git(root, &["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"]).text() {
        return head.strip_prefix("origin/").map(str::to_owned);
    }
    let exists = |branch: &&&str| git(root, &["show-ref", "--verify", "--quiet", &format!("refs/heads/{branch}")]).bytes().is_ok();
    ["main", "master"].iter().find(exists).map(|branch| (*branch).to_owned())
}

/// Without a usable remote, the project is called like its directory.
fn remote(root: &Path, url: Option<String>) -> Remote {
    let name = root.file_name().map_or_else(|| "project".to_owned(), |name| name.to_string_lossy().into_owned());
    url.and_then(|url| Remote::parse(&url)).unwrap_or_else(|| Remote::local(&name))
}

#[cfg(test)]
mod tests;
