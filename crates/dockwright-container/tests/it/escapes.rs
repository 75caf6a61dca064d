//! Attacks of the kinds that other runtimes fell to.

use std::{fs, os::unix::fs::symlink, path::Path};

use dockwright_container::process::{ContainerSpec, Mount, MountSource, ProcessSpec, Rootfs};
use dockwright_testing::requires;

use crate::harness::{Engine, make_busybox_root, names};

/// Leaked descriptors as working directory (CVE-2024-21626).
#[test]
fn no_descriptor_of_the_sandbox_leads_out() {
    requires!(Root);
    let engine = Engine::start();
    let rootfs = engine.rootfs("root");
    for number in 0..64 {
        let mut spec = ContainerSpec::new("a", rootfs.clone(), ProcessSpec::new(["/bin/sh", "-c", "ls ../../../../../.dockwright"]));
        spec.process.cwd = format!("/proc/self/fd/{number}");
        match engine.run(&spec) {
            Ok(output) => assert_ne!(output.code, 0, "descriptor {number}: {output:?}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let output = engine.script("b", "ls /proc/self/fd | tr '\\n' ' '");
    assert_eq!(output.stdout, "0 1 2 3 ", "three streams, and the directory that ls reads");
}

/// Overwriting the runtime through the process that becomes the container (CVE-2019-5736).
#[test]
fn the_binary_cannot_be_written_from_inside() {
    requires!(Root);
    let engine = Engine::start();
    let before = fs::metadata(crate::harness::probe()).unwrap().len();
    let mut spec = engine.shell("a", "readlink /proc/1/exe; echo evil > /proc/1/exe; echo $?");
    spec.init = true;
    spec.process.capabilities.privileged = true;
    let output = engine.run(&spec).unwrap();
    assert_eq!(output.stdout.lines().last(), Some("1"), "{output:?}");
    assert_eq!(fs::metadata(crate::harness::probe()).unwrap().len(), before);
}

/// An image whose kernel directories are links (CVE-2025-31133 and relatives).
#[test]
fn kernel_file_systems_are_not_mounted_through_links() {
    requires!(Root);
    for (directory, target) in [("dev", "/tmp"), ("proc", "/etc"), ("sys", "../../..")] {
        let engine = Engine::start();
        let root = engine.scratch.path().join("evil");
        make_busybox_root(&root);
        fs::remove_dir(root.join(directory)).unwrap();
        symlink(target, root.join(directory)).unwrap();
        engine.give(&root);
        let spec = ContainerSpec::new("a", Rootfs::Directory("/var/lib/docker/evil".into()), ProcessSpec::new(["true"]));
        let error = engine.run(&spec).unwrap_err().to_string();
        assert!(error.contains(&format!("open the mount point /{directory}")), "{error}");
    }
}

/// Mount targets that are links out of the root (CVE-2021-30465, CVE-2024-45310).
#[test]
fn mount_targets_stay_inside() {
    requires!(Root);
    let engine = Engine::start();
    let root = engine.scratch.path().join("evil");
    make_busybox_root(&root);
    symlink("../../../../../../run", root.join("up")).unwrap();
    symlink("/proc/self/fd/3", root.join("magic")).unwrap();
    engine.give(&root);
    let mut spec = ContainerSpec::new("a", Rootfs::Directory("/var/lib/docker/evil".into()), ProcessSpec::new(["ls", "/run/made"]));
    let mount = |target: &str| Mount { target: target.into(), source: MountSource::Path("/etc".into()), read_only: true };
    spec.mounts = vec![mount("/up/made")];
    assert!(engine.run(&spec).unwrap().stdout.contains("resolv.conf"), "it was mounted, in the container's own /run");
    assert!(engine.relay("read /run/made/hostname").is_err(), "and not in the sandbox's");
    spec.mounts = vec![mount("/magic/made")];
    engine.run(&spec).unwrap_err();
}

/// Bind sources in a container that are links out of it (CVE-2018-15664 and relatives).
#[test]
fn bind_sources_stay_inside() {
    requires!(Root);
    let engine = Engine::start();
    engine.background(&engine.shell(
        "a",
        "mkdir /t; ln -s / /t/root; ln -s ../../../../../.. /t/up; ln -s /proc/1/root /t/magic; touch /t/done; exec sleep 1000",
    ));
    crate::harness::until(|| engine.exec("a", ProcessSpec::new(["test", "-e", "/t/done"])).unwrap().code == 0);
    for path in ["/t/root", "/t/up", "/../../.."] {
        let tree = engine.client.clone_tree(Some("a"), Path::new(path), false).unwrap();
        assert!(names(&tree).contains(&"t".to_owned()), "{path} is the container's root");
    }
    engine.client.clone_tree(Some("a"), Path::new("/t/magic"), false).unwrap_err();
}

/// Kernel settings by way of a procfs that the image replaced (CVE-2025-52881), and what is masked.
#[test]
fn masked_and_read_only_paths() {
    requires!(Root);
    let engine = Engine::start();
    let script = "cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null | wc -c; ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | wc -w; \
                  echo 1 > /proc/sys/kernel/hostname || echo ro; echo b > /proc/sysrq-trigger || echo ro; umount /proc/sys || echo kept; mount -o remount,rw /sys || echo kept";
    let output = engine.script("a", script);
    assert_eq!(output.stdout, "0\n0\nro\nro\nkept\nkept\n", "{}", output.stderr);
}

/// What a container sees of the sandbox and its neighbours.
#[test]
fn containers_do_not_see_each_other() {
    requires!(Root);
    let engine = Engine::start();
    engine.background(&engine.shell("neighbour", "exec sleep 1000"));
    let mut spec = engine.shell("a", "ls /.dockwright /.layers /var/lib/docker 2>/dev/null; ps | grep -c '[s]leep 1000'; ls /sys/class/net; cat /proc/mounts | grep -c dockwright");
    spec.process.capabilities.privileged = true;
    let output = engine.run(&spec).unwrap();
    assert_eq!(output.stdout, "0\nlo\n0\n", "{}", output.stderr);
}

/// A signal to another container by its number, and the debugger.
#[test]
fn the_engine_cannot_be_reached_by_name() {
    requires!(Root);
    let engine = Engine::start();
    let rejected = [ContainerSpec::new("../x", Rootfs::Mounted("x".into()), ProcessSpec::new(["true"])), {
        ContainerSpec::new("x", Rootfs::Mounted("../../etc".into()), ProcessSpec::new(["true"]))
    }];
    for spec in rejected {
        assert_eq!(engine.run(&spec).unwrap_err().kind(), dockwright_container::spawner::ErrorKind::Invalid);
    }
    let overlay = |upper: &str| dockwright_container::process::OverlaySpec {
        name: "o".into(),
        layers: Vec::new(),
        upper: upper.into(),
        work: "/var/lib/docker/work".into(),
    };
    for upper in ["/etc", "/var/lib/docker/../../../etc", "relative"] {
        assert_eq!(engine.client.mount_rootfs(&overlay(upper)).unwrap_err().kind(), dockwright_container::spawner::ErrorKind::Invalid);
    }
    engine.client.mount_rootfs(&overlay("/var/lib/docker/scratch")).unwrap();
}
