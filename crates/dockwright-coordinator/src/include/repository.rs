//! Commits of other projects, and the cache that they are fetched into.
//!
//! ```text
//! <cache>/git/<name and digest of the address>.git    bare, shallow; a ref for each commit that was fetched
//! <cache>/files/<digest>                               remote files
//! ```
//!
//! Commits and files are named by what they hold, so nothing in here becomes wrong; all of it can be deleted.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use dockwright_pipeline::{LoadError, LoadErrorKind};
use sha2::{Digest as _, Sha256};

use super::remote;
use crate::project::{
    GitError,
    git::{self, git},
};

/// Projects that are fetched at a time.
const MAX_FETCHES: usize = 4;

/// A commit and a repository that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    repository: PathBuf,
    pub(super) sha: String,
}

impl Commit {
    /// Finds what a reference means in somebody's clone: the remote's branches before the clone's own.
    pub(super) fn find_in_clone(repository: &Path, reference: &str) -> Option<Self> {
        let names = if reference == "HEAD" {
            vec!["refs/remotes/origin/HEAD".to_owned(), "HEAD".to_owned()]
        } else if is_full_sha(reference) {
            vec![reference.to_owned()]
        } else {
            ["refs/remotes/origin/", "refs/tags/", "refs/heads/"].map(|prefix| format!("{prefix}{reference}")).to_vec()
        };
        names.iter().find_map(|name| Self::resolve(repository, name))
    }

    fn resolve(repository: &Path, name: &str) -> Option<Self> {
        let sha = git(repository, &["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).text().ok()?;
        Some(Self { repository: repository.to_owned(), sha })
    }

    pub(super) fn read(&self, path: &str) -> Result<String, LoadError> {
        git::read_file(&self.repository, &self.sha, path)
    }

    pub(super) fn list(&self) -> Vec<String> {
        git::list_files(&self.repository, &self.sha)
    }
}

/// A project to fetch: its path, its address, and references with the commits that they are locked to.
pub(super) type Wanted = (String, String, Vec<(String, Option<String>)>);

/// What was fetched before.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Returns a commit that was fetched before, from whatever address.
    pub(super) fn commit(&self, project: &str, sha: &str) -> Option<Commit> {
        let prefix = file_name(project);
        let repositories = fs::read_dir(self.directory.join("git")).ok()?.flatten();
        let of_project = repositories.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        of_project.map(|entry| entry.path()).find_map(|path| Commit::resolve(&path, sha))
    }

    /// Fetches the commit that a reference means, or the one that it is locked to.
    pub(super) fn fetch(&self, project: &str, url: &str, reference: &str, locked: Option<&str>) -> Result<Commit, LoadError> {
        let repository = self.repository(project, url).map_err(|error| unusable(&self.directory, &error))?;
        let _lock = lock(&repository).map_err(|error| unusable(&repository, &error))?;
        let wanted = locked.unwrap_or(reference);
        match fetch(&repository, url, wanted) {
            Ok(commit) => Ok(commit),
            // Some servers give no commit that no branch points at, so its branch is asked for.
            Err(error) => match locked.and_then(|sha| Some((sha, fetch(&repository, url, reference).ok()?))) {
                Some((sha, commit)) if commit.sha == sha => Ok(commit),
                Some((sha, commit)) => Err(LoadError::from(LoadErrorKind::Changed { actual: commit.sha }).help(format!(
                    "the lock file says `{sha}`, which the server does not give; take the new commit over with `--refresh`"
                ))),
                None => Err(failed(project, url, &error)),
            },
        }
    }

    /// Fetches several projects at once, the references of each one after the other.
    pub(super) fn fetch_all(&self, wanted: Vec<Wanted>) -> Vec<((String, String), Result<Commit, LoadError>)> {
        let (queue, done) = (Mutex::new(wanted), Mutex::new(Vec::new()));
        let workers = MAX_FETCHES.min(queue.lock().expect("no holder of this lock panics").len());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let Some((project, url, references)) = queue.lock().expect("no holder of this lock panics").pop() else { return };
                        for (reference, locked) in references {
                            let found = self.fetch(&project, &url, &reference, locked.as_deref());
                            done.lock().expect("no holder of this lock panics").push(((project.clone(), reference), found));
                        }
                    }
                });
            }
        });
        done.into_inner().expect("no holder of this lock panics")
    }

    /// Asks the server for the tags of a project.
    pub(super) fn tags(&self, project: &str, url: &str) -> Result<Vec<String>, LoadError> {
        let repository = self.repository(project, url).map_err(|error| unusable(&self.directory, &error))?;
        let text = distant(&repository, &["ls-remote", "--tags", "--refs", url]).map_err(|error| failed(project, url, &error))?;
        let tags = text.lines().filter_map(|line| line.split_once("refs/tags/"));
        Ok(tags.map(|(_, tag)| tag.to_owned()).collect())
    }

    /// Returns a remote file that was fetched before.
    pub(super) fn file(&self, digest: &str) -> Option<String> {
        let text = fs::read_to_string(self.file_path(digest)).ok()?;
        // A file that was cut off is fetched again.
        (remote::digest(text.as_bytes()) == digest).then_some(text)
    }

    /// Keeps a remote file. When that fails, it is fetched again next time.
    pub(super) fn keep_file(&self, digest: &str, text: &str) {
        let path = self.file_path(digest);
        let kept = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        if let Err(error) = kept {
            tracing::warn!(path = %path.display(), %error, "cannot keep an included file");
        }
    }

    fn file_path(&self, digest: &str) -> PathBuf {
        self.directory.join("files").join(hex::encode(Sha256::digest(digest.as_bytes())))
    }

    /// Makes the repository that a project's commits are fetched into.
    fn repository(&self, project: &str, url: &str) -> io::Result<PathBuf> {
        let digest = hex::encode(&Sha256::digest(url.as_bytes())[..8]);
        let path = self.directory.join("git").join(format!("{}{digest}.git", file_name(project)));
        if !path.join("HEAD").exists() {
            fs::create_dir_all(&path)?;
            git(&path, &["init", "--quiet", "--bare", "."]).bytes().map_err(io::Error::other)?;
        }
        Ok(path)
    }
}

/// Fetches one reference and keeps a ref to its commit, so that Git does not clean it away.
fn fetch(repository: &Path, url: &str, reference: &str) -> Result<Commit, GitError> {
    let kept = format!("refs/dockwright/{}", hex::encode(&Sha256::digest(reference.as_bytes())[..16]));
    distant(repository, &["fetch", "--quiet", "--depth=1", "--no-tags", url, &format!("+{reference}:{kept}")])?;
    let sha = git(repository, &["rev-parse", "--verify", &format!("{kept}^{{commit}}")]).text()?;
    git(repository, &["update-ref", &format!("refs/dockwright/commit-{sha}"), &sha]).bytes()?;
    Ok(Commit { repository: repository.to_owned(), sha })
}

/// Runs a Git command that talks to a server, and gives up on one that says nothing. The user's helpers and keys give the credentials.
fn distant(repository: &Path, arguments: &[&str]) -> Result<String, GitError> {
    let settings = ["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=30"];
    git(repository, &[&settings[..], arguments].concat()).text()
}

/// Says what Git's words mean.
fn failed(project: &str, url: &str, error: &GitError) -> LoadError {
    let GitError::Failed { message, .. } = error else {
        return LoadError::from(LoadErrorKind::Unreachable(format!("because of an error: {error}"))).help(error.hint().unwrap_or_default());
    };
    let says = |words: &[&str]| words.iter().any(|word| message.to_lowercase().contains(word));
    let reason = message.lines().find(|line| line.contains("fatal:") || line.contains("ERROR:")).or_else(|| message.lines().next());
    let reason = reason.unwrap_or_default().trim();
    if says(&["couldn't find remote ref", "not our ref", "invalid refspec"]) {
        return LoadError::from(LoadErrorKind::NoReference).help(format!("`{url}` has no such branch, tag or commit"));
    }
    if says(&["not found", "denied", "could not read username", "authentication failed", "does not exist", "does not appear to be", "403"])
    {
        let help = format!(
            "`git ls-remote {url}` must work for you, or name a directory in the settings file: `[include.checkouts]` `\"{project}\" = \"/path\"`; Git says: {reason}"
        );
        return LoadError::from(LoadErrorKind::NoProject).help(help);
    }
    LoadError::from(LoadErrorKind::Unreachable(format!("from `{url}`: {reason}")))
        .help("check the network; what was fetched before stays usable with `--frozen`")
}

fn unusable(path: &Path, error: &io::Error) -> LoadError {
    LoadErrorKind::Unreadable(format!("the cache `{}` cannot be used: {error}", path.display())).into()
}

/// Keeps other processes from fetching into the same repository.
fn lock(repository: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(repository.join("dockwright.lock"))?;
    file.lock()?;
    Ok(file)
}

/// Tells a whole commit id from other references.
pub(super) fn is_full_sha(reference: &str) -> bool {
    matches!(reference.len(), 40 | 64) && reference.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Returns the address of a repository's remote.
pub(super) fn origin(root: &Path) -> Option<String> {
    git(root, &["config", "--get", "remote.origin.url"]).text().ok()
}

/// Returns the address of another project on the server of an address.
pub(super) fn sibling_url(origin: &str, project: &str) -> Option<String> {
    match origin.split_once("://") {
        Some((scheme @ ("https" | "http" | "ssh" | "git+ssh"), rest)) => {
            let (authority, _) = rest.split_once('/')?;
            Some(format!("{scheme}://{authority}/{project}.git"))
        }
        Some(_) => None,
        // `git@host:path`; without a host it is a path of this machine.
        None => {
            let (host, _) = origin.split_once(':').filter(|(host, _)| !host.contains('/'))?;
            Some(format!("{host}:{project}.git"))
        }
    }
}

/// Returns a beginning of file names that is different for different projects, and tells people which.
fn file_name(project: &str) -> String {
    let readable: String = project.chars().map(|next| if next.is_ascii_alphanumeric() { next } else { '-' }).collect();
    format!("{readable}-{}-", hex::encode(&Sha256::digest(project.as_bytes())[..4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_projects_lie_on_the_same_server() {
        let cases = [
            ("https://gitlab.com/a/b.git", Some("https://gitlab.com/group/lib.git")),
            ("https://user:token@git.example.com:8443/a/b", Some("https://user:token@git.example.com:8443/group/lib.git")),
            ("git@gitlab.com:a/b.git", Some("git@gitlab.com:group/lib.git")),
            ("ssh://git@gitlab.com:2222/a/b.git", Some("ssh://git@gitlab.com:2222/group/lib.git")),
            ("/srv/git/b.git", None),
            ("../b", None),
            ("file:///srv/b.git", None),
        ];
        for (origin, expected) in cases {
            assert_eq!(sibling_url(origin, "group/lib").as_deref(), expected, "{origin}");
        }
    }
}
