//! A recording coordinator, a small repository, and payloads.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use dockwright_job::{
    Dependency, Features, GitInfo, Image, JobId, JobInfo, JobPayload, JobState, JobToken, JobUpdate, RunnerInfo, Step, Variable,
};
use dockwright_runner::{
    Coordinator, CoordinatorError, EngineProvider, Runner, RunnerConfig,
    coordinator::{ArtifactUpload, JobAccess, JobSignals},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use regex::Regex;
use tokio_util::sync::CancellationToken;

/// Hands out the payloads it was given and keeps all that comes back.
#[derive(Default)]
pub(crate) struct Recorder {
    queue: Mutex<VecDeque<JobPayload>>,
    traces: Mutex<HashMap<JobId, Vec<u8>>>,
    updates: Mutex<Vec<(JobId, JobUpdate)>>,
    pub(crate) artifacts: Mutex<HashMap<String, Vec<u8>>>,
    pub(crate) signals: JobSignals,
    /// Cancelled as soon as a trace holds the text.
    watch: Mutex<Option<(String, CancellationToken)>>,
}

impl Recorder {
    pub(crate) fn with(payloads: impl IntoIterator<Item = JobPayload>) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(payloads.into_iter().collect()), ..Self::default() })
    }

    /// Cancels a token when a job prints a text.
    pub(crate) fn cancel_on(&self, text: &str, token: &CancellationToken) {
        *self.watch.lock().expect("not poisoned") = Some((text.to_owned(), token.clone()));
    }

    /// A job's trace without colours, times and random parts.
    pub(crate) fn trace(&self, job: u64) -> String {
        let text = self.raw_trace(job);
        let sections = Regex::new(r"section_(start|end):\d+:([a-z_]+)\r\x1b\[0K").expect("a pattern");
        let text = sections.replace_all(&text, "<$1 $2>");
        Regex::new(r"\x1b\[[0-9;]*[mK]").expect("a pattern").replace_all(&text, "").into_owned()
    }

    /// A job's trace as it was sent.
    pub(crate) fn raw_trace(&self, job: u64) -> String {
        let raw = self.traces.lock().expect("not poisoned").get(&JobId(job)).cloned().unwrap_or_default();
        String::from_utf8_lossy(&raw).into_owned()
    }

    pub(crate) fn final_update(&self, job: u64) -> JobUpdate {
        let updates = self.updates.lock().expect("not poisoned");
        let of_job: Vec<&JobUpdate> = updates.iter().filter(|(id, _)| *id == JobId(job)).map(|(_, update)| update).collect();
        assert_eq!(of_job.first().map(|update| update.state), Some(JobState::Running), "a job is acknowledged");
        (*of_job.last().expect("a job is reported")).clone()
    }
}

impl Coordinator for Recorder {
    fn request_job(&self) -> BoxFuture<'_, Result<Option<JobPayload>, CoordinatorError>> {
        async { Ok(self.queue.lock().expect("not poisoned").pop_front()) }.boxed()
    }

    fn update_job(&self, job: JobId, update: JobUpdate) -> BoxFuture<'_, Result<(), CoordinatorError>> {
        async move {
            self.updates.lock().expect("not poisoned").push((job, update));
            Ok(())
        }
        .boxed()
    }

    fn append_trace<'a>(&'a self, job: &'a JobAccess, offset: u64, bytes: Bytes) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async move {
            let mut traces = self.traces.lock().expect("not poisoned");
            let trace = traces.entry(job.id).or_default();
            assert_eq!(trace.len() as u64, offset);
            trace.extend_from_slice(&bytes);
            let text = String::from_utf8_lossy(trace);
            if let Some((_, token)) = self.watch.lock().expect("not poisoned").as_ref().filter(|(wanted, _)| text.contains(wanted)) {
                token.cancel();
            }
            Ok(())
        }
        .boxed()
    }

    fn upload_artifacts<'a>(&'a self, _job: &'a JobAccess, upload: ArtifactUpload) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async move {
            let content = fs::read(&upload.file).expect("the upload is a file");
            self.artifacts.lock().expect("not poisoned").insert(upload.filename, content);
            Ok(())
        }
        .boxed()
    }

    fn download_artifacts<'a>(&'a self, dependency: &'a Dependency, to: &'a Path) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async move {
            let artifacts = self.artifacts.lock().expect("not poisoned");
            let content = artifacts
                .get(&dependency.artifacts_file.filename)
                .ok_or_else(|| CoordinatorError::Refused { request: "the download of artifacts", reason: "there are none".to_owned() })?;
            fs::write(to, content).expect("the file can be written");
            Ok(())
        }
        .boxed()
    }

    fn signals(&self, _job: JobId) -> JobSignals {
        self.signals.clone()
    }
}

/// A repository with one commit, and directories for a runner.
pub(crate) struct Place {
    pub(crate) root: tempfile::TempDir,
    sha: String,
}

impl Place {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let repository = root.path().join("repository");
        fs::create_dir(&repository).expect("a directory");
        for (path, content) in files {
            let path = repository.join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
            fs::write(path, content).expect("a file");
        }
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]);
            let output = command.args(arguments).current_dir(&repository).output().expect("git runs");
            assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text").trim().to_owned()
        };
        git(&["init", "-q"]);
        git(&["add", "."]);
        git(&["commit", "-q", "--allow-empty", "-m", "first"]);
        let sha = git(&["rev-parse", "HEAD"]);
        Self { root, sha }
    }

    pub(crate) fn payload(&self, id: u64, script: &[&str]) -> JobPayload {
        JobPayload {
            id: JobId(id),
            token: JobToken::new(format!("job-token-{id}")),
            allow_git_fetch: true,
            job_info: JobInfo {
                name: format!("job-{id}"),
                project_id: 1,
                project_full_path: "group/project".to_owned(),
                ..JobInfo::default()
            },
            git_info: GitInfo {
                repo_url: self.root.path().join("repository").display().to_string(),
                ref_name: "main".to_owned(),
                sha: self.sha.clone(),
                depth: 20,
                ..GitInfo::default()
            },
            runner_info: RunnerInfo { timeout: 600 },
            steps: vec![step("script", script)],
            features: Features { trace_sections: true, ..Features::default() },
            ..JobPayload::default()
        }
    }

    pub(crate) fn config(&self) -> RunnerConfig {
        RunnerConfig::local(self.root.path().join("builds"), self.root.path().join("cache"), helper_binary())
    }

    pub(crate) fn sha(&self) -> &str {
        &self.sha
    }
}

pub(crate) fn step(name: &str, script: &[&str]) -> Step {
    Step { name: name.to_owned(), script: script.iter().map(|&line| line.to_owned()).collect(), ..Step::default() }
}

pub(crate) fn variable(key: &str, value: &str) -> Variable {
    Variable { key: key.to_owned(), value: value.to_owned(), public: true, ..Variable::default() }
}

pub(crate) fn image(name: &str) -> Image {
    Image { name: name.to_owned(), ..Image::default() }
}

/// The example `helper`, which cargo builds beside the tests.
pub(crate) fn helper_binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let directory = test.parent().and_then(Path::parent).expect("tests are in target/<profile>/deps");
    let helper = directory.join("examples/helper");
    assert!(helper.is_file(), "{} is built by `cargo test -p dockwright-runner`, not by `--test it` alone", helper.display());
    helper
}

/// Runs all jobs of a recorder, `slots` at once.
pub(crate) async fn run(
    recorder: &Arc<Recorder>,
    engines: impl EngineProvider,
    config: RunnerConfig,
    slots: usize,
    stop: &CancellationToken,
) {
    let runner =
        Runner { coordinator: Arc::<Recorder>::clone(recorder), engines: Arc::new(engines), config: Arc::new(config), events: None };
    let slots = NonZeroUsize::new(slots).expect("at least one slot");
    runner.run_jobs(slots, stop.clone()).await.expect("the recorder answers");
}
