//! The ways of the page "Building Docker images with GitLab CI/CD", from `register` as printed there to a built image: a served coordinator,
//! `runner run`, nothing privileged.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    samples::{assert_builds_and_tests, files, sample},
    world::{World, for_each_world, run_checked},
};

const REGISTER_SHELL: &str = include_str!("samples/register-shell.sh");
const REGISTER_DIND_TLS: &str = include_str!("samples/register-dind-tls.sh");
const REGISTER_SOCKET: &str = include_str!("samples/register-socket.sh");
/// How long a pipeline may take on a machine that does a lot else.
const PIPELINE_MAX: Duration = Duration::from_secs(300);

/// A process that ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // In order, so that the runner ends its engines.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// A coordinator with one project, on a machine where `gitlab-runner` is this program.
struct Served<'a> {
    world: &'a World,
    directory: PathBuf,
    address: String,
    _coordinator: Process,
}

impl<'a> Served<'a> {
    fn new(world: &'a World, name: &str, configuration: &[u8]) -> Self {
        let repository = world.repository(name, &files(configuration, &[]));
        let directory = repository.with_extension("served");
        world.make_directory(&directory);
        fs::create_dir(directory.join("bin")).expect("directory");
        let sudo = directory.join("bin/sudo");
        fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").expect("file");
        fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).expect("mode");
        symlink(world.path().join("dockwright"), directory.join("bin/gitlab-runner")).expect("link");
        let mut command = world.dockwright();
        command.args(["coordinator", "serve", "--listen", "127.0.0.1:0", "--registry", "127.0.0.1:0", "--data"]);
        command.arg(directory.join("data")).arg(format!("--project=group/app={}", repository.display()));
        let mut coordinator = command.stdout(Stdio::piped()).spawn().expect("dockwright runs");
        let mut lines = BufReader::new(coordinator.stdout.take().expect("stdout is piped")).lines();
        let first = lines.next().expect("a line").expect("text");
        let address = first.strip_prefix("COORDINATOR=http://").expect("an address").to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self { world, directory, address, _coordinator: Process(coordinator) }
    }

    fn token(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join("data").join(name)).expect("a token").trim().to_owned()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.world.command(program);
        let path = command.get_envs().find(|(key, _)| *key == "PATH").and_then(|(_, value)| value).expect("a PATH").to_owned();
        command.env("PATH", format!("{}:{}", self.directory.join("bin").display(), path.display()));
        command.env("CONFIG_FILE", self.directory.join("config.toml")).current_dir(&self.directory);
        command
    }

    /// Registers a runner by a command of the page, and shows what is configured then.
    fn register(&self, printed: &str) -> String {
        let url = format!("http://{}/", self.address);
        let script = printed.replace("https://gitlab.com/", &url).replace("REGISTRATION_TOKEN", &self.token("registration-token"));
        run_checked(self.command("sh").args(["-euc", &script]));
        fs::read_to_string(self.directory.join("config.toml")).expect("config.toml")
    }

    /// There is no network to pull from here, which the page's commands would do for every job.
    fn use_local_images(&self) {
        let file = self.directory.join("config.toml");
        let text = fs::read_to_string(&file).expect("config.toml");
        let changed = text.replace("  [runners.docker]\n", "  [runners.docker]\n    pull_policy = \"if-not-present\"\n");
        assert_ne!(text, changed, "there is no [runners.docker]: {text}");
        fs::write(file, changed).expect("config.toml");
    }

    /// Runs a pipeline to its end, and returns the trace of its first job; panics with it unless it succeeded.
    fn run_green(&self) -> String {
        let mut command = self.command("gitlab-runner");
        let _runner = Process(command.arg("run").spawn().expect("the runner starts"));
        let created = self.ask("POST", "/projects/1/pipeline?ref=main");
        let id = created["id"].as_u64().unwrap_or_else(|| panic!("there is no pipeline: {created}"));
        let began = Instant::now();
        loop {
            let pipeline = self.ask("GET", &format!("/projects/1/pipelines/{id}"));
            let is_over = matches!(pipeline["status"].as_str(), Some("success" | "failed" | "canceled" | "skipped"));
            if is_over || began.elapsed() > PIPELINE_MAX {
                let jobs = self.ask("GET", &format!("/projects/1/pipelines/{id}/jobs"));
                let trace = self.directory.join(format!("data/jobs/{}/trace.log", jobs[0]["id"]));
                let trace = fs::read_to_string(trace).unwrap_or_default();
                assert_eq!(pipeline["status"], "success", "{jobs}\n{trace}");
                return trace;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn ask(&self, method: &str, path: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(&self.address).expect("the coordinator listens");
        let token = self.token("personal-token");
        let head = format!(
            "{method} /api/v4{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\nPRIVATE-TOKEN: {token}\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).expect("it takes the request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        serde_json::from_str(body).expect("JSON")
    }
}

#[test]
fn shell() {
    for_each_world("served::shell", |world| {
        let served = Served::new(world, "served-shell", sample!("shell.gitlab-ci.yml"));
        let config = served.register(REGISTER_SHELL);
        assert!(config.contains("name = \"My Runner\"") && config.contains("executor = \"shell\""), "{config}");
        assert_builds_and_tests(&served.run_green());
    });
}

#[test]
fn dind_tls() {
    for_each_world("served::dind_tls", |world| {
        let served = Served::new(world, "served-tls", sample!("dind-tls.gitlab-ci.yml"));
        let config = served.register(REGISTER_DIND_TLS);
        assert!(config.contains("privileged = true") && config.contains("volumes = [\"/certs/client\", \"/cache\"]"), "{config}");
        served.use_local_images();
        assert_builds_and_tests(&served.run_green());
    });
}

#[test]
fn socket() {
    for_each_world("served::socket", |world| {
        let served = Served::new(world, "served-socket", sample!("socket.gitlab-ci.yml"));
        let config = served.register(REGISTER_SOCKET);
        assert!(config.contains("volumes = [\"/var/run/docker.sock:/var/run/docker.sock\", \"/cache\"]"), "{config}");
        served.use_local_images();
        assert_builds_and_tests(&served.run_green());
    });
}

/// The second pipeline finds in the coordinator's registry what the first has pushed.
#[test]
fn layer_cache() {
    for_each_world("served::layer_cache", |world| {
        let served = Served::new(world, "served-cache", sample!("layer-cache.gitlab-ci.yml"));
        served.register(REGISTER_DIND_TLS);
        served.use_local_images();
        let first = served.run_green();
        assert!(first.contains("Login Succeeded") && first.contains("latest: digest: sha256:"), "{first}");
        let second = served.run_green();
        assert!(second.contains("Layer already exists") && !second.contains(": Pushed"), "{second}");
    });
}
