//! A job's sources: a git checkout, made by the runner on its own machine.
//!
//! The docker executor sends the result into the job's volume, so that neither the job's image nor the helper needs git. Two things
//! differ from an ordinary clone: hooks and templates of the machine's user are not used, and a repository given as a local path is
//! asked for the exact commit even where no branch holds it (a pipeline of the working tree).

pub(crate) mod script;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use dockwright_job::GitInfo;
use tokio::{fs, io::AsyncRead, process::Command};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    api::TlsFiles,
    executor::{ExecuteError, pump},
    helper::keeper::NOT_STARTED,
    trace::{Stream, Trace},
    variables::JobVariables,
};

/// Variables of git that would point it at another repository than the one meant.
const FOREIGN_VARIABLES: [&str; 6] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR"];

/// `GIT_STRATEGY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    Fetch,
    Clone,
    None,
    Empty,
}

impl Strategy {
    /// Returns what the job asks for, or the word that is none.
    pub(crate) fn of(variables: &JobVariables, allow_fetch: bool) -> Result<Self, String> {
        match variables.text("GIT_STRATEGY") {
            "fetch" => Ok(Self::Fetch),
            "clone" => Ok(Self::Clone),
            "none" => Ok(Self::None),
            "empty" => Ok(Self::Empty),
            "" if allow_fetch => Ok(Self::Fetch),
            "" => Ok(Self::Clone),
            other => Err(other.to_owned()),
        }
    }
}

/// One checkout.
pub(crate) struct Checkout<'a> {
    pub(crate) info: &'a GitInfo,
    pub(crate) variables: &'a JobVariables,
    pub(crate) strategy: Strategy,
    pub(crate) directory: &'a Path,
    /// This program, below which git runs.
    pub(crate) program: &'a Path,
    /// For the server that the sources come from.
    pub(crate) tls: &'a TlsFiles,
    pub(crate) trace: &'a Trace,
    pub(crate) stop: &'a CancellationToken,
}

impl Checkout<'_> {
    /// Brings the directory to the job's commit.
    pub(crate) async fn run(&self) -> Result<(), ExecuteError> {
        match self.strategy {
            Strategy::None => {
                self.trace.info("Skipping Git repository setup").await;
                self.create_directory().await?;
            }
            Strategy::Empty => {
                self.trace.info("Skipping Git repository setup and creating an empty build directory").await;
                self.remove_directory().await?;
                self.create_directory().await?;
                return Ok(());
            }
            Strategy::Clone => self.remove_directory().await?,
            Strategy::Fetch => {}
        }
        let is_fresh = !self.directory.join(".git").exists();
        if self.strategy == Strategy::None {
            return if is_fresh { Ok(()) } else { self.checkout(is_fresh).await };
        }
        self.fetch(is_fresh).await?;
        self.checkout(is_fresh).await?;
        self.submodules().await
    }

    async fn create_directory(&self) -> Result<(), ExecuteError> {
        fs::create_dir_all(self.directory).await.map_err(ExecuteError::file("create", self.directory))
    }

    async fn remove_directory(&self) -> Result<(), ExecuteError> {
        match fs::remove_dir_all(self.directory).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ExecuteError::file("remove", self.directory)(error)),
            _ => Ok(()),
        }
    }

    async fn fetch(&self, is_fresh: bool) -> Result<(), ExecuteError> {
        let depth = self.info.depth;
        match depth {
            0 => self.trace.info("Fetching changes...").await,
            _ => self.trace.info(format!("Fetching changes with git depth set to {depth}...")).await,
        }
        self.create_directory().await?;
        if !is_fresh {
            self.remove_stale_locks().await;
        }
        self.initialise(is_fresh).await?;

        let mut arguments = fetch_arguments(self.info, self.variables);
        if depth == 0 && self.directory.join(".git/shallow").exists() {
            arguments.push("--unshallow".to_owned());
        }
        self.git(&arguments).await
    }

    async fn initialise(&self, is_fresh: bool) -> Result<(), ExecuteError> {
        let format = if self.info.repo_object_format.is_empty() { "sha1" } else { &self.info.repo_object_format };
        self.git(&["init", "--quiet", "--template=", &format!("--object-format={format}")]).await?;
        let url = self.info.repo_url.as_str();
        if is_fresh {
            self.git(&["remote", "add", "origin", url]).await?;
            self.trace.info("Created fresh repository.").await;
            return Ok(());
        }
        self.git(&["remote", "set-url", "origin", url]).await
    }

    /// Left by a git of an earlier job that was killed.
    async fn remove_stale_locks(&self) {
        for name in ["index.lock", "shallow.lock", "HEAD.lock", "config.lock", "hooks/post-checkout"] {
            let _ = fs::remove_file(self.directory.join(".git").join(name)).await;
        }
    }

    async fn checkout(&self, is_fresh: bool) -> Result<(), ExecuteError> {
        if self.variables.is_true("GIT_CHECKOUT") == Some(false) {
            self.trace.info("Skipping Git checkout").await;
            return Ok(());
        }
        let sha = self.info.sha.as_str();
        let short = sha.get(..8).unwrap_or(sha);
        self.trace.info(format!("Checking out {short} as detached HEAD (ref is {})...", self.info.ref_name)).await;
        self.git(&["-c", "submodule.recurse=false", "-c", "index.version=2", "checkout", "-f", "-q", sha]).await?;
        let clean = flags(self.variables, "GIT_CLEAN_FLAGS", "-ffdx");
        // A new repository has nothing to clean.
        if !clean.is_empty() && !is_fresh {
            let arguments: Vec<String> = ["clean".to_owned(), "-q".to_owned()].into_iter().chain(clean).collect();
            self.git(&arguments).await?;
        }
        Ok(())
    }

    async fn submodules(&self) -> Result<(), ExecuteError> {
        let recursive = match self.variables.text("GIT_SUBMODULE_STRATEGY") {
            "" | "none" => {
                self.trace.info("Skipping Git submodules setup").await;
                return Ok(());
            }
            "normal" => false,
            "recursive" => true,
            other => return Err(ExecuteError::GitStrategy { variable: "GIT_SUBMODULE_STRATEGY", value: other.to_owned() }),
        };
        let how = if recursive { "recursively " } else { "" };
        self.trace.info(format!("Updating/initializing submodules {}...", how.trim_end()).replace(" ...", "...")).await;
        let mut update = vec!["submodule", "update", "--init", "--force"];
        if recursive {
            update.push("--recursive");
        }
        self.git(&["submodule", "sync", "--quiet"]).await?;
        self.git(&update).await
    }

    async fn git(&self, arguments: &[impl AsRef<str>]) -> Result<(), ExecuteError> {
        // Bound to this process: git and its helpers may wait for a server for long, also after the job or the runner has ended.
        let mut command = Command::new(self.program);
        command.args(["internal", "helper", "bound", "git"]);
        command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.autoDetach=false"]);
        command.args(["-c", "init.defaultBranch=none", "-c", "advice.detachedHead=false"]);
        for (key, file) in tls_settings(&self.info.repo_url, self.tls) {
            command.arg("-c").arg(format!("{key}={}", file.display()));
        }
        command.args(arguments.iter().map(AsRef::as_ref));
        command.current_dir(self.directory).env("GIT_TERMINAL_PROMPT", "0").env("GCM_INTERACTIVE", "Never");
        FOREIGN_VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = arguments.iter().map(AsRef::as_ref).find(|argument| !argument.starts_with('-') && !argument.contains('='));
        let subcommand = what.unwrap_or_default().to_owned();

        let mut child = command.spawn().map_err(ExecuteError::file("run", self.program))?;
        // Closed when this function ends, which ends git.
        let _bond = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let output = async { tokio::join!(show(stdout, self.trace, Stream::Stdout), show(stderr, self.trace, Stream::Stderr)) };
        let status = tokio::select! {
            (_, status) = async { tokio::join!(output, child.wait()) } => status.map_err(ExecuteError::file("wait for", "git"))?,
            () = self.stop.cancelled() => return Err(ExecuteError::Stopped),
        };
        match status.code().map(u8::try_from) {
            Some(Ok(0)) => Ok(()),
            Some(Ok(NOT_STARTED)) => Err(ExecuteError::file("run", "git")(std::io::ErrorKind::NotFound.into())),
            _ => Err(ExecuteError::Git { subcommand, status: status.to_string() }),
        }
    }
}

/// Returns where the sources are: at `clone_url`, if that is set, with the credentials that the job was given.
pub(crate) fn repository_at(clone_url: &str, info: &GitInfo, project_path: &str) -> GitInfo {
    let moved = || -> Option<String> {
        let mut address = Url::parse(clone_url).ok().filter(Url::has_host)?;
        let given = Url::parse(&info.repo_url).ok()?;
        let path = if project_path.is_empty() { given.path().to_owned() } else { format!("/{project_path}.git") };
        address.set_path(&format!("{}{path}", address.path().trim_end_matches('/')));
        if matches!(address.scheme(), "http" | "https") {
            address.set_username(given.username()).ok()?;
            address.set_password(given.password()).ok()?;
        }
        Some(address.into())
    };
    GitInfo { repo_url: moved().unwrap_or_else(|| info.repo_url.clone()), ..info.clone() }
}

/// Settings of git for the server of a repository, and no other.
fn tls_settings<'a>(repo_url: &str, tls: &'a TlsFiles) -> Vec<(String, &'a Path)> {
    let Some(url) = Url::parse(repo_url).ok().filter(|url| url.scheme() == "https") else { return Vec::new() };
    let server = url.origin().ascii_serialization();
    let files = [("sslCAInfo", &tls.ca_file), ("sslCert", &tls.cert_file), ("sslKey", &tls.key_file)];
    files.into_iter().filter_map(|(key, file)| Some((format!("http.{server}.{key}"), file.as_deref()?))).collect()
}

/// Arguments of git that fetch what the job asks for.
fn fetch_arguments(info: &GitInfo, variables: &JobVariables) -> Vec<String> {
    let mut arguments: Vec<String> = vec!["fetch".to_owned(), "origin".to_owned(), "--no-recurse-submodules".to_owned()];
    if is_local(&info.repo_url) {
        // The server side runs as a child of git and does not see our settings unless they are in its command.
        let server = "git -c safe.directory=* -c uploadpack.allowAnySHA1InWant=true upload-pack";
        arguments.push(format!("--upload-pack={server}"));
    }
    match info.refspecs.is_empty() {
        true => arguments.push(format!("+{}:refs/pipelines/{}", info.sha, info.sha)),
        false => arguments.extend(info.refspecs.iter().cloned()),
    }
    if info.depth > 0 {
        arguments.extend(["--depth".to_owned(), info.depth.to_string()]);
    }
    arguments.extend(flags(variables, "GIT_FETCH_EXTRA_FLAGS", "--prune --quiet"));
    arguments
}

async fn show(output: impl AsyncRead + Unpin, trace: &Trace, stream: Stream) {
    // Output that cannot be read any more is not worth a job.
    let _ = pump(output, trace, stream).await;
}

/// Words of a variable, its default when it is not set, none for `none`.
fn flags(variables: &JobVariables, key: &str, default: &str) -> Vec<String> {
    let text = match variables.text(key) {
        "" => default,
        "none" => "",
        text => text,
    };
    text.split_whitespace().map(str::to_owned).collect()
}

fn is_local(url: &str) -> bool {
    url.starts_with('/') || url.starts_with("file://")
}

/// Returns the path of a project below a builds directory: from the payload, else from the address, else a number.
pub(crate) fn project_slug(info: &GitInfo, full_path: &str, project_id: u64) -> PathBuf {
    let safe = |text: &str| {
        let path = text.trim_matches('/').trim_end_matches(".git");
        let fits = !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        fits.then(|| PathBuf::from(path))
    };
    let from_url = || Url::parse(&info.repo_url).ok().filter(Url::has_host).and_then(|url| safe(url.path()));
    safe(full_path).or_else(from_url).unwrap_or_else(|| PathBuf::from(format!("project-{project_id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_the_sources_may_be_another() {
        let info = GitInfo { repo_url: "https://gitlab-ci-token:t@gitlab.example/group/project.git".to_owned(), ..GitInfo::default() };
        let at = |clone_url: &str| repository_at(clone_url, &info, "group/project").repo_url;
        assert_eq!(at(""), info.repo_url);
        assert_eq!(at("http://10.0.0.1:8080/"), "http://gitlab-ci-token:t@10.0.0.1:8080/group/project.git");
        assert_eq!(at("https://proxy.example/gitlab"), "https://gitlab-ci-token:t@proxy.example/gitlab/group/project.git");
        assert_eq!(at("ssh://git@gitlab.example"), "ssh://git@gitlab.example/group/project.git");
    }

    #[test]
    fn certificates_are_for_the_repositorys_server_alone() {
        let tls = TlsFiles { ca_file: Some("/ca.pem".into()), ..TlsFiles::default() };
        let settings = |url: &str| tls_settings(url, &tls).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(settings("https://gitlab-ci-token:t@gitlab.example:8443/a/b.git"), ["http.https://gitlab.example:8443.sslCAInfo"]);
        assert!(settings("/home/me/project").is_empty() && settings("http://gitlab.example/a.git").is_empty());
    }

    #[test]
    fn slugs() {
        let info = |url: &str| GitInfo { repo_url: url.to_owned(), ..GitInfo::default() };
        let slug = |url: &str, path: &str| project_slug(&info(url), path, 7).display().to_string();
        assert_eq!(slug("/home/me/project", "group/project"), "group/project");
        assert_eq!(slug("https://t:x@gitlab.example/a/b.git", ""), "a/b");
        assert_eq!(slug("/home/me/project", ""), "project-7");
        assert_eq!(slug("", "../../etc"), "project-7");
    }
}
