//! `docker cp`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::daemon::{Image, each};

const BUSYBOX: &[Image] = &[Image::Busybox];

#[test]
fn files_go_in_and_come_out() {
    each("files_go_in_and_come_out", BUSYBOX, |docker| {
        let name = docker.name("cp");
        let here = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(here.path().join("tree")).expect("directory");
        fs::write(here.path().join("tree/script"), "#!/bin/sh\necho ran\n").expect("file");
        fs::set_permissions(here.path().join("tree/script"), fs::Permissions::from_mode(0o755)).expect("mode");
        let (tree, back) = (here.path().join("tree"), here.path().join("back"));
        let (tree, back) = (tree.to_str().expect("UTF-8"), back.to_str().expect("UTF-8"));
        // Into a container that has not run yet, and again while it runs.
        docker.ok(&["create", "--name", &name, "busybox", "sh", "-c", "/in/script; sleep 1000"]);
        docker.ok(&["cp", tree, &format!("{name}:/in")]);
        docker.ok(&["start", &name]);
        docker.until(&["logs", &name], |printed| printed == "ran\n");
        docker.ok(&["cp", &format!("{tree}/script"), &format!("{name}:/tmp/copy")]);
        assert_eq!(docker.ok(&["exec", &name, "/tmp/copy"]), "ran");
        docker.ok(&["cp", &format!("{name}:/in"), back]);
        assert_eq!(fs::read_to_string(format!("{back}/script")).expect("copied"), "#!/bin/sh\necho ran\n");
        let missing = docker.fails(1, &["cp", &format!("{name}:/nonsense"), back]);
        // The older client has words of its own for the engine's 404.
        assert!(
            missing.contains(&format!("Could not find the file /nonsense in container {name}"))
                || missing.contains("No such container:path"),
            "{missing}"
        );
        docker.ok(&["rm", "-f", &name]);
    });
}

#[test]
fn links_of_a_container_lead_nowhere_else() {
    each("links_of_a_container_lead_nowhere_else", BUSYBOX, |docker| {
        let name = docker.name("links");
        let here = tempfile::tempdir().expect("temporary directory");
        fs::write(here.path().join("file"), "new").expect("file");
        docker.ok(&[
            "run",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "ln -s / /tmp/up; ln -s ../../../../../../etc/hostname /tmp/host; echo x > /marker",
        ]);
        // The link is the container's root, not the sandbox's, which has no such file.
        let archive = docker.run(&["cp", "-L", &format!("{name}:/tmp/up/marker"), here.path().to_str().expect("UTF-8")]);
        assert!(archive.status.success());
        assert_eq!(fs::read_to_string(here.path().join("marker")).expect("copied"), "x\n");
        docker.ok(&["cp", here.path().join("file").to_str().expect("UTF-8"), &format!("{name}:/tmp/up/placed")]);
        docker.ok(&["start", &name]);
        docker.ok(&["cp", &format!("{name}:/placed"), here.path().join("again").to_str().expect("UTF-8")]);
        assert_eq!(fs::read_to_string(here.path().join("again")).expect("copied"), "new");
        docker.ok(&["rm", "-f", &name]);
    });
}
