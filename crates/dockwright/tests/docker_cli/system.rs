//! The engine as a whole: version, information, events, clearing up, and what is not there.

use crate::daemon::{Image, each};

const BUSYBOX: &[Image] = &[Image::Busybox];

#[test]
fn the_engine_introduces_itself() {
    each("the_engine_introduces_itself", BUSYBOX, |docker| {
        let version = docker.ok(&["version", "--format", "{{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}}"]);
        assert_eq!(version, "1.51 1.24 linux");
        let info = docker.ok(&["info", "--format", "{{.OSType}} {{.Driver}} {{.Containers}} {{.Swarm.LocalNodeState}}"]);
        assert_eq!(info, "linux overlay2 0 inactive");
    });
}

#[test]
fn events_tell_a_containers_life() {
    each("events_tell_a_containers_life", BUSYBOX, |docker| {
        let name = docker.name("eventful");
        docker.ok(&["run", "--rm", "--name", &name, "busybox", "true"]);
        let filter = format!("container={name}");
        // Until a second from now, because clients send whole seconds.
        let told = docker.ok(&["events", "--since", "1h", "--until=-1s", "--filter", &filter, "--format", "{{.Action}}"]);
        assert_eq!(told, "create\nattach\nstart\ndie\ndestroy");
    });
}

#[test]
fn prune_takes_what_nobody_uses() {
    each("prune_takes_what_nobody_uses", BUSYBOX, |docker| {
        let (stopped, running, network) = (docker.name("stopped"), docker.name("running"), docker.name("unused"));
        docker.ok(&["run", "--name", &stopped, "busybox", "true"]);
        docker.ok(&["run", "-d", "--name", &running, "busybox", "sleep", "1000"]);
        docker.ok(&["network", "create", &network]);
        docker.ok(&["system", "df"]);
        docker.ok(&["system", "prune", "-f"]);
        assert_eq!(docker.ok(&["ps", "-a", "--format", "{{.Names}}"]), running);
        assert_eq!(docker.ok(&["network", "ls", "-q", "--filter", "type=custom"]), "");
        docker.ok(&["rm", "-f", &running]);
    });
}

#[test]
fn what_is_missing_is_named() {
    each("what_is_missing_is_named", BUSYBOX, |docker| {
        let name = docker.name("missing");
        docker.ok(&["run", "--name", &name, "busybox", "true"]);
        let missing = docker.fails(1, &["commit", &name]);
        assert!(missing.contains("container commit (endpoint) is not implemented by Dockwright"), "{missing}");
        docker.ok(&["rm", &name]);
    });
}
