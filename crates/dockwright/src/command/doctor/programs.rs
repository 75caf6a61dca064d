//! Programs beside dockwright: git, bash, the docker client, a Docker daemon that somebody runs.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::finding::Finding;
use crate::environment;

const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const PING_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn check() -> Vec<Finding> {
    vec![git(), bash(), docker_client(), docker_daemon()]
}

/// Runs `program --version` and returns its first line.
pub(super) fn version_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

fn git() -> Finding {
    match version_of("git", &["--version"]) {
        Some(version) => Finding::good("git", version),
        None => Finding::problem("git", "not installed; dockwright reads repositories with it", "sudo apt-get install git"),
    }
}

fn bash() -> Finding {
    match version_of("bash", &["--version"]) {
        Some(version) => Finding::good("bash", version),
        None => Finding::remark("bash", "not installed; jobs without an image need it", "sudo apt-get install bash"),
    }
}

fn docker_client() -> Finding {
    const CHECK: &str = "docker-client";
    match version_of("docker", &["--version"]) {
        Some(version) => Finding::good(CHECK, version),
        None => Finding::remark(
            CHECK,
            "not installed; jobs without an image that call `docker` need it",
            "sudo apt-get install docker.io --no-install-recommends",
        ),
    }
}

fn docker_daemon() -> Finding {
    const CHECK: &str = "docker-daemon";
    if let Some(host) = environment::read("DOCKER_HOST") {
        return Finding::good(CHECK, format!("DOCKER_HOST is {}; not used unless given as --docker-host", host.to_string_lossy()));
    }
    if daemon_answers(Path::new(DOCKER_SOCKET)) {
        return Finding::good(CHECK, format!("one answers at {DOCKER_SOCKET}; not needed, --docker-host unix://{DOCKER_SOCKET} uses it"));
    }
    Finding::good(CHECK, "none, and none is needed")
}

fn daemon_answers(socket: &Path) -> bool {
    let ping = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PING_TIMEOUT))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b"200"))
    };
    ping().unwrap_or(false)
}
