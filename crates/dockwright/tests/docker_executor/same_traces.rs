//! Every case on both engines; their whole traces are compared.

use std::{fmt::Write as _, sync::Arc};

use dockwright_job::{JobPayload, JobUpdate};
use dockwright_runner::{FixedEndpoint, RunnerConfig};
use dockwright_testing::requires;
use regex::Regex;
use tokio_util::sync::CancellationToken;

use crate::{
    cases::{Case, cases},
    support::{Place, Recorder, run},
    world::{TURN, World},
};

const FILES: &[(&str, &str)] = &[("hello.txt", "hello\n"), ("docs/a.md", "a\n"), ("run.sh", "#!/bin/sh\necho from a file\n")];

#[tokio::test(flavor = "multi_thread")]
async fn the_same_jobs_have_the_same_traces_on_a_dockerd_and_on_our_engine() {
    requires!(Root, UserNamespace, Command("dockerd"), Command("busybox"), Command("nsenter"), DockerCli);
    let _turn = TURN.lock().await;
    let place = Arc::new(Place::new(FILES));
    let world = World::start();
    let image_id = world.daemon.docker(&["image", "inspect", "-f", "{{.Id}}", "busybox"]);
    let (theirs, ours) = tokio::join!(
        run_cases(&place, "dockerd", world.daemon.endpoint(), cases(&place, &world.shared_directory(), &image_id, &world.registries)),
        run_cases(&place, "ours", world.our_endpoint(), cases(&place, &world.shared_directory(), &image_id, &world.registries)),
    );
    let mut differences = String::new();
    for ((name, theirs), (_, ours)) in theirs.iter().zip(&ours) {
        for is_stderr in [false, true] {
            // Which of two streams comes first is not decided where the job runs.
            let of_stream = |lines: &[String]| -> Vec<String> {
                lines.iter().filter(|line| line.starts_with("TIME 01E") == is_stderr).cloned().collect()
            };
            let (theirs, ours) = (of_stream(theirs), of_stream(ours));
            if theirs != ours {
                let _ = writeln!(differences, "=== {name}\n{}", difference(&theirs, &ours));
            }
        }
    }
    assert!(differences.is_empty(), "- dockerd, + ours\n{differences}");
}

/// Runs the cases one after the other and returns what each of them showed.
async fn run_cases(place: &Arc<Place>, engine: &str, endpoint: String, cases: Vec<Case>) -> Vec<(&'static str, Vec<String>)> {
    let mut shown = Vec::new();
    let mut artifacts = std::collections::HashMap::new();
    for case in cases {
        let mut config = config(place, engine);
        if let Some(change) = &case.config {
            change(&mut config);
        }
        let recorder = Recorder::with([JobPayload::clone(&case.payload)]);
        *recorder.artifacts.lock().expect("not poisoned") = std::mem::take(&mut artifacts);
        if let Some(text) = case.cancel_on {
            recorder.cancel_on(text, &recorder.signals.cancel);
        }
        run(&recorder, FixedEndpoint::new(endpoint.clone()), config, 1, &CancellationToken::new()).await;
        artifacts = std::mem::take(&mut *recorder.artifacts.lock().expect("not poisoned"));
        let id = case.payload.id.0;
        let mut lines: Vec<String> = normalised(&recorder.raw_trace(id)).lines().map(str::to_owned).collect();
        let JobUpdate { state, failure_reason, exit_code, .. } = recorder.final_update(id);
        lines.push(format!("{state:?} {failure_reason:?} {exit_code:?}"));
        assert!(!lines.iter().any(|line| line.contains("a-masked-value")), "{}: a secret was shown", case.name);
        shown.push((case.name, lines));
    }
    shown
}

fn config(place: &Place, engine: &str) -> RunnerConfig {
    let directory = |name: &str| place.root.path().join(format!("{engine}-{name}"));
    let mut config = RunnerConfig::local(directory("builds"), directory("cache"), env!("CARGO_BIN_EXE_dockwright").into());
    config.timestamps = true;
    config.docker.wait_for_services = std::time::Duration::from_secs(2);
    config
}

/// Replaces what differs from one run to the next: times, and names and addresses that are made at random. Then what dockerd tells of
/// its own parts in errors, which changes from version to version (this is 20.10), and our hints, which it has not.
fn normalised(trace: &str) -> String {
    let mut text = trace.to_owned();
    for (pattern, replacement) in [
        (r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ", "TIME "),
        (r"section_(start|end):\d+:", "section_$1:TIME:"),
        (r"\b[0-9a-f]{64}\b", "ID"),
        (r"\b[0-9a-f]{16}\b", "RANDOM"),
        (r"\b(?:172|10|192)\.\d+\.\d+\.\d+\b", "ADDRESS"),
        ("failed to create (?:shim task|task for container): ", ""),
        ("OCI runtime create failed: runc create failed: unable to start container process: |failed to create container process: ", ""),
        (r"(exec: [^\x1b\n]*): unknown", "$1"),
        (r"no such image: [^ ]+: ", ""),
        (r"repository name \([^)]*\) must", "repository name must"),
        (r#"(?:Head|Get) ""#, "Get \""),
        (r"\nTIME 00O hint: [^\x1b\n]*", ""),
    ] {
        text = Regex::new(pattern).expect("a pattern").replace_all(&text, replacement).into_owned();
    }
    text.replace('\x1b', "^[").replace('\r', "^M")
}

/// The lines between the equal beginning and the equal end.
fn difference(theirs: &[String], ours: &[String]) -> String {
    let same_start = theirs.iter().zip(ours).take_while(|(a, b)| a == b).count();
    let rest = theirs.len().min(ours.len()) - same_start;
    let same_end = theirs.iter().rev().zip(ours.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    if same_start > 0 {
        let _ = writeln!(text, "  {}", theirs[same_start - 1]);
    }
    for (sign, lines) in [('-', theirs), ('+', ours)] {
        for line in &lines[same_start..lines.len() - same_end] {
            let _ = writeln!(text, "{sign} {line}");
        }
    }
    text
}
