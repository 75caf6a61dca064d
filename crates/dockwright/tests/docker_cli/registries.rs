//! Logins, pushes and pulls at a registry.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use crate::daemon::{Docker, Image, each};

const BUSYBOX: &[Image] = &[Image::Busybox];

/// A registry with a store of its own; ended when dropped.
struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    /// Starts one for the user `ci` with the password `secret`.
    fn start(docker: &Docker<'_>) -> Self {
        let password = docker.directory().join("password");
        fs::write(&password, "secret\n").expect("a file");
        let mut child = docker
            .dockwright()
            .args(["registry", "serve", "--listen", "127.0.0.1:0", "--user", "ci", "--password-file"])
            .arg(&password)
            // Another store than the engine's: nothing is there that was not pushed.
            .env("DOCKWRIGHT_HOME", docker.directory().join("shared").join(docker.name("registry")))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dockwright runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the output can be read");
        let address = line.trim().strip_prefix("REGISTRY=").expect("where it listens").to_owned();
        Self { child, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_image_goes_to_a_registry_and_back() {
    each("an_image_goes_to_a_registry_and_back", BUSYBOX, |docker| {
        let registry = Registry::start(docker);
        let name = format!("{}/group/app:1", registry.address);
        docker.ok(&["tag", "busybox", &name]);
        let refused = docker.fails(1, &["push", &name]);
        assert!(refused.contains("denied") || refused.contains("unauthorized"), "{refused}");
        let wrong = docker.fails(1, &["login", "-u", "ci", "-p", "guess", &registry.address]);
        assert!(wrong.contains("unauthorized"), "{wrong}");
        let logged_in = docker.with_input(&["login", "-u", "ci", "--password-stdin", &registry.address], b"secret\n");
        assert!(logged_in.contains("Login Succeeded"), "{logged_in}");

        let pushed = docker.ok(&["push", &name]);
        assert!(pushed.contains(&format!("The push refers to repository [{}/group/app]", registry.address)), "{pushed}");
        let digest = pushed.split("1: digest: ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a digest").to_owned();
        assert_eq!(docker.ok(&["inspect", "-f", "{{index .RepoDigests 0}}", &name]), format!("{}/group/app@{digest}", registry.address));
        let again = docker.ok(&["push", &name]);
        assert!(again.contains("Layer already exists") && again.contains(&digest), "{again}");

        docker.in_new_engine(|docker| {
            let by_digest = format!("{}/group/app@{digest}", registry.address);
            let pulled = docker.ok(&["pull", &by_digest]);
            assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
            assert_eq!(docker.ok(&["run", "--rm", &by_digest, "echo", "pulled"]), "pulled");
            assert_eq!(docker.ok(&["run", "--rm", &name, "echo", "pulled by run"]), "pulled by run");
        });
        let missing = docker.fails(1, &["pull", &format!("{}/group/app:none", registry.address)]);
        assert!(missing.contains(&format!("manifest for {}/group/app:none not found", registry.address)), "{missing}");
        docker.ok(&["logout", &registry.address]);
        let anonymous = docker.fails(1, &["pull", &name]);
        // The token service refuses; what the registry itself refuses is "pull access denied".
        let expected = format!("http://{}/v2/group/app/manifests/1\": denied: access forbidden", registry.address);
        assert!(anonymous.contains(&expected), "{anonymous}");
        docker.ok(&["rmi", &name]);
    });
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    each("a_registry_that_is_not_there_is_named", BUSYBOX, |docker| {
        // A port of this machine that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let name = format!("127.0.0.1:{port}/app:1");
        let refused = docker.fails(1, &["pull", &name]);
        let unreachable = format!("Get \"http://127.0.0.1:{port}/v2/\": dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert!(refused.contains(&unreachable), "{refused}");
        assert!(refused.contains("hint: `dockwright image import`"), "{refused}");
        docker.ok(&["tag", "busybox", &name]);
        let refused = docker.fails(1, &["push", &name]);
        assert!(refused.contains(&format!("127.0.0.1:{port}")), "{refused}");
        let missing = docker.fails(1, &["push", &format!("127.0.0.1:{port}/other:1")]);
        assert!(missing.contains(&format!("An image does not exist locally with the tag: 127.0.0.1:{port}/other")), "{missing}");
        docker.ok(&["rmi", &name]);
    });
}

#[test]
fn containers_reach_the_hosts_own_registry() {
    each("containers_reach_the_hosts_own_registry", BUSYBOX, |docker| {
        let ask = "wget -S -O /dev/null http://registry.dockwright.internal:5000/v2/ 2>&1 | grep -o '401 Unauthorized' | head -1";
        assert_eq!(docker.ok(&["run", "--rm", "busybox", "sh", "-c", ask]), "401 Unauthorized");
        let network = docker.name("own");
        docker.ok(&["network", "create", &network]);
        assert_eq!(docker.ok(&["run", "--rm", "--network", &network, "busybox", "sh", "-c", ask]), "401 Unauthorized");
        docker.ok(&["network", "rm", &network]);
        // A container may publish the registry's port all the same.
        let name = docker.name("publisher");
        docker.ok(&["run", "-d", "--name", &name, "-p", "5000:80", "busybox", "sleep", "1000"]);
        let taken = docker.fails(125, &["run", "--rm", "-p", "5000:80", "busybox", "true"]);
        assert!(taken.contains("port is already allocated"), "{taken}");
        assert_eq!(docker.ok(&["run", "--rm", "busybox", "sh", "-c", ask]), "401 Unauthorized");
        docker.ok(&["rm", "-f", &name]);
    });
}
