//! The container image: built by this program's engine, started by it, and used.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use dockwright_testing::{requires, skip};
use expect_test::expect;
use tempfile::TempDir;

use crate::succeeded;

/// `dockwright engine serve` with a home of its own.
struct Engine {
    directory: TempDir,
    child: Child,
}

impl Engine {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockwright"));
        command.args(["engine", "serve", "--socket"]).arg(directory.path().join("socket"));
        command.env("DOCKWRIGHT_HOME", directory.path().join("home")).stdout(Stdio::piped());
        command.stderr(File::create(directory.path().join("log")).expect("a file"));
        let mut child = command.spawn().expect("the engine starts");
        let mut served = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut served).expect("a line");
        let log = || std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        assert!(served.contains("DOCKER_HOST="), "{served}{}", log());
        Self { child, directory }
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", format!("unix://{}", self.directory.path().join("socket").display()));
        command.env("DOCKER_CONFIG", self.directory.path()).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        succeeded(&self.docker(arguments).output().expect("docker runs"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

#[test]
fn the_image_registers_a_runner_and_runs_a_job() {
    requires!(UserNamespace, DockerCli);
    let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    if !Path::new(top).join("target/stand-ins/runner-base.tar").is_file() {
        return skip("the_image_registers_a_runner_and_runs_a_job", "run scripts/stand-in-images target/stand-ins");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut build = Command::new("scripts/package-image");
    build.current_dir(top).arg(directory.path()).arg(env!("CARGO_BIN_EXE_dockwright"));
    let archive = succeeded(&build.output().expect("bash runs"));

    let engine = Engine::start();
    let loaded = engine.ok(&["load", "-q", "-i", archive.trim()]);
    let image = loaded.trim().rsplit(' ').next().expect("a name");
    let config = "{{.Config.User}} {{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.Volumes}}";
    expect![[r#"
        gitlab-runner [/usr/bin/gitlab-runner] [run --user=gitlab-runner --working-directory=/home/gitlab-runner] map[/etc/gitlab-runner:{} /home/gitlab-runner:{}]
    "#]]
    .assert_eq(&engine.ok(&["image", "inspect", "--format", config, image]));
    assert!(engine.ok(&["run", "--rm", image, "--version"]).starts_with("Version: "));
    let capabilities = engine.ok(&["run", "--rm", "--entrypoint", "getcap", image, "/usr/bin/newuidmap", "/usr/bin/newgidmap"]);
    assert_eq!(capabilities, "/usr/bin/newuidmap cap_setuid=ep\n/usr/bin/newgidmap cap_setgid=ep\n");

    let mut inside = engine.docker(&["run", "--rm", "-i", "--entrypoint", "bash", image, "-s"]);
    inside.stdin(File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/package/image.sh")).expect("the script"));
    let found = succeeded(&inside.output().expect("docker runs"));
    expect![[r#"
        user gitlab-runner 999, home /home/gitlab-runner
        git version
        certificates
        600 gitlab-runner:gitlab-runner /etc/gitlab-runner/config.toml
        job: "status":"success"
         01O job of gitlab-runner in /home/gitlab-runner/builds/[token]/0/group/app
        drained
    "#]]
    .assert_eq(&found);

    // The service as an operator starts it: it waits for its configuration, and `docker stop` ends it in order.
    engine.ok(&["run", "-d", "--name", "service", image]);
    let mut logs = engine.docker(&["logs", "-f", "service"]);
    let mut logs = logs.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("docker runs");
    let lines = BufReader::new(logs.stderr.take().expect("a pipe")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("There is no configuration yet")), "the service did not start");
    engine.ok(&["stop", "-t", "60", "service"]);
    assert_eq!(engine.ok(&["inspect", "--format", "{{.State.ExitCode}}", "service"]), "0\n");
    logs.wait().expect("it ends with the container");
}
