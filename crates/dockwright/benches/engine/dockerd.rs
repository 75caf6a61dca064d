//! A real Docker daemon of this machine, started for the bench in network and mount namespaces of its own.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::docker::Docker;

/// Ends with its namespaces when dropped.
pub(crate) struct Dockerd {
    child: Child,
    directory: TempDir,
}

impl Dockerd {
    /// Starts the daemon, or says why there is none to compare with.
    pub(crate) fn start() -> Result<Self, String> {
        for requirement in [dockwright_testing::Requirement::Root, dockwright_testing::Requirement::Command("dockerd")] {
            if let Some(reason) = requirement.missing() {
                return Err(reason);
            }
        }
        let directory = tempfile::Builder::new().prefix("dockwright-bench-").tempdir().map_err(|error| error.to_string())?;
        let at = |name: &str| directory.path().join(name).display().to_string();
        let script = format!(
            "ip link set lo up; exec dockerd --host unix://{} --data-root {} --exec-root {} --pidfile {} --storage-driver overlay2",
            at("docker.sock"),
            at("data"),
            at("exec"),
            at("pid")
        );
        let log = File::create(directory.path().join("log")).map_err(|error| error.to_string())?;
        // --pid with --kill-child: the daemon takes its shims and containers with it.
        let child = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let dockerd = Self { child, directory };
        for _ in 0..600 {
            if dockerd.docker().info().is_ok_and(|status| status == 200) {
                return Ok(dockerd);
            }
            thread::sleep(Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(dockerd.directory.path().join("log")).unwrap_or_default();
        Err(format!("dockerd does not answer:\n{log}"))
    }

    pub(crate) fn docker(&self) -> Docker {
        Docker::at(self.socket())
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // Killing `unshare` ends its child, which is PID 1 of the daemon's namespace.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
