//! The repositories below `examples/`, as a newcomer runs them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::world::for_each_world;

fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut queue: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = queue.pop() {
        for entry in fs::read_dir(&directory).expect("example directory") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                queue.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below the root").to_str().expect("name").to_owned();
                files.push((name, fs::read(&path).expect("file")));
            }
        }
    }
    files
}

fn run_example(name: &'static str, expected: &[&str]) {
    for_each_world(&format!("examples::{name}"), |world| {
        let files = tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name));
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        let repository = world.repository(name, &files);
        let printed = world.run_green(&repository, &[]);
        for expected in expected {
            assert!(printed.contains(expected), "`{expected}` is missing in:\n{printed}");
        }
    });
}

#[test]
fn app() {
    run_example("app", &["2 checks passed", "Hello from Dockwright", "digest: sha256:"]);
}

#[test]
fn shell() {
    run_example("shell", &["tests passed: built through the shell approach"]);
}

#[test]
fn dind() {
    run_example("dind", &["tests passed: built through the dind approach"]);
}

#[test]
fn socket() {
    run_example("socket", &["tests passed: built through the socket approach", "from the job's checkout"]);
}
