//! A served coordinator, a repository, runners in this process, and plain HTTP.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use dockwright_job::{Registration, RunnerToken};
use dockwright_runner::{
    FixedEndpoint, Runner, RunnerConfig,
    api::{Client, ExecutorKind, HttpCoordinator, RunnerIdentity, ServerSettings, details},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A coordinator of its own directory, and the repository that it serves as `group/app`.
pub(crate) struct World {
    pub(crate) root: TempDir,
    process: Child,
    pub(crate) address: String,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl World {
    pub(crate) fn new(config: &str) -> Self {
        Self::with_arguments(config, &[])
    }

    pub(crate) fn with_arguments(config: &str, arguments: &[&str]) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let repository = root.path().join("repository");
        fs::create_dir(&repository).expect("a directory");
        git(&repository, &["init", "--quiet"]);
        let (process, address) = {
            commit(&repository, config);
            start(root.path(), "127.0.0.1:0", arguments)
        };
        Self { root, process, address }
    }

    pub(crate) fn commit(&self, config: &str) {
        commit(&self.root.path().join("repository"), config);
    }

    /// Writes a file for the next commit.
    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::write(self.root.path().join("repository").join(path), text).expect("a file");
    }

    /// Serves one more repository, with one commit on a branch.
    pub(crate) fn add_project(&self, path: &str, branch: &str, config: &str) {
        let repository = self.root.path().join(path.replace('/', "-"));
        fs::create_dir(&repository).expect("a directory");
        git(&repository, &["init", "--quiet"]);
        git(&repository, &["checkout", "--quiet", "-B", branch]);
        commit(&repository, config);
        self.json("POST", "/projects", &serde_json::json!({ "path": path, "repository": repository }).to_string());
    }

    /// Ends the coordinator without a word and starts it again at the same address.
    pub(crate) fn kill_and_restart(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
        (self.process, self.address) = start(self.root.path(), &self.address, &[]);
    }

    fn token(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join("data").join(name)).expect("a token").trim().to_owned()
    }

    /// Asks with the personal token.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
        call(&self.address, method, path, &format!("PRIVATE-TOKEN: {}\r\n", self.token("personal-token")), body)
    }

    /// Returns the head of an answer.
    pub(crate) fn head(&self, path: &str) -> String {
        exchange(&self.address, "GET", path, &format!("PRIVATE-TOKEN: {}\r\n", self.token("personal-token")), "").1
    }

    pub(crate) fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, bytes) = self.call(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).expect("JSON")
    }

    pub(crate) fn create_pipeline(&self) -> u64 {
        self.json("POST", "/projects/group%2Fapp/pipeline", r#"{"ref":"main"}"#)["id"].as_u64().expect("a number")
    }

    pub(crate) fn jobs(&self, pipeline: u64) -> Vec<Value> {
        let jobs = self.json("GET", &format!("/projects/1/pipelines/{pipeline}/jobs?include_retried=true&per_page=100"), "");
        jobs.as_array().expect("a list").clone()
    }

    pub(crate) fn job(&self, id: u64) -> Value {
        self.json("GET", &format!("/projects/1/jobs/{id}"), "")
    }

    pub(crate) fn trace(&self, id: u64) -> String {
        String::from_utf8_lossy(&self.call("GET", &format!("/projects/1/jobs/{id}/trace"), "").1).into_owned()
    }

    /// Returns what an answer without a job says of the queue.
    pub(crate) fn queue_version(&self, token: &str) -> String {
        let (_, head, _) = exchange(&self.address, "POST", "/jobs/request", "", &format!(r#"{{"token":"{token}"}}"#));
        let line = head.lines().find_map(|line| line.strip_prefix("x-gitlab-last-update: ")).expect("a version");
        line.trim().to_owned()
    }

    /// Waits until a pipeline has a status.
    pub(crate) async fn until_pipeline(&self, id: u64, status: &str) {
        self.until(&format!("pipeline {id} is {status}"), || {
            self.json("GET", &format!("/projects/1/pipelines/{id}"), "")["status"] == status
        })
        .await;
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            let is_late = began.elapsed() > Duration::from_secs(60);
            assert!(!is_late, "{what} did not happen: {}", self.json("GET", "/projects/1/jobs", ""));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Registers a runner and runs its jobs.
    pub(crate) async fn runner(&self, tags: &str, slots: usize) -> Worker {
        let client = Arc::new(Client::new(ServerSettings::new(format!("http://{}", self.address))).expect("a client"));
        let registration = Registration {
            token: RunnerToken::new(self.token("registration-token")),
            description: "test".to_owned(),
            tag_list: tags.to_owned(),
            run_untagged: tags.is_empty(),
            ..Registration::default()
        };
        let registered = client.register(&registration).await.expect("the runner registers");
        let place = self.root.path().join(format!("runner-{}", registered.id));
        let mut config = RunnerConfig::local(place.join("builds"), place.join("cache"), env!("CARGO_BIN_EXE_dockwright").into());
        config.shell.with_engine = false;
        config.short_token = registered.token.short().to_owned();
        let mut identity = RunnerIdentity::new(registered.token, "s_0123456789ab", details(Some(ExecutorKind::Shell)), place.join("spool"));
        identity.trace_interval = Duration::from_millis(50);
        identity.check_interval = Duration::from_millis(100);
        let runner = Runner {
            coordinator: Arc::new(HttpCoordinator::new(client, identity)),
            engines: Arc::new(FixedEndpoint::new("unix:///nonexistent.sock")),
            config: Arc::new(config),
            events: None,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let slots = NonZeroUsize::new(slots).expect("a slot");
        Worker { stop, task: tokio::spawn(async move { runner.run_jobs(slots, stopped).await.expect("the runner runs") }) }
    }
}

/// A runner in this process.
pub(crate) struct Worker {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Worker {
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("the runner ends");
    }
}

fn start(root: &Path, listen: &str, arguments: &[&str]) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dockwright"));
    command.args(["coordinator", "serve", "--listen", listen, "--data"]).arg(root.join("data"));
    command.arg(format!("--project=group/app={}", root.join("repository").display())).args(arguments);
    command.env("DOCKWRIGHT_HOME", root.join("home")).env("HOME", root).stdout(Stdio::piped());
    let mut process = command.spawn().expect("dockwright runs");
    let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
    let first = lines.next().expect("an address").expect("text");
    let address = first.strip_prefix("COORDINATOR=http://").expect("an address").to_owned();
    // The rest of the lines is read, so that printing them does not fail.
    std::thread::spawn(move || lines.for_each(drop));
    (process, address)
}

fn git(directory: &PathBuf, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]);
    let output = command.args(arguments).current_dir(directory).output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn commit(repository: &PathBuf, config: &str) {
    fs::write(repository.join(".gitlab-ci.yml"), config).expect("a file");
    git(repository, &["add", "."]);
    git(repository, &["commit", "--quiet", "--allow-empty", "--message", "change"]);
}

/// One request over a connection of its own: status and body of the answer.
pub(crate) fn call(address: &str, method: &str, path: &str, headers: &str, body: &str) -> (u16, Vec<u8>) {
    let (status, _, body) = exchange(address, method, path, headers, body);
    (status, body)
}

fn exchange(address: &str, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, Vec<u8>) {
    let headers = format!("Content-Type: application/json\r\n{headers}");
    request(address, method, &format!("/api/v4{path}"), &headers, body)
}

/// One request to any server.
pub(crate) fn request(address: &str, method: &str, target: &str, headers: &str, body: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("the coordinator listens");
    let length = body.len();
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(head.as_bytes()).expect("it takes the request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
    let status = String::from_utf8_lossy(&answer[9..12]).parse().expect("a status");
    let body = answer.split_off(end + 4);
    (status, String::from_utf8_lossy(&answer).into_owned(), body)
}
