//! A real Docker daemon as a client: its classic store streams layers in one PATCH and is strict about the answers.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use dockwright_store::{ManifestReference, archive};
use dockwright_testing::requires;
use tokio::process::{Child, Command};

use crate::support::{Fixture, image};

struct Dockerd {
    child: Child,
    socket: PathBuf,
    config: PathBuf,
}

impl Dockerd {
    async fn start(dir: &Path) -> Self {
        let socket = dir.join("docker.sock");
        let under = |name: &str| dir.join(name).display().to_string();
        // Neither bridge nor rules: nothing of the machine is touched, and no container runs.
        let child = Command::new("dockerd")
            .args(["--host", &format!("unix://{}", socket.display()), "--data-root", &under("data"), "--exec-root", &under("exec")])
            .args(["--pidfile", &under("pid"), "--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut dockerd = Self { child, socket, config: dir.join("config") };
        while !dockerd.docker(&["version"]).await {
            assert!(dockerd.child.try_wait().unwrap().is_none(), "dockerd ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        dockerd
    }

    async fn docker(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new("docker");
        command.arg("--config").arg(&self.config).arg("--host").arg(format!("unix://{}", self.socket.display())).args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().await.unwrap().success()
    }

    async fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().await.unwrap();
    }
}

#[tokio::test]
async fn dockerd_logs_in_pushes_and_pulls() {
    requires!(Root, Command("dockerd"), DockerCli);
    let fixture = Fixture::start().await;
    let here = fixture.other_store("here");
    let id = image(&here, b"through dockerd");
    let name = format!("{}/alice/app:1", fixture.address);
    let saved = fixture.dir.path().join("image.tar");
    let exported = archive::ExportedImage { id, names: vec![name.parse().unwrap()] };
    archive::export(&here, &[exported], std::fs::File::create(&saved).unwrap()).unwrap();

    let docker = Dockerd::start(fixture.dir.path()).await;
    let registry = fixture.address.to_string();
    assert!(docker.docker(&["load", "--input", saved.to_str().unwrap()]).await);
    assert!(!docker.docker(&["push", &name]).await, "without a login");
    assert!(!docker.docker(&["login", "--username", "alice", "--password", "wrong", &registry]).await);
    assert!(docker.docker(&["login", "--username", "alice", "--password", "secret", &registry]).await);
    assert!(docker.docker(&["push", &name]).await);
    let other = format!("{registry}/alice/other:1");
    assert!(docker.docker(&["tag", &name, &other]).await && docker.docker(&["push", &other]).await, "mounted from the first");
    assert!(docker.docker(&["rmi", &name, &other]).await);
    assert!(docker.docker(&["pull", &name]).await);
    docker.stop().await;

    for repository in ["alice/app", "alice/other"] {
        let tag = ManifestReference::Tag("1".to_owned());
        let pulled = dockwright_registry::local::pull_local(&fixture.store, repository, &tag).unwrap().unwrap();
        assert_eq!(pulled.image, id);
    }
    fixture.stop().await;
}
