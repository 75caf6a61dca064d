//! What a runner leaves that is killed, what a full disk does to jobs, and an upgrade under a job: rows of `docs/reference/faults.md`.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use dockwright_testing::{documented_fault, requires};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    Machine,
    coordinator::step,
    service::{Service, runners},
};

const SECRET: &str = "tulip-bulb-9";

/// A secret in a file variable, which is on disk while the job runs.
fn variables() -> Value {
    json!([
        {"key": "GIT_STRATEGY", "value": "none", "public": true},
        {"key": "SECRET_FILE", "value": SECRET, "file": true, "masked": true},
    ])
}

fn run_command(machine: &Machine) -> Command {
    let mut command = machine.command(env!("CARGO_BIN_EXE_dockwright"));
    command.args(["runner", "run"]).env("DOCKWRIGHT_HOME", machine.path("home"));
    command
}

/// Processes of this machine, other than this test: their environment names its home.
fn processes(machine: &Machine) -> Vec<String> {
    let needle = format!("HOME={}", machine.root.path().display());
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let of_machine = entries.filter(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes())
    });
    of_machine.map(|entry| fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ")).collect()
}

fn until_nothing_runs(machine: &Machine, phase: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left = processes(machine);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{phase}: still running: {left:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let found = entries.flat_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        Ok(kind) if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    });
    found.collect()
}

fn holds_secret(path: &Path) -> bool {
    fs::read(path).unwrap_or_default().windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

#[track_caller]
pub(super) fn assert_documented(test: &str, end: &Value) {
    let row = documented_fault(test);
    let found = (end["state"].as_str().unwrap_or_default(), end["failure_reason"].as_str().unwrap_or_default());
    assert_eq!((row.ends.as_str(), row.failure_reason.as_str()), found, "{test}");
}

/// A job that stays in a phase.
struct Held {
    phase: &'static str,
    fields: Value,
    /// What the coordinator sees of the job being there: a request, or a line of the trace.
    shows: Shows,
}

enum Shows {
    Request(&'static str),
    Printed(&'static str),
}

fn held(git_server: &TcpListener) -> Vec<Held> {
    let url = format!("http://{}/group/project.git", git_server.local_addr().expect("an address"));
    let git_info = json!({"repo_url": url, "ref": "main", "sha": "0".repeat(40), "before_sha": "0", "ref_type": "branch"});
    let file = json!([{"name": "a", "paths": ["a"], "artifact_type": "archive", "artifact_format": "zip"}]);
    let earlier = json!([{"id": 9, "token": "t", "name": "earlier", "artifacts_file": {"filename": "artifacts.zip", "size": 1}}]);
    let print_secret = "cat \"$SECRET_FILE\"; (setsid sleep 600 &)";
    vec![
        Held {
            phase: "get_sources",
            fields: json!({"git_info": git_info, "variables": [], "steps": [step("script", "true")]}),
            shows: Shows::Printed("Created fresh repository"),
        },
        Held {
            phase: "download_artifacts",
            fields: json!({"dependencies": earlier, "variables": variables(), "steps": [step("script", "true")]}),
            shows: Shows::Request("GET /api/v4/jobs/9/artifacts"),
        },
        Held {
            phase: "step_script",
            fields: json!({"variables": variables(), "steps": [step("script", &format!("{print_secret}; echo he''re; sleep 600"))]}),
            shows: Shows::Printed("here"),
        },
        Held {
            phase: "after_script",
            fields: json!({
                "variables": variables(),
                "steps": [step("script", print_secret), step("after_script", &format!("{print_secret}; echo he''re; sleep 600"))],
            }),
            shows: Shows::Printed("here"),
        },
        Held {
            phase: "upload_artifacts",
            fields: json!({
                "variables": variables(),
                "steps": [step("script", &format!("{print_secret}; cp \"$SECRET_FILE\" a"))],
                "artifacts": file,
            }),
            shows: Shows::Request("/artifacts?"),
        },
    ]
}

/// `kill -9` in each phase: no process of the job lives on, no secret stays on disk but where the job itself put one, and the next start
/// takes the next job.
#[test]
fn a_runner_is_killed_in_each_phase() {
    let git_server = TcpListener::bind("127.0.0.1:0").expect("a port");
    for Held { phase, fields, shows } in held(&git_server) {
        let machine = Machine::new();
        machine.write_config(&runners(&["one"]));
        machine.gitlab.give_with("one", fields);
        let service = Service::of(run_command(&machine));
        match shows {
            Shows::Request(request) => machine.gitlab.until_requested(request),
            Shows::Printed(text) => machine.gitlab.until_printed(1, text),
        }
        let log = service.kill();
        until_nothing_runs(&machine, phase);
        // The artifact, and its archive on the way, are the job's own doing.
        let is_artifact = |path: &PathBuf| path.ends_with("p/a") || path.ends_with("upload");
        let with_secret = files(machine.root.path()).into_iter().filter(|path| holds_secret(path) && !is_artifact(path));
        assert_eq!(with_secret.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "{phase}");
        let trace = machine.gitlab.trace(1);
        for text in [&log, &trace] {
            assert!(!text.contains(SECRET) && !text.contains("job-token-1"), "{phase}: {text}");
        }
        // The directory may hold half a repository, which a job with sources would go on with.
        let empty = json!([{"key": "GIT_STRATEGY", "value": "empty", "public": true}]);
        machine.gitlab.give_with("one", json!({"variables": empty, "steps": [step("script", "true")]}));
        let service = Service::of(run_command(&machine));
        assert_eq!(machine.gitlab.ended(1)[0]["state"], "success", "{phase}");
        service.signal(Signal::QUIT);
        let log = service.ended_with(0);
        let mut left = files(&machine.path("home/ci/builds"));
        left.retain(|path| path.extension().is_none_or(|extension| extension != "lock"));
        assert!(left.is_empty(), "{phase}: {left:?} are left\n{log}");
    }
    assert_eq!(documented_fault("a_runner_is_killed_in_each_phase").ends, "as the coordinator says");
}

/// A runner with a file system of one megabyte at a directory, or `None` where the machine makes none.
fn with_small_disk(machine: &Machine, directory: &str) -> Option<Service> {
    let directory = machine.path(directory);
    fs::create_dir_all(&directory).expect("a directory");
    let mount = "mount -t tmpfs -o size=1m tmpfs \"$1\"; shift; exec \"$@\"";
    let within = |command: &mut Command| {
        command.args(["--user", "--map-root-user", "--mount", "sh", "-euc", mount, "sh"]).arg(&directory);
    };
    let mut trial = machine.command("unshare");
    within(&mut trial);
    if !trial.arg("true").output().expect("unshare runs").status.success() {
        return None;
    }
    let mut command = machine.command("unshare");
    within(&mut command);
    command.arg(env!("CARGO_BIN_EXE_dockwright")).args(["runner", "run"]).env("DOCKWRIGHT_HOME", machine.path("home"));
    Some(Service::of(command))
}

/// Runs a job on a machine with a small disk; returns its end and its trace.
fn on_small_disk(test: &str, directory: &str, fields: Value) -> Option<(Value, String)> {
    let machine = Machine::new();
    let builds = machine.path("builds").display().to_string();
    machine.write_config(&format!("{}  builds_dir = \"{builds}\"\n", runners(&["one"])));
    machine.gitlab.give_with("one", fields);
    let Some(service) = with_small_disk(&machine, directory) else {
        dockwright_testing::skip(test, "no tmpfs can be mounted in a user namespace");
        return None;
    };
    let end = machine.gitlab.ended(1).remove(0);
    assert_documented(test, &end);
    // The runner goes on.
    machine.gitlab.give("one", "true");
    assert_eq!(machine.gitlab.ended(2)[1]["state"], "success");
    service.signal(Signal::QUIT);
    let log = service.ended_with(0);
    assert!(!log.contains(SECRET), "{log}");
    Some((end, machine.gitlab.trace(1)))
}

#[test]
fn a_disk_is_full_of_builds() {
    requires!(UserNamespace);
    let script = "dd if=/dev/zero of=big bs=1024 count=4096 status=none";
    let fields = json!({"variables": variables(), "steps": [step("script", script)]});
    let Some((end, trace)) = on_small_disk("a_disk_is_full_of_builds", "builds", fields) else { return };
    assert_eq!(end["exit_code"], 1);
    assert!(trace.contains("No space left on device") && trace.contains("ERROR: Job failed: exit status 1"), "{trace}");
}

#[test]
fn a_disk_is_full_of_a_trace() {
    requires!(UserNamespace);
    let fields = json!({"variables": variables(), "steps": [step("script", "seq 400000; sleep 600")]});
    let Some((end, trace)) = on_small_disk("a_disk_is_full_of_a_trace", "home/ci/builds", fields) else { return };
    assert_eq!(end["output"], Value::Null, "there is no checksum of a trace that is not whole");
    let lines: Vec<&str> = trace.lines().map(|line| line.rsplit(' ').next().unwrap_or_default()).collect();
    let numbers: Vec<u32> = lines.iter().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.len() > 1000, "{trace}");
    let whole = &numbers[..numbers.len() - 1];
    assert!(whole.iter().copied().eq(1..=u32::try_from(whole.len()).expect("a count")), "the trace has a gap or a repetition");
    let words = "ERROR: Job failed (system failure): the runner has no room for the job's trace";
    assert_eq!(trace.matches(words).count(), 1, "{}", &trace[trace.len().saturating_sub(2000)..]);
}

#[test]
fn a_disk_is_full_of_artifacts() {
    requires!(UserNamespace);
    let fields = json!({
        "variables": variables(),
        "steps": [step("script", "head -c 4000000 /dev/urandom > a")],
        "artifacts": [{"name": "a", "paths": ["a"], "artifact_type": "archive", "artifact_format": "zip"}],
    });
    let Some((_, trace)) = on_small_disk("a_disk_is_full_of_artifacts", "home/ci/builds", fields) else { return };
    assert!(trace.contains("ERROR: Job failed (system failure): ") && trace.contains("No space left on device"), "{trace}");
}

/// What systemd does when the program's package is upgraded: the file is replaced, the service drained, and started anew.
#[test]
fn the_program_is_replaced_under_a_job() {
    let machine = Machine::new();
    machine.write_config(&runners(&["one"]));
    let program = machine.path("bin/program");
    fs::copy(env!("CARGO_BIN_EXE_dockwright"), &program).expect("a copy");
    let start = || {
        let mut command = machine.command(&program.display().to_string());
        command.args(["runner", "run"]).env("DOCKWRIGHT_HOME", machine.path("home"));
        Service::of(command)
    };
    let go = machine.path("go").display().to_string();
    let script = format!("echo he''re; until test -e {go}; do sleep 0.05; done; echo do''ne");
    let steps = json!([step("script", &script), step("after_script", "cat \"$SECRET_FILE\"; echo after: $CI_JOB_STATUS")]);
    machine.gitlab.give_with("one", json!({"variables": variables(), "steps": steps}));
    let service = start();
    machine.gitlab.until_printed(1, "here");
    fs::copy(&program, machine.path("bin/new")).expect("a copy");
    fs::rename(machine.path("bin/new"), &program).expect("the new program takes the name");
    service.signal(Signal::QUIT);
    machine.gitlab.give("one", "true");
    fs::write(&go, "").expect("a file");
    let log = service.ended_with(0);
    assert_documented("the_program_is_replaced_under_a_job", &machine.gitlab.ended(1)[0]);
    let trace = machine.gitlab.trace(1);
    assert!(trace.contains("done") && trace.contains("[MASKED]after: success"), "{trace}\n{log}");
    assert!(!trace.contains(SECRET) && !log.contains(SECRET), "{trace}\n{log}");
    assert_eq!(machine.gitlab.trace(2), "", "a runner that drains takes no job");
    let service = start();
    assert_eq!(machine.gitlab.ended(2)[1]["state"], "success");
    service.signal(Signal::QUIT);
    service.ended_with(0);
}
