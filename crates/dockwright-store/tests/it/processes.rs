//! Several processes at once, and processes that are killed.
//!
//! The child processes are this test binary, told by an environment variable to do one thing.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use dockwright_store::{Depth, GcPolicy, LayerOrigin, Store, layer};
use dockwright_testing::requires;

const ROLE: &str = "DOCKWRIGHT_TEST_STORE";
const NO_GRACE: GcPolicy = GcPolicy { grace_secs: 0, cache_idle_secs: 1000, upload_idle_secs: 1000 };
const LAYERS: usize = 40;

fn child(test: &str, store: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The tar of a small tree; the number makes layers differ.
fn layer_tar(number: usize) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..5 {
        std::fs::write(dir.path().join(format!("file-{file}")), format!("{number} {file}").repeat(100)).unwrap();
    }
    let options = layer::LayerTarOptions { newest_mtime_secs: Some(0), ..Default::default() };
    let mut tar = Vec::new();
    let dir = std::fs::File::open(dir.path()).unwrap();
    layer::write_layer_tar(std::os::fd::AsFd::as_fd(&dir), &options, &mut tar).unwrap();
    tar
}

/// Applies layers under a lease, saying so after each, as long as nobody ends it.
fn apply_for_ever(store: &Path) {
    let store = Store::open(store).unwrap();
    let lease = store.lease();
    for number in 0..LAYERS {
        let applied = store.apply_layer(layer_tar(number).as_slice(), LayerOrigin::Foreign).unwrap();
        assert!(lease.hold_layer(&applied.diff_id).unwrap());
        say(&format!("applied {}", applied.diff_id));
    }
    say("done");
    // Until the parent closes the pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Past the test harness's capture, to the parent.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).unwrap();
}

fn next_line(child: &mut BufReader<std::process::ChildStdout>, wanted: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(child.read_line(&mut line).unwrap(), 0, "the child ended early");
        // The test harness writes the test's name in front of the first line.
        if let Some(start) = line.find(wanted) {
            return line[start + wanted.len()..].trim().to_owned();
        }
    }
}

#[test]
fn killed_while_applying() {
    requires!(Root);
    if let Some(store) = std::env::var_os(ROLE) {
        return apply_for_ever(Path::new(&store));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    for kill_after in 0..6 {
        let mut child = child("processes::killed_while_applying", &path);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let acknowledged: Vec<String> = (0..=kill_after).map(|_| next_line(&mut output, "applied ")).collect();
        child.kill().unwrap();
        child.wait().unwrap();

        let store = Store::open(&path).unwrap();
        assert_eq!(store.verify(Depth::Digests).unwrap(), []);
        for diff_id in acknowledged {
            assert!(store.has_layer(&diff_id.parse().unwrap()).unwrap(), "{diff_id} was acknowledged");
        }
        // The lease went with its process, so nothing keeps the layers.
        store.gc(&NO_GRACE).unwrap();
        assert_eq!(store.verify(Depth::Digests).unwrap(), []);
        assert_eq!(std::fs::read_dir(path.join("layers")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(path.join("tmp")).unwrap().count(), 1, "only ours");
    }
}

#[test]
fn two_processes_write_and_collect_at_once() {
    requires!(Root);
    if let Some(store) = std::env::var_os(ROLE) {
        return apply_for_ever(Path::new(&store));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    let mut children: Vec<Child> = (0..2).map(|_| child("processes::two_processes_write_and_collect_at_once", &path)).collect();
    let mut outputs: Vec<_> = children.iter_mut().map(|child| BufReader::new(child.stdout.take().unwrap())).collect();
    // A short grace covers the moment between an application and its lease; both children apply the same layers.
    let policy = GcPolicy { grace_secs: 60, ..NO_GRACE };
    for _ in 0..10 {
        store.gc(&policy).unwrap();
        assert_eq!(store.verify(Depth::Shallow).unwrap(), []);
    }
    for output in &mut outputs {
        next_line(output, "done");
    }
    assert_eq!(store.gc(&NO_GRACE).unwrap().layers, 0, "the leases of both children hold all layers");
    assert_eq!(std::fs::read_dir(path.join("layers")).unwrap().count(), LAYERS);
    assert_eq!(store.verify(Depth::Digests).unwrap(), []);
    for child in &mut children {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(store.gc(&NO_GRACE).unwrap().layers, LAYERS as u64);
}
