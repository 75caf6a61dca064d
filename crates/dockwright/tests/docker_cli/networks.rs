//! Networks, names, and published ports.

use crate::daemon::{Image, each};

const BUSYBOX: &[Image] = &[Image::Busybox];

#[test]
fn names_are_resolved_on_a_network_of_ones_own() {
    each("names_are_resolved_on_a_network_of_ones_own", BUSYBOX, |docker| {
        let (network, db) = (docker.name("net"), docker.name("db"));
        docker.ok(&["network", "create", &network]);
        assert!(docker.ok(&["network", "ls", "--format", "{{.Name}}"]).lines().any(|name| name == network));
        docker.ok(&[
            "run",
            "-d",
            "--name",
            &db,
            "--network",
            &network,
            "--network-alias",
            "postgres",
            "busybox",
            "httpd",
            "-f",
            "-p",
            "80",
            "-h",
            "/etc",
        ]);
        for name in [db.as_str(), "postgres"] {
            let url = format!("http://{name}/hostname");
            let fetched =
                docker.until(&["run", "--rm", "--network", &network, "busybox", "wget", "-qO-", &url], |printed| !printed.is_empty());
            assert_eq!(fetched.trim(), &docker.ok(&["inspect", "-f", "{{.Config.Hostname}}", &db]));
        }
        // The default network has no names.
        let unknown =
            docker.ok(&["run", "--rm", "busybox", "sh", "-c", &format!("wget -qO- -T 2 http://{db}/hostname 2>/dev/null || echo none")]);
        assert!(unknown.ends_with("none"), "{unknown}");
        let busy = docker.fails(1, &["network", "rm", &network]);
        assert!(busy.contains("has active endpoints"), "{busy}");
        docker.ok(&["rm", "-f", &db]);
        docker.ok(&["network", "rm", &network]);
        let gone = docker.fails(1, &["network", "inspect", &network]);
        assert!(gone.to_lowercase().contains("no such network") || gone.contains("not found"), "{gone}");
    });
}

#[test]
fn a_running_container_can_change_networks() {
    each("a_running_container_can_change_networks", BUSYBOX, |docker| {
        let (network, name) = (docker.name("other"), docker.name("mover"));
        docker.ok(&["network", "create", "--subnet", "10.99.0.0/24", &network]);
        docker.ok(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"]);
        docker.ok(&["network", "connect", "--ip", "10.99.0.77", &network, &name]);
        assert!(docker.ok(&["exec", &name, "ip", "-4", "addr"]).contains("10.99.0.77/24"));
        docker.ok(&["network", "disconnect", &network, &name]);
        assert!(!docker.ok(&["exec", &name, "ip", "-4", "addr"]).contains("10.99.0"));
        docker.ok(&["rm", "-f", &name]);
        docker.ok(&["network", "rm", &network]);
    });
}

#[test]
fn ports_are_published() {
    each("ports_are_published", BUSYBOX, |docker| {
        let name = docker.name("port");
        docker.ok(&["run", "-d", "--name", &name, "-p", "80", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc"]);
        let port = docker.ok(&["port", &name, "80/tcp"]);
        let (_, port) = port.lines().next().expect("an address").rsplit_once(':').expect("a port");
        let fetched = docker.until(
            &["run", "--rm", "--network", "host", "busybox", "wget", "-qO-", &format!("http://127.0.0.1:{port}/hostname")],
            |printed| !printed.is_empty(),
        );
        assert_eq!(fetched.trim(), &docker.ok(&["inspect", "-f", "{{.Config.Hostname}}", &name]));
        let taken = docker.fails(125, &["run", "--rm", "-p", &format!("{port}:80"), "busybox", "true"]);
        assert!(taken.contains(&format!("Bind for 0.0.0.0:{port} failed: port is already allocated")), "{taken}");
        docker.ok(&["rm", "-f", &name]);
    });
}

#[test]
fn files_tell_names() {
    each("files_tell_names", BUSYBOX, |docker| {
        let hosts = docker.ok(&["run", "--rm", "-h", "box", "--add-host", "elsewhere:192.0.2.1", "busybox", "cat", "/etc/hosts"]);
        assert!(hosts.contains("192.0.2.1\telsewhere\n") && hosts.ends_with("\tbox"), "{hosts}");
        let resolver =
            docker.ok(&["run", "--rm", "--dns", "192.0.2.53", "--dns-search", "example.com", "busybox", "cat", "/etc/resolv.conf"]);
        assert!(resolver.contains("nameserver 192.0.2.53\nsearch example.com"), "{resolver}");
        assert_eq!(docker.ok(&["run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"]), "lo");
    });
}
