//! The life of containers: names, states, logs, stopping, removal.

use crate::daemon::{Image, each};

const BUSYBOX: &[Image] = &[Image::Busybox];

#[test]
fn containers_are_listed_and_inspected() {
    each("containers_are_listed_and_inspected", BUSYBOX, |docker| {
        let name = docker.name("web");
        let id = docker.ok(&["run", "-d", "--name", &name, "--label", "tier=front", "busybox", "sleep", "1000"]);
        assert_eq!(id.len(), 64);
        assert_eq!(docker.ok(&["ps", "-q", "--no-trunc", "--filter", &format!("name={name}")]), id);
        assert_eq!(
            docker.ok(&["ps", "--filter", "label=tier=front", "--format", "{{.Names}} {{.Image}} {{.State}}"]),
            format!("{name} busybox running")
        );
        assert_eq!(
            docker.ok(&["inspect", "-f", "{{.Name}} {{.State.Running}} {{.Config.Cmd}}", &id[..12]]),
            format!("/{name} true [sleep 1000]")
        );
        let address = docker.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &name]);
        assert!(address.starts_with("172.17."), "{address}");
        let taken = docker.fails(125, &["run", "-d", "--name", &name, "busybox", "true"]);
        assert!(taken.contains(&format!("The container name \"/{name}\" is already in use by container \"{id}\"")), "{taken}");
        let missing = docker.fails(1, &["inspect", "nonsense"]);
        assert!(missing.contains("No such object: nonsense"), "{missing}");
        docker.ok(&["rename", &name, &docker.name("other")]);
        assert_eq!(docker.ok(&["inspect", "-f", "{{.Name}}", &id]), format!("/{}", docker.name("other")));
        docker.ok(&["rm", "-f", &id]);
    });
}

#[test]
fn stop_kill_and_wait() {
    each("stop_kill_and_wait", BUSYBOX, |docker| {
        let name = docker.name("stops");
        let traps = "trap 'exit 5' TERM; while :; do sleep 0.05; done";
        docker.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", traps]);
        // The shell needs a moment to install the trap, and it is in place once it has started to sleep.
        docker.until(&["top", &name], |printed| printed.contains("sleep 0.05"));
        docker.ok(&["stop", &name]);
        assert_eq!(docker.ok(&["wait", &name]), "5");
        assert_eq!(docker.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", &name]), "exited 5");
        docker.ok(&["start", &name]);
        docker.ok(&["kill", &name]);
        assert_eq!(docker.ok(&["inspect", "-f", "{{.State.ExitCode}}", &name]), "137");
        let not_running = docker.fails(1, &["kill", &name]);
        assert!(not_running.contains("is not running"), "{not_running}");
        docker.ok(&["restart", "-t", "0", &name]);
        let running = docker.fails(1, &["rm", &name]);
        assert!(running.contains("stop the container before removing or force remove"), "{running}");
        docker.ok(&["stop", "-t", "0", &name]);
        docker.ok(&["rm", &name]);
        let gone = docker.fails(1, &["stop", &name]);
        assert!(gone.contains(&format!("No such container: {name}")), "{gone}");
    });
}

#[test]
fn logs_are_kept_and_followed() {
    each("logs_are_kept_and_followed", BUSYBOX, |docker| {
        let name = docker.name("logs");
        let script = "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.1; done; printf rest";
        docker.ok(&["run", "-d", "--name", &name, "busybox", "sh", "-c", script]);
        let followed = docker.run(&["logs", "-f", &name]);
        assert_eq!(String::from_utf8_lossy(&followed.stdout), "out 1\nout 2\nout 3\nrest");
        assert_eq!(String::from_utf8_lossy(&followed.stderr), "err 1\nerr 2\nerr 3\n");
        assert_eq!(docker.ok(&["logs", "--tail", "1", &name]), "rest");
        let stamped = docker.ok(&["logs", "-t", "--tail", "1", &name]);
        assert!(stamped.ends_with("Z rest") && stamped.len() == "2026-11-24T00:05:58.740005856Z rest".len(), "{stamped}");
        assert_eq!(docker.ok(&["logs", "--since", "2100-01-01T00:00:00Z", &name]), "");
        docker.ok(&["rm", &name]);
        let unkept = docker.name("unkept");
        docker.ok(&["run", "--name", &unkept, "--log-driver", "none", "busybox", "echo", "x"]);
        let refused = docker.fails(1, &["logs", &unkept]);
        assert!(refused.contains("configured logging driver does not support reading"), "{refused}");
        docker.ok(&["rm", &unkept]);
    });
}

#[test]
fn a_container_that_fails_is_started_again() {
    each("a_container_that_fails_is_started_again", BUSYBOX, |docker| {
        let name = docker.name("again");
        docker.ok(&["run", "-d", "--name", &name, "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 1"]);
        docker.until(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", &name], |printed| printed == "2 exited\n");
        assert_eq!(docker.ok(&["logs", &name]), "try\ntry\ntry");
        docker.ok(&["rm", &name]);
    });
}

#[test]
fn health_is_checked() {
    each("health_is_checked", BUSYBOX, |docker| {
        let name = docker.name("health");
        let check = ["--health-cmd", "test -f /healthy", "--health-interval", "100ms", "--health-retries", "1"];
        docker.ok(&[&["run", "-d", "--name", &name], &check[..], &["busybox", "sleep", "1000"]].concat());
        let status = ["inspect", "-f", "{{.State.Health.Status}}", &name];
        docker.until(&status, |printed| printed == "unhealthy\n");
        docker.ok(&["exec", &name, "touch", "/healthy"]);
        docker.until(&status, |printed| printed == "healthy\n");
        assert!(docker.ok(&["ps", "--filter", "health=healthy", "--format", "{{.Status}}"]).ends_with("(healthy)"));
        docker.ok(&["rm", "-f", &name]);
    });
}

#[test]
fn attaching_shows_what_comes() {
    each("attaching_shows_what_comes", BUSYBOX, |docker| {
        let name = docker.name("attach");
        docker.ok(&["create", "-i", "--name", &name, "busybox", "sh", "-c", "read word; echo got $word; exit 9"]);
        let mut client = docker.command(&["start", "-a", "-i", &name]);
        let mut child = client.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().expect("the client runs");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"hello\n").expect("the client reads");
        let output = child.wait_with_output().expect("the client ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "got hello\n");
        assert_eq!(output.status.code(), Some(9));
        docker.ok(&["rm", &name]);
    });
}
