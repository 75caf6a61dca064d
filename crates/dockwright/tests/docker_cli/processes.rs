//! `run` and `exec`: what a process gets, what comes back.

use std::process::{Command, Stdio};

use crate::daemon::{Docker, Image, each};

const BUSYBOX: &[Image] = &[Image::Busybox];

#[test]
fn run_passes_on_output_and_exit_code() {
    each("run_passes_on_output_and_exit_code", BUSYBOX, |docker| {
        let output = docker.run(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(output.stderr, b"err\n");
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(docker.ok(&["ps", "--all", "--quiet"]), "");
    });
}

#[test]
fn a_command_that_cannot_run_has_dockers_exit_codes() {
    each("a_command_that_cannot_run_has_dockers_exit_codes", BUSYBOX, |docker| {
        let missing = docker.fails(127, &["run", "--rm", "busybox", "nonsense"]);
        assert!(missing.contains("exec: \"nonsense\": executable file not found in $PATH"), "{missing}");
        docker.fails(127, &["run", "--rm", "busybox", "/nonsense"]);
        docker.fails(126, &["run", "--rm", "busybox", "/etc"]);
        let image = docker.fails(125, &["run", "--rm", "--pull", "never", "nonsense"]);
        assert!(image.contains("No such image: nonsense:latest"), "{image}");
        assert_eq!(docker.ok(&["ps", "--all", "--quiet"]), "");
    });
}

#[test]
fn settings_reach_the_process() {
    each("settings_reach_the_process", BUSYBOX, |docker| {
        let script = "id -u; id -g; pwd; echo $GREETING; hostname; cat /tmp/made/x 2>/dev/null || echo none";
        let arguments =
            ["run", "--rm", "-u", "www-data", "-w", "/tmp/made", "-e", "GREETING=hello", "-h", "box", "busybox", "sh", "-c", script];
        assert_eq!(docker.ok(&arguments), "33\n33\n/tmp/made\nhello\nbox\nnone");
        assert_eq!(docker.ok(&["run", "--rm", "--entrypoint", "echo", "busybox", "a b", "c"]), "a b c");
        let read_only =
            docker.ok(&["run", "--rm", "--read-only", "--tmpfs", "/t", "busybox", "sh", "-c", "touch /t/a; touch /a 2>&1; true"]);
        assert_eq!(read_only, "touch: /a: Read-only file system");
        let capabilities =
            docker.ok(&["run", "--rm", "--cap-drop", "ALL", "--cap-add", "CHOWN", "busybox", "grep", "CapEff", "/proc/self/status"]);
        assert_eq!(capabilities, "CapEff:\t0000000000000001");
    });
}

#[test]
fn input_and_its_end_arrive() {
    each("input_and_its_end_arrive", BUSYBOX, |docker| {
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let sum = docker.with_input(&["run", "-i", "--rm", "busybox", "md5sum"], &bytes);
        let expected = {
            let mut command = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("md5sum runs");
            std::io::Write::write_all(&mut command.stdin.take().expect("a pipe"), &bytes).expect("md5sum reads");
            String::from_utf8(command.wait_with_output().expect("md5sum ends").stdout).expect("text")
        };
        assert_eq!(sum, expected);
        // Output goes on after the input has ended.
        assert_eq!(docker.with_input(&["run", "-i", "--rm", "busybox", "sh", "-c", "cat; sleep 0.2; echo after"], b"x\n"), "x\nafter\n");
    });
}

#[test]
fn a_flood_of_output_arrives_whole() {
    each("a_flood_of_output_arrives_whole", BUSYBOX, |docker| {
        let printed = docker.ok(&["run", "--rm", "busybox", "seq", "200000"]);
        assert_eq!(printed.lines().count(), 200_000);
        assert!(printed.ends_with("\n200000"));
    });
}

/// Runs a docker command on a terminal, typing `input`, and returns what the terminal shows.
fn on_terminal(docker: &Docker<'_>, arguments: &str, input: &str) -> String {
    let command = format!("{} {arguments}", docker.shell_words());
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("HOME", docker.shared())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input.as_bytes()).expect("script reads");
    let output = child.wait_with_output().expect("script ends");
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

#[test]
fn a_terminal_is_a_terminal() {
    if let Some(reason) = dockwright_testing::Requirement::Command("script").missing() {
        return dockwright_testing::skip("a_terminal_is_a_terminal", &reason);
    }
    each("a_terminal_is_a_terminal", BUSYBOX, |docker| {
        let shown = on_terminal(docker, "run --rm -t busybox sh -c 'tty; echo $TERM'", "");
        assert!(shown.contains("/dev/pts/0\nxterm"), "{shown}");
        let typed = on_terminal(docker, "run --rm -it busybox sh -c 'read word; echo got $word'", "hello\n");
        assert!(typed.contains("got hello"), "{typed}");
    });
}

#[test]
fn exec_joins_the_container() {
    each("exec_joins_the_container", BUSYBOX, |docker| {
        let name = docker.name("exec");
        docker.ok(&["run", "-d", "--name", &name, "-e", "A=container", "busybox", "sleep", "1000"]);
        let script = "echo $A $B; pwd; id -u; exit 7";
        let output = docker.run(&["exec", "-e", "B=exec", "-w", "/etc", "-u", "1:1", &name, "sh", "-c", script]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "container exec\n/etc\n1\n");
        assert_eq!(output.status.code(), Some(7));
        assert_eq!(docker.with_input(&["exec", "-i", &name, "cat"], b"through"), "through");
        docker.ok(&["exec", "-d", &name, "touch", "/made"]);
        docker.until(&["exec", &name, "ls", "/made"], |printed| printed == "/made\n");
        docker.fails(127, &["exec", &name, "nonsense"]);
        docker.ok(&["rm", "-f", &name]);
        let gone = docker.fails(1, &["exec", &name, "true"]);
        assert!(gone.contains(&format!("No such container: {name}")), "{gone}");
    });
}
