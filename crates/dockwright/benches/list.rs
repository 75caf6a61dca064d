//! `dockwright list` as a whole process, beside `gitlab-ci-local --list` in the same run where that is installed
//! (`npm install -g gitlab-ci-local`). Run it with `cargo xtask bench language`.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const RUNS: usize = 20;
const PEER: &str = "gitlab-ci-local";

fn main() {
    let probe = Command::new(PEER).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let has_peer = probe.is_ok_and(|status| status.success());
    if !has_peer {
        println!("SKIPPED: comparison with {PEER}: it is not on the PATH, or does not run");
    }
    println!("| Jobs in the file that is listed, median of {RUNS} processes | dockwright | {PEER} | ratio |");
    println!("|---|---|---|---|");
    for jobs in [1, 100, 1000] {
        let repository = repository(jobs);
        let ours = median(|| command(env!("CARGO_BIN_EXE_dockwright"), "list", repository.path()));
        let row = format!("| {jobs} | {} |", millis(ours));
        if has_peer {
            let theirs = median(|| command(PEER, "--list", repository.path()));
            println!("{row} {} | {:.0} |", millis(theirs), theirs.as_secs_f64() / ours.as_secs_f64());
        } else {
            println!("{row} – | – |");
        }
    }
}

/// Makes a repository whose configuration has this many jobs.
fn repository(jobs: usize) -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("dockwright-bench-").tempdir().expect("temporary directory");
    let mut text = String::new();
    for number in 0..jobs {
        let job = "script: [make]\n  rules: [{if: $CI_COMMIT_BRANCH == \"main\"}]\n  needs: []";
        writeln!(text, "job-{number}:\n  {job}").expect("writing to a string");
    }
    fs::write(directory.path().join(".gitlab-ci.yml"), text).expect("file");
    let remote = ["remote", "add", "origin", "https://gitlab.example.com/group/project.git"];
    let commit = ["-c", "user.name=b", "-c", "user.email=b@example.invalid", "commit", "-q", "-m", "first"];
    for arguments in [&["init", "-q", "-b", "main"][..], &remote, &["add", "-A"], &commit] {
        let status = Command::new("git").args(arguments).current_dir(&directory).status().expect("git runs");
        assert!(status.success(), "git {arguments:?}: {status}");
    }
    directory
}

fn command(program: &str, argument: &str, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(argument).current_dir(directory).env("HOME", directory).env_remove("DOCKWRIGHT_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs a command repeatedly; its first run, which warms caches, does not count.
fn median(make: impl Fn() -> Command) -> Duration {
    let mut times: Vec<Duration> = (0..=RUNS)
        .map(|_| {
            let begin = Instant::now();
            let status = make().status().expect("the program starts");
            assert!(status.success(), "{:?}: {status}", make());
            begin.elapsed()
        })
        .collect();
    times.remove(0);
    times.sort_unstable();
    times[RUNS / 2]
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
