//! The crate graph is a decision: a new edge between our crates is a visible line in this list.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

const EDGES: &[(&str, &[&str])] = &[
    ("dockwright-pipeline", &[]),
    ("dockwright-job", &[]),
    ("dockwright-store", &[]),
    ("dockwright-container", &[]),
    ("dockwright-testing", &[]),
    ("dockwright-registry", &["store"]),
    ("dockwright-runner", &["job"]),
    ("dockwright-coordinator", &["job", "pipeline"]),
    ("dockwright-build", &["store"]),
    ("dockwright-engine", &["build", "container", "registry", "store"]),
    ("dockwright", &["build", "container", "coordinator", "engine", "job", "pipeline", "registry", "runner", "store"]),
    ("xtask", &[]),
];

/// Crates that must stay plain functions, easier to test and to read.
const SYNCHRONOUS: &[&str] = &["dockwright-pipeline", "dockwright-job", "dockwright-store", "dockwright-container"];

fn metadata() -> Value {
    // For this platform only: what others need was never downloaded on a fresh machine.
    let target = format!("--filter-platform={}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", &target])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Normal (not development) dependencies of every package, by name.
fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let id_to_name: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| (package["id"].as_str().expect("id"), package["name"].as_str().expect("name")))
        .collect();
    let normal = |dependency: &&Value| dependency["dep_kinds"].as_array().expect("kinds").iter().any(|kind| kind["kind"].is_null());
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().expect("nodes") {
        let name = id_to_name[node["id"].as_str().expect("id")];
        let edges = node["deps"].as_array().expect("deps").iter().filter(normal);
        graph.entry(name.to_owned()).or_default().extend(edges.map(|edge| id_to_name[edge["pkg"].as_str().expect("pkg")].to_owned()));
    }
    graph
}

#[test]
fn crates_depend_only_on_what_is_listed() {
    let metadata = metadata();
    let graph = dependencies(&metadata);
    let ours: BTreeMap<&str, BTreeSet<String>> =
        EDGES.iter().map(|(name, edges)| (*name, edges.iter().map(|edge| format!("dockwright-{edge}")).collect())).collect();
    let members = metadata["workspace_members"].as_array().expect("members").len();
    assert_eq!(members, EDGES.len(), "a crate is missing in the list of edges");
    for (name, expected) in &ours {
        let actual: BTreeSet<String> = graph[*name].iter().filter(|edge| ours.contains_key(edge.as_str())).cloned().collect();
        assert_eq!(&actual, expected, "dependencies of {name}");
    }
}

#[test]
fn the_core_reaches_no_async_runtime() {
    let graph = dependencies(&metadata());
    for start in SYNCHRONOUS {
        let mut seen = BTreeSet::new();
        let mut queue = vec![(*start).to_owned()];
        while let Some(name) = queue.pop() {
            assert_ne!(name, "tokio", "{start} reaches tokio");
            queue.extend(graph[&name].iter().filter(|next| seen.insert((*next).clone())).cloned());
        }
    }
}

/// The table of faults is as true as its tests: each of them exists, and looks its own row up.
#[test]
fn documented_faults_have_their_tests() {
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let tests = format!("{}{}", sources(&format!("{crates}/dockwright-runner/tests")), sources(&format!("{crates}/dockwright/tests")));
    let rows = dockwright_testing::documented_faults();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        assert!(tests.contains(&format!("fn {}(", row.test)), "no test `{}`", row.test);
        assert!(tests.contains(&format!("\"{}\"", row.test)), "the test `{}` does not compare itself with its row", row.test);
    }
}

fn sources(directory: &str) -> String {
    let entries = std::fs::read_dir(directory).expect("a directory of tests").map(|entry| entry.expect("an entry").path());
    let texts = entries.map(|path| match path.is_dir() {
        true => sources(&path.to_string_lossy()),
        false => std::fs::read_to_string(&path).unwrap_or_default(),
    });
    texts.collect()
}
