//! The same container by runc, as judge.

use std::{fs, process::Command};

use dockwright_testing::requires;

use crate::harness::{Engine, make_busybox_root};

const SCRIPT: &str = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status; \
    for path in /proc/acpi /proc/kcore /proc/keys /proc/timer_list /proc/scsi /sys/firmware; do test -e $path && stat -c '%n %F' $path && cat $path 2>/dev/null | wc -c; done; \
    for path in /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger; do grep \" $path proc ro,\" /proc/mounts | cut -d' ' -f2,4; done; \
    ls /dev | grep -v console | tr '\\n' ' '; \
    stat -c '%a %F' /dev/shm /dev/pts /dev/mqueue /dev/null; readlink /dev/fd /dev/ptmx; umask; pwd; ulimit -c";

#[test]
fn status_masks_and_devices_are_those_of_runc() {
    requires!(Root, Command("runc"));
    let bundle = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    make_busybox_root(&bundle.path().join("rootfs"));
    fs::copy("/bin/busybox", bundle.path().join("rootfs/bin/cut")).unwrap();
    fs::copy("/bin/busybox", bundle.path().join("rootfs/bin/umask")).unwrap();
    fs::write(bundle.path().join("config.json"), runc_configuration().to_string()).unwrap();
    let id = format!("dockwright-oracle-{}", std::process::id());
    let judged = Command::new("runc")
        .args(["--root"])
        .arg(bundle.path().join("state"))
        .args(["run", "--no-pivot", "-b"])
        .arg(bundle.path())
        .arg(&id)
        .output()
        .unwrap();
    assert!(judged.status.success(), "runc: {}", String::from_utf8_lossy(&judged.stderr));

    let engine = Engine::start();
    let spec = engine.shell("a", &SCRIPT.replace("cut", "busybox cut"));
    let output = engine.run(&spec).unwrap();
    let theirs = String::from_utf8(judged.stdout).unwrap();
    assert_eq!(ignoring_seccomp(&output.stdout), ignoring_seccomp(&theirs), "{}", output.stderr);
}

/// The judge's bundle has no filter; ours is examined by unit tests.
fn ignoring_seccomp(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("Seccomp")).collect()
}

fn runc_configuration() -> serde_json::Value {
    let capabilities: Vec<String> =
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
            .split(' ')
            .map(|name| format!("CAP_{name}"))
            .collect();
    let mount = |target: &str, kind: &str, options: &[&str]| serde_json::json!({ "destination": target, "type": kind, "source": kind, "options": options });
    serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            // dockerd, too, puts the primary group among the others (CVE-2022-36109).
            "user": { "uid": 0, "gid": 0, "additionalGids": [0] },
            "args": ["/bin/sh", "-c", SCRIPT],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "rootfs" },
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
