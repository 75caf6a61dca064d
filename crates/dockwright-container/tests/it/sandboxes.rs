//! What a sandbox shares, keeps apart, and leaves behind.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::Command};

use dockwright_container::{
    process::{ContainerSpec, Limits, ProcessSpec},
    sandbox::SharedPath,
};
use dockwright_testing::requires;

use crate::harness::{Engine, busybox_layer, probe, until};

#[test]
fn one_layer_serves_two_sandboxes_with_different_ids_without_copying() {
    requires!(Root);
    let (first, second) = (Engine::start(), Engine::start());
    let look = |engine: &Engine| engine.script("a", "stat -c '%u %i' /bin/busybox; cat /proc/self/uid_map").stdout;
    let (one, two) = (look(&first), look(&second));
    let line = |text: &str, at: usize| text.lines().nth(at).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let inode = fs::metadata(busybox_layer().join("bin/busybox")).unwrap().ino().to_string();
    assert_eq!(line(&one, 0), ["0", &inode], "root's, and the very file of the layer");
    assert_eq!(line(&two, 0), ["0", &inode]);
    assert_ne!(line(&one, 1)[1], line(&two, 1)[1], "different ranges of host ids");
    for engine in [&first, &second] {
        assert!(!engine.scratch.path().join("a/upper/bin").exists(), "nothing was copied up");
    }
}

#[test]
fn a_layer_cannot_be_made_writable_in_the_sandbox() {
    requires!(Root);
    let engine = Engine::start();
    let layers = engine.sandbox.mounts().layer_mounts(&[busybox_layer()]).unwrap();
    engine.client.attach_mount(Path::new("/run/layer"), &layers[0]).unwrap();
    // All capabilities of the sandbox's namespaces, in its own mount namespace: the worst that a taken over engine could be.
    let mut spec = engine.shell("a", "mount -o remount,bind,rw /layer; echo evil > /layer/etc/passwd; echo $?");
    spec.process.capabilities.privileged = true;
    spec.mounts = vec![dockwright_container::process::Mount {
        target: "/layer".into(),
        source: dockwright_container::process::MountSource::Path("/run/layer".into()),
        read_only: false,
    }];
    let output = engine.run(&spec).unwrap();
    assert_eq!(output.stdout, "1\n", "{}", output.stderr);
    assert!(output.stderr.contains("Read-only file system"), "{}", output.stderr);
    assert!(fs::read_to_string(busybox_layer().join("etc/passwd")).unwrap().starts_with("root:"));
}

#[test]
fn shared_paths_appear_as_roots() {
    requires!(Root);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().to_owned();
    fs::write(path.join("file"), "host").unwrap();
    std::os::unix::fs::chown(path.join("file"), Some(4321), Some(4321)).unwrap();
    std::os::unix::fs::chown(&path, Some(4321), Some(4321)).unwrap();
    let share = |owner| SharedPath { source: path.clone(), target: path.clone(), owner, read_only: false };
    let engine = Engine::with(vec![share(4321)], Limits::default());
    let mut spec = engine.shell("a", "stat -c %u /in/file; echo inside > /in/made; cat /in/file");
    spec.mounts = vec![dockwright_container::process::Mount {
        target: "/in".into(),
        source: dockwright_container::process::MountSource::Path(path.clone()),
        read_only: false,
    }];
    assert_eq!(engine.run(&spec).unwrap().stdout, "0\nhost");
    assert_eq!(fs::metadata(path.join("made")).unwrap().uid(), 4321, "what root of the sandbox makes is the owner's");
    drop(engine);

    let engine = Engine::with(vec![share(0)], Limits::default());
    assert_eq!(engine.relay(&format!("write {}/of-root x", path.display())).unwrap(), "");
    assert_eq!(fs::metadata(path.join("of-root")).unwrap().uid(), 0);
}

/// Everything on the machine that belongs to a sandbox.
struct Traces {
    pid: u32,
    processes: Vec<u32>,
    cgroups: Vec<std::path::PathBuf>,
}

impl Traces {
    fn of(engine: &Engine) -> Self {
        let pid = engine.sandbox.pid();
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).ok();
        let own = namespace(&pid.to_string());
        let processes = pids().into_iter().filter(|process| namespace(&process.to_string()) == own).collect();
        Self { pid, processes, cgroups: cgroups(&format!("dockwright-{}-{}", std::process::id(), engine.sandbox.id())) }
    }

    fn remaining(&self) -> Vec<String> {
        let alive =
            self.processes.iter().filter(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")));
        let processes = alive.map(|pid| format!("process {pid}"));
        let cgroups = self.cgroups.iter().filter(|path| path.exists()).map(|path| path.display().to_string());
        processes.chain(cgroups).collect()
    }
}

fn pids() -> Vec<u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn cgroups(name: &str) -> Vec<std::path::PathBuf> {
    let found = Command::new("find").args(["/sys/fs/cgroup", "-name", name]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(Into::into).collect()
}

fn busy_engine() -> Engine {
    let engine = Engine::start();
    engine.relay("bridge br0 172.17.0.1 16").unwrap();
    for name in ["a", "b"] {
        engine.background(&engine.shell(name, "setsid sleep 1000 & (sleep 1000 &) ; exec sleep 1000"));
        until(|| engine.client.processes(name).unwrap().len() == 3);
    }
    engine
}

#[test]
fn killing_pid_1_leaves_nothing() {
    requires!(Root);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let engine = busy_engine();
    let traces = Traces::of(&engine);
    assert!(traces.processes.len() >= 8, "PID 1, the relay and six sleeps: {:?}", traces.processes);
    let killed = Command::new("kill").args(["-9", &traces.pid.to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(engine.sandbox.wait().unwrap().code(), 137);
    drop(engine);
    assert!(traces.remaining().is_empty(), "{:?}", traces.remaining());
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(mounts.lines().count(), after.lines().count(), "no mount was added to the host");
}

#[test]
fn dropping_a_sandbox_leaves_nothing() {
    requires!(Root);
    let engine = busy_engine();
    let traces = Traces::of(&engine);
    drop(engine);
    assert!(traces.remaining().is_empty(), "{:?}", traces.remaining());
}

#[test]
fn a_sandbox_ends_with_its_engine_host_however_that_ends() {
    requires!(Root);
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    crate::harness::make_busybox_root(root.path());
    let mut host =
        Command::new(probe()).args(["run"]).arg(root.path()).args(["/bin/sh", "-c", "echo > /started; exec sleep 1000"]).spawn().unwrap();
    let started = root.path().join("started");
    until(|| started.exists());
    let name = format!("dockwright-{}-probe", host.id());
    let marker = format!("{}", root.path().display());
    let inside = || {
        pids()
            .into_iter()
            .filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.contains(&marker) || line.contains("sleep\x001000"))
            })
            .filter(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(&name)))
            .count()
    };
    let has_cgroups = !cgroups(&name).is_empty();
    assert!(inside() > 0 || !has_cgroups);
    host.kill().unwrap();
    host.wait().unwrap();
    until(|| inside() == 0);
    // Nobody was left to remove the groups; the next engine host does.
    until(|| {
        dockwright_container::sandbox::sweep_cgroups();
        cgroups(&name).is_empty()
    });
}

#[test]
fn an_engine_that_ends_ends_its_sandbox() {
    requires!(Root);
    let engine = Engine::start();
    let spec = ContainerSpec::new("a", engine.rootfs("a"), ProcessSpec::new(["sleep", "1000"]));
    engine.background(&spec);
    let traces = Traces::of(&engine);
    let Engine { sandbox, client, relay, .. } = engine;
    // The relay ends with its connection.
    drop(relay);
    assert_eq!(sandbox.wait().unwrap().code(), 0);
    until(|| client.pause("a").is_err());
    drop(sandbox);
    assert!(traces.remaining().is_empty(), "{:?}", traces.remaining());
}

#[test]
fn limits_of_the_whole_sandbox() {
    requires!(Root);
    let engine = Engine::with(Vec::new(), Limits { pids: Some(64), ..Limits::default() });
    if !engine.sandbox.warnings().is_empty() {
        dockwright_testing::skip("limits_of_the_whole_sandbox", &engine.sandbox.warnings().join("; "));
        return;
    }
    let output = engine.script("a", "for i in $(seq 100); do sleep 100 & done");
    assert!(output.stderr.contains("can't fork"), "{output:?}");
}
