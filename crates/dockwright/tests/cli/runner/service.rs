//! `run`: jobs of several runners, changes of the configuration, signals.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use expect_test::expect;
use rustix::process::{Pid, Signal, kill_process};

use super::{Machine, faults::assert_documented};

/// A runner process; killed if a test fails.
pub(super) struct Service {
    child: Child,
    log: BufReader<ChildStderr>,
    seen: String,
}

impl Service {
    fn start(machine: &Machine, arguments: &[&str]) -> Self {
        let mut command = machine.command(env!("CARGO_BIN_EXE_dockwright"));
        command.args(["runner", "run"]).args(arguments).env("NOTIFY_SOCKET", machine.path("notify"));
        Self::of(command)
    }

    /// Runs a command that runs the runner.
    pub(super) fn of(mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        let mut child = command.spawn().expect("the runner runs");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, log, seen: String::new() }
    }

    /// Reads the log up to a line that holds this text, and returns that line.
    fn until(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let length = self.log.read_line(&mut line).expect("the log");
            assert_ne!(length, 0, "the log ended without `{text}`:\n{}", self.seen);
            self.seen += &line;
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("the runner is there");
    }

    /// Kills it as the kernel does when memory is short, and returns its log.
    pub(super) fn kill(mut self) -> String {
        self.child.kill().expect("the runner is there");
        self.child.wait().expect("the runner ends");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("the log");
        std::mem::take(&mut self.seen) + &rest
    }

    #[track_caller]
    pub(super) fn ended_with(mut self, code: i32) -> String {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("the log");
        let seen = std::mem::take(&mut self.seen) + &rest;
        assert_eq!(self.child.wait().expect("the runner ends").code(), Some(code), "{seen}");
        seen
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn runners(names: &[&str]) -> String {
    let entry =
        |name: &&str| format!("[[runners]]\n  name = \"{name}\"\n  url = \"GITLAB\"\n  token = \"{name}\"\n  executor = \"shell\"\n");
    format!("concurrent = 8\ncheck_interval = 1\n{}", names.iter().map(entry).collect::<String>())
}

fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).expect("the metrics server");
    write!(connection, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_job_runs_and_is_counted_and_sigquit_waits_for_the_next() {
    let machine = Machine::new();
    let supervisor = UnixDatagram::bind(machine.path("notify")).expect("a socket");
    machine.write_config(&runners(&["one"]));
    machine.gitlab.give("one", "echo hello; exit 3");
    let mut service = Service::start(&machine, &["--listen-address", "127.0.0.1:0"]);
    let line = service.until("Metrics server listening");
    let address = line.trim().rsplit_once("address=").expect("the address").1.to_owned();
    let ends = machine.gitlab.ended(1);
    assert_eq!((&ends[0]["state"], &ends[0]["failure_reason"]), (&"failed".into(), &"script_failure".into()));
    service.until("Job failed");
    let metrics = get(&address, "/metrics");
    assert!(metrics.contains("gitlab_runner_jobs_total{runner=\"one\"") && metrics.contains("gitlab_runner_concurrent 8"), "{metrics}");
    assert!(get(&address, "/-/ready").starts_with("HTTP/1.1 200"));
    machine.gitlab.give("one", "sleep 2");
    machine.gitlab.until_requested("PUT /api/v4/jobs/2");
    service.signal(Signal::QUIT);
    let log = service.ended_with(0);
    assert_eq!(machine.gitlab.ended(2)[1]["state"], "success", "{log}");
    let mut told = [0; 256];
    let length = supervisor.recv(&mut told).expect("a notification");
    assert_eq!(&told[..length], b"READY=1");
}

#[test]
fn sigterm_interrupts_jobs() {
    let machine = Machine::new();
    machine.write_config(&runners(&["one"]));
    machine.gitlab.give("one", "sleep 600");
    let service = Service::start(&machine, &[]);
    machine.gitlab.until_requested("PUT /api/v4/jobs/1");
    service.signal(Signal::TERM);
    let log = service.ended_with(0);
    assert!(!log.is_empty());
    assert_documented("sigterm_interrupts_jobs", &machine.gitlab.ended(1)[0]);
}

#[test]
fn a_changed_file_is_taken_over_and_a_broken_one_is_not() {
    let machine = Machine::new();
    machine.write_config(&runners(&["one"]));
    let mut service = Service::start(&machine, &[]);
    service.until("Configuration loaded");
    machine.write_config("concurrent = 0\n");
    service.signal(Signal::HUP);
    service.until("the present one stays");
    machine.gitlab.give("one", "true");
    machine.gitlab.ended(1);
    machine.gitlab.give("two", "true");
    machine.write_config(&runners(&["two"]));
    service.until("Configuration loaded");
    machine.gitlab.ended(2);
    service.signal(Signal::INT);
    service.ended_with(0);
}

#[test]
fn a_configuration_that_comes_later_is_waited_for() {
    let machine = Machine::new();
    let mut service = Service::start(&machine, &[]);
    service.until("There is no configuration yet");
    machine.gitlab.give("one", "true");
    machine.write_config(&runners(&["one"]));
    assert_eq!(machine.gitlab.ended(1)[0]["state"], "success");
    service.signal(Signal::QUIT);
    service.ended_with(0);
}

#[test]
fn of_a_hundred_runners_nobody_waits_for_the_others() {
    let machine = Machine::new();
    let names: Vec<String> = (0..100).map(|number| format!("runner{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    machine.write_config(&runners(&names));
    for name in &names {
        machine.gitlab.give(name, "true");
    }
    let began = Instant::now();
    let service = Service::start(&machine, &[]);
    let ends = machine.gitlab.ended(100);
    assert!(ends.iter().all(|end| end["state"] == "success"), "{ends:?}");
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    service.signal(Signal::QUIT);
    service.ended_with(0);
}

#[test]
fn a_server_that_is_gone_or_hangs_takes_no_slot_from_others() {
    let machine = Machine::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let hangs = format!("http://{}/", silent.local_addr().expect("an address"));
    let config = runners(&["gone", "hangs", "good"]).replace("concurrent = 8", "concurrent = 2");
    machine.write_config(&config.replacen("GITLAB", "http://127.0.0.1:1/", 1).replacen("GITLAB", &hangs, 1));
    machine.gitlab.give("good", "true");
    let began = Instant::now();
    let service = Service::start(&machine, &[]);
    machine.gitlab.ended(1);
    machine.gitlab.give("good", "true");
    machine.gitlab.ended(2);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    service.signal(Signal::INT);
    service.ended_with(0);
}

#[test]
fn jobs_never_run_as_another_user_than_promised() {
    let machine = Machine::new();
    machine.write_config(&runners(&["one"]));
    let printed = machine.runner(&["run", "--user", "somebody-else"]).ended_with(1);
    assert!(printed.stderr.contains("User=somebody-else"), "{}", printed.stderr);
}

#[test]
fn a_single_runner_ends_after_its_jobs() {
    let machine = Machine::new();
    let url = machine.gitlab.url();
    machine.gitlab.give("one", "true");
    let arguments = ["run-single", "--url", &url, "--token", "one", "--executor", "shell", "--max-builds", "1"];
    machine.runner(&arguments).ended_with(0);
    assert_eq!(machine.gitlab.ended(1)[0]["state"], "success");
    machine.write_config(&runners(&["two"]));
    machine.runner(&["run-single", "--runner", "two", "--wait-timeout", "1"]).ended_with(0);
    machine.runner(&["run-single", "--runner", "nobody"]).ended_with(1);
    machine.runner(&["run-single", "--url", &url]).ended_with(1);
}

#[test]
fn a_unit_is_written_for_a_user() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("root/etc")).expect("directory");
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    fs::write(machine.path("root/etc/passwd"), format!("gitlab-runner:x:{uid}:{gid}::/home/gitlab-runner:/bin/bash\n")).expect("passwd");
    let root = machine.path("root").display().to_string();
    let install = [
        "install",
        "--root",
        &root,
        "--user=gitlab-runner",
        "--working-directory=/home/gitlab-runner",
        "-c",
        "/etc/gitlab-runner/config.toml",
    ];
    machine.runner(&install).ended_with(0);
    let unit = fs::read_to_string(machine.path("root/etc/systemd/system/gitlab-runner.service")).expect("the unit");
    let unit = unit.replace(env!("CARGO_BIN_EXE_dockwright"), "/usr/bin/dockwright");
    expect![[r#"
        [Unit]
        Description=GitLab Runner
        After=network.target

        [Service]
        Type=notify
        User=gitlab-runner
        ExecStart="/usr/bin/dockwright" runner run --config "/etc/gitlab-runner/config.toml" --working-directory "/home/gitlab-runner" --service "gitlab-runner"
        ExecReload=kill -HUP $MAINPID
        KillMode=mixed
        Restart=always
        RestartSec=2
        Delegate=yes

        [Install]
        WantedBy=multi-user.target
    "#]]
    .assert_eq(&unit);
    let config = fs::read_to_string(machine.path("root/etc/gitlab-runner/config.toml")).expect("the configuration");
    assert!(config.starts_with("concurrent = 1\ncheck_interval = 0\n"), "{config}");
    machine.runner(&["install", "--root", &root]).ended_with(1);
    machine.runner(&["install", "--root", &root, "--user", "nobody-here"]).ended_with(1);
}

#[test]
fn systemd_is_asked_about_the_service() {
    let machine = Machine::new();
    machine.script("bin/systemctl", "#!/bin/sh\necho \"$@\" >> calls\ntest \"$3\" != other\n");
    machine.runner(&["restart"]).ended_with(0);
    assert_eq!(machine.runner(&["status"]).ended_with(0).stdout, "gitlab-runner: Service is running\n");
    assert!(machine.runner(&["status", "-n", "other"]).ended_with(1).stderr.contains("other: Service has stopped"));
    assert_eq!(
        fs::read_to_string(machine.path("calls")).expect("calls"),
        "restart gitlab-runner\nis-active --quiet gitlab-runner\nis-active --quiet other\n"
    );
}

#[test]
fn a_port_that_answers_is_healthy() {
    let machine = Machine::new();
    let port = machine.gitlab.url().trim_end_matches('/').rsplit_once(':').expect("a port").1.to_owned();
    let printed = machine.runner(&["health-check", "--port", &port]).ended_with(0);
    assert_eq!(printed.stdout, format!("waiting for TCP connection to localhost on [{port}]...\n"));
    machine.runner(&["health-check"]).ended_with(1);
}
