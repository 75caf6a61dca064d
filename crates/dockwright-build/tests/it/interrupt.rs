//! A client that is ended takes its build along.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use dockwright_testing::requires;

use crate::{daemon::Daemon, differential::built_binary};

#[test]
fn an_interrupted_build_leaves_no_process() {
    requires!(Root, DockerCli, Command("busybox"));
    let Some(program) = built_binary() else {
        return dockwright_testing::skip("an_interrupted_build_leaves_no_process", "the binary is not built: `cargo build -p dockwright`");
    };
    let daemon = Daemon::dockwright(&program);
    let context = tempfile::tempdir().unwrap();
    fs::copy(dockwright_testing::find_command("busybox").unwrap(), context.path().join("busybox")).unwrap();
    // A number that no other process has in its command line.
    let marker = format!("1{:09}", std::process::id());
    let file = format!("FROM scratch\nCOPY busybox /busybox\nRUN [\"/busybox\", \"sleep\", \"{marker}\"]\n");
    fs::write(context.path().join("Dockerfile"), file).unwrap();

    let mut client = daemon.client(&["build", &context.path().display().to_string()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("Running in") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the build ended by itself");
    }
    wait_until("the step runs", || processes_with(&marker) > 0);
    // Not an interrupt: below a shell that put the tests in the background, those are ignored by the client as well.
    assert!(Command::new("kill").args(["-TERM", &client.id().to_string()]).status().unwrap().success());
    let _ = said.read_to_string(&mut line);
    client.wait().unwrap();
    wait_until("the step is gone", || processes_with(&marker) == 0);
}

fn wait_until(what: &str, reached: impl Fn() -> bool) {
    // Half a minute; it takes a moment.
    const ATTEMPTS: usize = 600;
    const PAUSE: Duration = Duration::from_millis(50);
    assert!(
        (0..ATTEMPTS).any(|_| reached() || {
            thread::sleep(PAUSE);
            false
        }),
        "{what}"
    );
}

/// Counts the processes that sleep for this long.
fn processes_with(marker: &str) -> usize {
    let argument = [b"sleep\0", marker.as_bytes(), b"\0"].concat();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    processes.filter(|command_line| command_line.ends_with(&argument)).count()
}
