//! A project of a coordinator that serves several: a repository of its own, which takes commits from the user's.
//!
//! Pipelines keep their commits by refs (`refs/pipelines/<id>`), so that a job can be run again after the branch has gone, and what jobs
//! fetch over HTTP is never the user's repository.

use std::path::{Path, PathBuf};

use super::{Commit, GitError, NO_COMMIT, Person, Project, Remote, facts, full_ref, git};

/// A bare repository that belongs to the coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub(crate) path: PathBuf,
}

/// A branch or a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefName {
    pub(crate) name: String,
    pub(crate) is_tag: bool,
}

/// What a [`Project`] cannot learn from its repository.
#[derive(Debug, Clone)]
pub(crate) struct ProjectPlace {
    pub(crate) id: u64,
    pub(crate) remote: Remote,
    pub(crate) default_branch: String,
}

impl RefName {
    /// Reads `refs/heads/…` or `refs/tags/…`.
    pub(crate) fn parse(full_ref: &str) -> Option<Self> {
        let branch = full_ref.strip_prefix("refs/heads/").map(|name| Self { name: name.to_owned(), is_tag: false });
        branch.or_else(|| full_ref.strip_prefix("refs/tags/").map(|name| Self { name: name.to_owned(), is_tag: true }))
    }

    pub(crate) fn full(&self) -> String {
        full_ref(&self.name, self.is_tag)
    }
}

impl Mirror {
    /// Makes the repository unless it is there.
    pub(crate) fn create(path: &Path, from: &Path) -> Result<Self, GitError> {
        if !path.join("HEAD").is_file() {
            std::fs::create_dir_all(path).map_err(|source| GitError::Run { source })?;
            let format = git(from, &["rev-parse", "--show-object-format"]).text()?;
            git(path, &["init", "--quiet", "--bare", "--template=", &format!("--object-format={format}"), "."]).bytes()?;
            // A commit of a pipeline may be on no branch any more.
            git(path, &["config", "uploadpack.allowAnySHA1InWant", "true"]).bytes()?;
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Returns the branches and tags of a repository with their commits.
    pub(crate) fn refs(repository: &Path) -> Result<Vec<(String, String)>, GitError> {
        let format = "--format=%(refname) %(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)";
        let text = git(repository, &["for-each-ref", format, "refs/heads", "refs/tags"]).text()?;
        Ok(text.lines().filter_map(|line| line.split_once(' ')).map(|(name, sha)| (name.to_owned(), sha.to_owned())).collect())
    }

    /// Returns the branch that a repository stands on.
    pub(crate) fn default_branch(repository: &Path) -> String {
        git(repository, &["symbolic-ref", "--quiet", "--short", "HEAD"]).text().unwrap_or_else(|_| "main".to_owned())
    }

    /// Takes a branch or tag, found by its name, from the user's repository and returns it with its commit; `None` when there is none.
    pub(crate) fn take(&self, from: &Path, name: &str) -> Result<Option<(RefName, String)>, GitError> {
        let candidates = match RefName::parse(name) {
            Some(known) => vec![known],
            None => [false, true].map(|is_tag| RefName { name: name.to_owned(), is_tag }).to_vec(),
        };
        for candidate in candidates {
            let full = candidate.full();
            if git(from, &["rev-parse", "--verify", "--quiet", "--end-of-options", &full]).bytes().is_err() {
                continue;
            }
            let from = from.to_string_lossy();
            git(&self.path, &["fetch", "--quiet", "--no-tags", "--force", &from, &format!("+{full}:{full}")]).bytes()?;
            let sha = git(&self.path, &["rev-parse", "--verify", &format!("{full}^{{commit}}")]).text()?;
            return Ok(Some((candidate, sha)));
        }
        Ok(None)
    }

    /// Keeps a commit for a pipeline.
    pub(crate) fn keep(&self, pipeline: u64, sha: &str) -> Result<(), GitError> {
        git(&self.path, &["update-ref", &format!("refs/pipelines/{pipeline}"), sha]).bytes()?;
        Ok(())
    }

    /// Returns the project as a pipeline for a commit sees it.
    pub(crate) fn project(&self, place: ProjectPlace, at: &RefName, sha: &str, before_sha: Option<&str>) -> Result<Project, GitError> {
        let head = facts::commit(&self.path, sha)?;
        let user = Person { name: head.author.name.clone(), email: head.author.email.clone() };
        let tag_message = if at.is_tag { facts::tag_message(&self.path, &at.name) } else { None };
        Ok(Project {
            id: place.id,
            root: self.path.clone(),
            sources: self.path.clone(),
            sha: sha.to_owned(),
            ref_name: at.name.clone(),
            is_tag: at.is_tag,
            has_changes: false,
            commit: Commit::of(head, tag_message),
            before_sha: before_sha.unwrap_or(NO_COMMIT).to_owned(),
            default_branch: place.default_branch,
            remote: place.remote,
            user,
            merge_request: None,
            changes_base: None,
        })
    }
}
