//! Volumes and bind mounts.

use std::fs;

use crate::daemon::{Image, each};

const BUSYBOX: &[Image] = &[Image::Busybox];

#[test]
fn a_volume_outlives_its_containers() {
    each("a_volume_outlives_its_containers", BUSYBOX, |docker| {
        let volume = docker.name("data");
        docker.ok(&["volume", "create", &volume]);
        docker.ok(&["run", "--rm", "-v", &format!("{volume}:/v"), "busybox", "sh", "-c", "echo kept > /v/file"]);
        assert_eq!(
            docker.ok(&[
                "run",
                "--rm",
                "-v",
                &format!("{volume}:/v:ro"),
                "busybox",
                "sh",
                "-c",
                "cat /v/file; touch /v/x 2>/dev/null || echo refused"
            ]),
            "kept\nrefused"
        );
        let name = docker.name("user");
        docker.ok(&["create", "--name", &name, "-v", &format!("{volume}:/v"), "busybox", "true"]);
        let used = docker.fails(1, &["volume", "rm", &volume]);
        assert!(used.contains("volume is in use"), "{used}");
        docker.ok(&["rm", &name]);
        docker.ok(&["volume", "rm", &volume]);
        assert!(!docker.ok(&["volume", "ls", "-q"]).lines().any(|name| name == volume));
    });
}

#[test]
fn a_new_volume_has_the_images_files() {
    each("a_new_volume_has_the_images_files", BUSYBOX, |docker| {
        let volume = docker.name("filled");
        let listed = docker.ok(&["run", "--rm", "-v", &format!("{volume}:/etc"), "busybox", "cat", "/etc/passwd"]);
        assert!(listed.starts_with("root:x:0:0"), "{listed}");
        docker.ok(&["volume", "rm", &volume]);
    });
}

#[test]
fn anonymous_volumes_go_with_their_container() {
    each("anonymous_volumes_go_with_their_container", BUSYBOX, |docker| {
        docker.ok(&["run", "--rm", "-v", "/anonymous", "busybox", "touch", "/anonymous/x"]);
        assert_eq!(docker.ok(&["volume", "ls", "-q"]), "");
    });
}

#[test]
fn shared_directories_are_this_machines() {
    each("shared_directories_are_this_machines", BUSYBOX, |docker| {
        let directory = docker.shared().join(docker.name("bind"));
        let bind = format!("{}:/b", directory.display());
        // Made where it is missing, as Docker does.
        docker.ok(&["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "echo from inside > /b/file"]);
        assert_eq!(fs::read_to_string(directory.join("file")).expect("written"), "from inside\n");
        let one_file = format!("{}/file:/f:ro", directory.display());
        assert_eq!(docker.ok(&["run", "--rm", "-v", &one_file, "busybox", "cat", "/f"]), "from inside");
        let missing = docker.fails(125, &["run", "--rm", "--mount", "type=bind,source=/nonsense,target=/x", "busybox", "true"]);
        assert!(missing.contains("bind source path does not exist: /nonsense"), "{missing}");
    });
}
