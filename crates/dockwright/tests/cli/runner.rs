//! The runner's commands as they are typed, against a coordinator that answers as GitLab does.

mod coordinator;
mod faults;
mod service;

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use expect_test::{Expect, expect};
use tempfile::TempDir;

use self::coordinator::FakeGitlab;
use crate::common::Printed;

/// A machine on which `gitlab-runner` is this program.
struct Machine {
    root: TempDir,
    gitlab: FakeGitlab,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().expect("temporary directory"), gitlab: FakeGitlab::start() };
        // `sudo` as the mission's commands call it.
        machine.script("bin/sudo", "#!/bin/sh\nexec \"$@\"\n");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_dockwright"), machine.path("bin/gitlab-runner")).expect("link");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        fs::write(&path, text).expect("file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").expect("PATH"));
        command.env_clear().env("PATH", path).env("HOME", self.root.path()).env("CONFIG_FILE", self.path("config.toml"));
        command.current_dir(self.root.path()).stdin(Stdio::null());
        command
    }

    fn runner(&self, arguments: &[&str]) -> Printed {
        let mut command = self.command(env!("CARGO_BIN_EXE_dockwright"));
        command.arg0("gitlab-runner").args(arguments);
        Printed::of(command.output().expect("the runner runs"))
    }

    /// Runs a command of the mission as it is printed, but for the address of GitLab.
    fn mission(&self, sample: &str) -> Printed {
        let script = sample.replace("https://gitlab.com/", &self.gitlab.url());
        Printed::of(self.command("sh").args(["-euc", &script]).output().expect("sh runs"))
    }

    /// What is configured, with what differs between runs filtered.
    fn config(&self) -> String {
        let text = fs::read_to_string(self.path("config.toml")).expect("config.toml");
        let lines = text.replace(&self.gitlab.url(), "https://gitlab.com/");
        let lines = lines.lines().map(|line| match line.split_once(" = 2") {
            Some((key, _)) if key.ends_with("token_obtained_at") => format!("{key} = [now]"),
            _ => line.to_owned(),
        });
        lines.map(|line| line + "\n").collect()
    }

    fn write_config(&self, text: &str) {
        fs::write(self.path("config.toml"), text.replace("GITLAB", &self.gitlab.url())).expect("config.toml");
    }

    fn check_requests(&self, expected: &Expect) {
        expected.assert_eq(&self.gitlab.requests());
    }
}

const SHELL: &str = include_str!("../e2e/samples/register-shell.sh");
const DIND_TLS: &str = include_str!("../e2e/samples/register-dind-tls.sh");
const SOCKET: &str = include_str!("../e2e/samples/register-socket.sh");

#[test]
fn the_missions_commands_write_what_gitlab_runner_writes() {
    let machine = Machine::new();
    let printed = machine.mission(SHELL).ended_with(0);
    assert!(printed.stderr.contains("Runner registered successfully."), "{}", printed.stderr);
    expect![[r#"
        concurrent = 1
        check_interval = 0
        shutdown_timeout = 0

        [session_server]
          session_timeout = 1800

        [[runners]]
          name = "My Runner"
          url = "https://gitlab.com/"
          id = 1
          token = "SECRET-1"
          token_obtained_at = [now]
          token_expires_at = 0001-01-01T00:00:00Z
          executor = "shell"
          [runners.cache]
            MaxUploadedArchiveSize = 0
            [runners.cache.s3]
              AssumeRoleMaxConcurrency = 0
            [runners.cache.gcs]
            [runners.cache.azure]
    "#]]
    .assert_eq(&machine.config());
    let shell = machine.config();
    machine.mission(DIND_TLS).ended_with(0);
    machine.mission(SOCKET).ended_with(0);
    let config = machine.config();
    let head = shell.replace("shutdown_timeout", "connection_max_age = \"15m0s\"\nshutdown_timeout");
    expect![[r#"

        [[runners]]
          name = "My Docker Runner"
          url = "https://gitlab.com/"
          id = 2
          token = "SECRET-2"
          token_obtained_at = [now]
          token_expires_at = 0001-01-01T00:00:00Z
          executor = "docker"
          [runners.cache]
            MaxUploadedArchiveSize = 0
            [runners.cache.s3]
              AssumeRoleMaxConcurrency = 0
            [runners.cache.gcs]
            [runners.cache.azure]
          [runners.docker]
            tls_verify = false
            image = "docker:19.03.12"
            privileged = true
            disable_entrypoint_overwrite = false
            oom_kill_disable = false
            disable_cache = false
            volumes = ["/certs/client", "/cache"]
            volume_keep = false
            shm_size = 0
            network_mtu = 0

        [[runners]]
          name = "My Docker Runner"
          url = "https://gitlab.com/"
          id = 3
          token = "SECRET-3"
          token_obtained_at = [now]
          token_expires_at = 0001-01-01T00:00:00Z
          executor = "docker"
          [runners.cache]
            MaxUploadedArchiveSize = 0
            [runners.cache.s3]
              AssumeRoleMaxConcurrency = 0
            [runners.cache.gcs]
            [runners.cache.azure]
          [runners.docker]
            tls_verify = false
            image = "docker:19.03.12"
            privileged = false
            disable_entrypoint_overwrite = false
            oom_kill_disable = false
            disable_cache = false
            volumes = ["/var/run/docker.sock:/var/run/docker.sock", "/cache"]
            volume_keep = false
            shm_size = 0
            network_mtu = 0
    "#]]
    .assert_eq(config.strip_prefix(&head).unwrap_or(&config));
    let mode = fs::metadata(machine.path("config.toml")).expect("config.toml").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    machine.check_requests(&expect![[r#"
        POST /api/v4/runners description="My Runner" locked=true paused=false run_untagged=true token="REGISTRATION_TOKEN"
        POST /api/v4/runners description="My Docker Runner" locked=true paused=false run_untagged=true token="REGISTRATION_TOKEN"
        POST /api/v4/runners description="My Docker Runner" locked=true paused=false run_untagged=true token="REGISTRATION_TOKEN"
    "#]]);
}

#[test]
fn a_runner_made_in_gitlab_keeps_its_token() {
    let machine = Machine::new();
    let url = machine.gitlab.url();
    machine.runner(&["register", "-n", "-url", &url, "--token", "glrt-t1_abcdefghijkl", "--executor", "shell"]).ended_with(0);
    let config = machine.config();
    assert!(config.contains("token = \"glrt-t1_abcdefghijkl\"") && config.contains("id = 77"), "{config}");
    let refused = machine.runner(&["register", "-n", "--url", &url, "--token", "glrt-x", "--executor", "shell", "--tag-list", "a"]);
    assert!(refused.ended_with(1).stderr.contains("reserved"));
    machine.runner(&["unregister", "--name", &host_name()]).ended_with(0);
    assert!(!machine.config().contains("[[runners]]"), "{}", machine.config());
    let system_id = fs::read_to_string(machine.path(".runner_system_id")).expect("a system id");
    assert!(machine.gitlab.requests().contains(&format!("DELETE /api/v4/runners/managers system_id=\"{system_id}\"")));
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[test]
fn a_failed_registration_leaves_nothing_behind() {
    let machine = Machine::new();
    let url = machine.gitlab.url();
    let printed = machine.runner(&["register", "-n", "--url", &url, "-r", "R", "--executor", "docker"]).ended_with(1);
    assert!(printed.stderr.contains("The docker-image needs to be entered"), "{}", printed.stderr);
    assert!(!machine.path("config.toml").exists());
    machine.check_requests(&expect![[r#"
        POST /api/v4/runners description="[host]" locked=true paused=false run_untagged=true token="R"
        DELETE /api/v4/runners token="SECRET-1"
    "#]]);
    let printed = machine.runner(&["register", "-n", "--url", &url, "-r", "BAD", "--executor", "shell"]).ended_with(1);
    assert!(printed.stderr.contains("Failed to register the runner.") && printed.stderr.contains("403 Forbidden"), "{}", printed.stderr);
    assert!(!printed.stderr.contains("BAD"), "{}", printed.stderr);
}

#[test]
fn what_is_not_given_is_asked_for() {
    let machine = Machine::new();
    let mut command = machine.command(env!("CARGO_BIN_EXE_dockwright"));
    command.args(["runner", "register", "--executor", "docker"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the runner runs");
    let answers = format!("{}\nR\nasked\na,b\n\n\nalpine\n", machine.gitlab.url());
    child.stdin.take().expect("a pipe").write_all(answers.as_bytes()).expect("answers");
    Printed::of(child.wait_with_output().expect("the runner ends")).ended_with(0);
    let config = machine.config();
    assert!(config.contains("name = \"asked\"") && config.contains("image = \"alpine\""), "{config}");
    assert!(machine.gitlab.requests().contains("tag_list=\"a,b\""), "{}", machine.gitlab.requests());
    let printed = machine.runner(&["register"]).ended_with(1);
    assert!(printed.stderr.contains("--non-interactive"), "{}", printed.stderr);
}

#[test]
fn a_template_fills_what_flags_leave_open() {
    let machine = Machine::new();
    fs::write(
        machine.path("template.toml"),
        "[[runners]]\n  limit = 3\n  executor = \"docker\"\n  token = \"no\"\n  [runners.docker]\n    image = \"template\"\n    \
         cpus = \"2\"\n    volumes = [\"/data:/cache\"]\n",
    )
    .expect("template");
    let url = machine.gitlab.url();
    let arguments = ["register", "-n", "--url", &url, "-r", "R", "--template-config", "template.toml", "--docker-image", "flag"];
    machine.runner(&arguments).ended_with(0);
    let config = machine.config();
    for line in
        ["limit = 3", "executor = \"docker\"", "image = \"flag\"", "cpus = \"2\"", "volumes = [\"/data:/cache\"]", "token = \"SECRET-1\""]
    {
        assert!(config.contains(line), "{line} in\n{config}");
    }
}

const TWO: &str = r#"# by hand
[[runners]]
  name = "good"
  url = "GITLAB"
  token = "GOOD"
  executor = "shell"

# gone since May
[[runners]]
  name = "gone"
  url = "GITLAB"
  token = "BAD"
  executor = "shell"
"#;

#[test]
fn verify_removes_what_gitlab_no_longer_knows() {
    let machine = Machine::new();
    machine.write_config(TWO);
    let printed = machine.runner(&["verify"]).ended_with(1);
    assert!(printed.stderr.contains("Failed to verify runners"), "{}", printed.stderr);
    machine.runner(&["verify", "--name", "good"]).ended_with(0);
    machine.runner(&["verify", "--name", "nobody"]).ended_with(1);
    machine.runner(&["verify", "--delete"]).ended_with(0);
    expect![[r#"
        # by hand
        [[runners]]
          name = "good"
          url = "https://gitlab.com/"
          token = "GOOD"
          executor = "shell"
    "#]]
    .assert_eq(&machine.config());
}

#[test]
fn a_token_is_replaced_where_it_stands() {
    let machine = Machine::new();
    machine.write_config(TWO);
    machine.runner(&["reset-token", "--name", "good"]).ended_with(0);
    let config = machine.config();
    assert!(config.contains("token = \"NEW\"\n  token_obtained_at = [now]\n  token_expires_at = 2027-01-01T00:00:00Z\n"), "{config}");
    assert!(config.starts_with("# by hand") && config.contains("# gone since May"), "{config}");
}

#[test]
fn unregister_takes_all_that_gitlab_lets_go() {
    let machine = Machine::new();
    machine.write_config(TWO);
    machine.runner(&["unregister", "--all-runners"]).ended_with(1);
    let config = machine.config();
    assert!(!config.contains("\"good\"") && config.contains("\"gone\""), "{config}");
    machine.runner(&["unregister"]).ended_with(1);
}

#[test]
fn list_and_lint_read_the_missions_files() {
    let machine = Machine::new();
    for sample in [
        include_str!("../e2e/samples/dind-plain.config.toml"),
        include_str!("../e2e/samples/dind-tls.config.toml"),
        include_str!("../e2e/samples/socket.config.toml"),
    ] {
        machine.write_config(sample);
        let printed = machine.runner(&["lint"]).ended_with(1);
        assert!(printed.stderr.contains("the value of `token` needs quotes"), "{}", printed.stderr);
        machine.write_config(&sample.replace("token = TOKEN", "token = \"T\"").replace("token = REGISTRATION_TOKEN", "token = \"T\""));
        let printed = machine.runner(&["lint"]).ended_with(0);
        assert!(printed.stdout.contains("Configuration file is valid."), "{}", printed.stdout);
        let printed = machine.runner(&["list"]).ended_with(0);
        assert!(
            printed.stderr.contains("Listing configured runners") && printed.stderr.contains("Executor=docker Token=T"),
            "{}",
            printed.stderr
        );
    }
    let environment = include_str!("../e2e/samples/overlay-runner.config.toml");
    machine.write_config(&format!("[[runners]]\n{environment}"));
    machine.runner(&["lint"]).ended_with(0);
}

#[test]
fn lint_points_at_what_is_wrong_and_names_what_has_no_effect() {
    let machine = Machine::new();
    machine.write_config(
        "concurrent = 1\n[[runners]]\n  executor = \"docker\"\n  [runners.docker]\n    privilegd = true\n    isolation = \"process\"\n",
    );
    let printed = machine.runner(&["lint"]).ended_with(1);
    let shown = printed.stderr.replace(&machine.root.path().display().to_string(), "[root]");
    let shown: String = shown.lines().skip_while(|line| !line.starts_with("error")).map(|line| format!("{line}\n")).collect();
    expect![[r#"
        error[unknown-key]: unknown key `privilegd` in `runners.docker`
         --> [root]/config.toml:5:5
          |
        5 |     privilegd = true
          |     ^^^^^^^^^
          |
          = help: did you mean `privileged`?

    "#]]
    .assert_eq(&shown);
    assert!(printed.stdout.contains("config.toml:6: `runners.docker.isolation` has no effect"), "{}", printed.stdout);
    machine.runner(&["lint", "-c", "/no/such"]).ended_with(1);
}

#[test]
fn a_custom_executor_is_registered_with_its_programs() {
    let machine = Machine::new();
    let url = machine.gitlab.url();
    let register = ["register", "-n", "--url", &url, "--token", "glrt-t1_abcdefghijkl", "--executor", "custom"];
    let directories = ["--builds-dir", "/builds", "--cache-dir", "/cache"];
    let programs = ["--custom-config-exec", "/d/config", "--custom-config-args", "a", "--custom-run-exec", "/d/run"];
    let arguments = [&register[..], &directories, &programs, &["--custom-graceful-kill-timeout", "5"]].concat();
    let printed = machine.runner(&arguments).ended_with(0);
    assert!(!printed.stderr.contains("runs no jobs"), "{}", printed.stderr);
    let config = machine.config();
    let table = config.split_once("  [runners.custom]\n").map_or(config.as_str(), |(_, table)| table);
    let keys: String = table.lines().map(|line| format!("{}\n", line.trim_start())).collect();
    expect![[r#"
        config_exec = "/d/config"
        config_args = ["a"]
        run_exec = "/d/run"
        graceful_kill_timeout = 5
    "#]]
    .assert_eq(&keys);
    let printed = machine.runner(&["lint"]).ended_with(0);
    assert!(!printed.stdout.contains("has no effect"), "{}", printed.stdout);
}

#[test]
fn version_and_help_are_those_of_gitlab_runner() {
    let machine = Machine::new();
    let version = machine.runner(&["--version"]).ended_with(0).stdout;
    let keys: Vec<&str> = version.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(keys, ["Version", "Git revision", "Git branch", "GO version", "Built", "OS/Arch"]);
    assert!(machine.runner(&["register", "-h"]).ended_with(0).stdout.contains("gitlab-runner register"));
    machine.runner(&["nonsense"]).ended_with(1);
}
