//! What Git says about a repository, asked in few questions: each is a process, and a run starts with all of them.

use std::path::{Path, PathBuf};

use super::{GitError, NO_COMMIT, OpenProjectError, Person, git};

/// Where the parts of a repository are.
pub(super) struct Places {
    pub(super) root: PathBuf,
    pub(super) objects: PathBuf,
    pub(super) index: PathBuf,
    /// List of commits without parents; the file exists in shallow clones only.
    pub(super) shallow: PathBuf,
    /// `sha1` or `sha256`.
    pub(super) object_format: String,
}

impl Places {
    /// Finds the repository around a directory.
    pub(super) fn find(directory: &Path) -> Result<Self, OpenProjectError> {
        let mut question = vec!["rev-parse", "--path-format=absolute", "--show-object-format", "--is-inside-work-tree"];
        question.extend(["--git-path", "objects", "--git-path", "index", "--git-path", "shallow", "--show-toplevel"]);
        let answer = match git(directory, &question).text() {
            Ok(answer) => answer,
            Err(error @ GitError::Run { .. }) => return Err(error.into()),
            // The last question fails where there is no working tree, all of them where there is no repository.
            Err(GitError::Failed { .. }) => return Err(without_working_tree(directory)),
        };
        match answer.lines().collect::<Vec<_>>().as_slice() {
            [object_format, "true", objects, index, shallow, root] => Ok(Self {
                root: PathBuf::from(root),
                objects: PathBuf::from(objects),
                index: PathBuf::from(index),
                shallow: PathBuf::from(shallow),
                object_format: (*object_format).to_owned(),
            }),
            _ => Err(OpenProjectError::Bare { root: directory.to_owned() }),
        }
    }
}

fn without_working_tree(directory: &Path) -> OpenProjectError {
    match git(directory, &["rev-parse", "--git-dir"]).bytes() {
        Ok(_) => OpenProjectError::Bare { root: directory.to_owned() },
        Err(_) => OpenProjectError::NoRepository { directory: directory.to_owned() },
    }
}

/// The commit that is checked out.
pub(super) struct Head {
    pub(super) sha: String,
    pub(super) tree: String,
    pub(super) author: Person,
    pub(super) authored: String,
    pub(super) committer: Person,
    pub(super) committed: String,
    pub(super) message: String,
}

pub(super) fn head(root: &Path) -> Result<Head, OpenProjectError> {
    if git(root, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).bytes().is_err() {
        return Err(OpenProjectError::NoCommit { root: root.to_owned() });
    }
    Ok(commit(root, "HEAD")?)
}

/// Returns what is known of a commit that exists.
pub(super) fn commit(root: &Path, revision: &str) -> Result<Head, GitError> {
    let format = "--format=%H%x00%T%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B";
    let text = git(root, &["log", "-1", "--no-show-signature", format, revision]).text()?;
    let mut fields = text.splitn(9, '\0').map(str::to_owned);
    let mut next = || fields.next().unwrap_or_default();
    // In the order of the format.
    Ok(Head {
        sha: next(),
        tree: next(),
        author: Person { name: next(), email: next() },
        authored: next(),
        committer: Person { name: next(), email: next() },
        committed: next(),
        message: next(),
    })
}

/// Returns the branch, or else the tag that is checked out, and whether it is a tag.
///
/// A detached HEAD without a tag stands on no branch; GitLab has no such pipelines, so it is shown by its name.
pub(super) fn ref_name(root: &Path) -> (String, bool) {
    if let Ok(branch) = git(root, &["symbolic-ref", "--quiet", "--short", "HEAD"]).text() {
        return (branch, false);
    }
    match git(root, &["describe", "--tags", "--exact-match", "HEAD"]).text() {
        Ok(tag) => (tag, true),
        Err(_) => ("HEAD".to_owned(), false),
    }
}

pub(super) fn tag_message(root: &Path, tag: &str) -> Option<String> {
    git(root, &["tag", "--list", "--format=%(contents:subject)", tag]).text().ok().filter(|message| !message.is_empty())
}

/// Refs that say something about the branch.
pub(super) struct Refs {
    pub(super) default_branch: Option<String>,
    /// The branch at the remote.
    upstream: Option<String>,
}

pub(super) fn refs(root: &Path, branch: &str) -> Result<Refs, GitError> {
    let upstream = format!("refs/remotes/origin/{branch}");
    let patterns = [upstream.as_str(), "refs/remotes/origin/HEAD", "refs/heads/main", "refs/heads/master"];
    let question = [&["for-each-ref", "--format=%(refname) %(objectname) %(symref)"][..], &patterns].concat();
    let text = git(root, &question).text()?;
    let fields = |line: &str| {
        let mut fields = line.splitn(3, ' ').map(str::to_owned);
        [fields.next(), fields.next(), fields.next()].map(Option::unwrap_or_default)
    };
    let refs: Vec<[String; 3]> = text.lines().map(fields).collect();
    let find = |name: &str| refs.iter().find(|[known, _, _]| known == name);
    let of_remote = find("refs/remotes/origin/HEAD").and_then(|[_, _, target]| target.strip_prefix("refs/remotes/origin/"));
    let usual = ["main", "master"].into_iter().find(|branch| find(&format!("refs/heads/{branch}")).is_some());
    Ok(Refs { default_branch: of_remote.or(usual).map(str::to_owned), upstream: find(&upstream).map(|[_, sha, _]| sha.clone()) })
}

/// Returns what the remote knows of the branch, when it is behind HEAD: the state before this push.
pub(super) fn before(root: &Path, refs: &Refs, branch: &str, head: &str) -> String {
    let is_ancestor = |upstream: &&String| *upstream == head || git(root, &["merge-base", "--is-ancestor", upstream, head]).bytes().is_ok();
    let upstream = refs.upstream.as_ref().filter(|_| branch != "HEAD").filter(is_ancestor);
    upstream.cloned().unwrap_or_else(|| NO_COMMIT.to_owned())
}

/// Settings of the repository and of the user.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) remote: Option<String>,
    pub(super) user: Person,
}

pub(super) fn settings(root: &Path) -> Settings {
    let pattern = r"^(user\.name|user\.email|remote\.origin\.url)$";
    // It fails when none of them is set.
    let text = git(root, &["config", "--null", "--get-regexp", pattern]).text().unwrap_or_default();
    let mut settings = Settings::default();
    for (key, value) in text.split('\0').filter_map(|entry| entry.split_once('\n')) {
        match key {
            "user.name" => value.clone_into(&mut settings.user.name),
            "user.email" => value.clone_into(&mut settings.user.email),
            _ => settings.remote = Some(value.to_owned()),
        }
    }
    settings
}
