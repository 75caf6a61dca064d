//! What is printed, where, and how it looks.

use std::{io::Read as _, process::Stdio};

use crate::common::{Printed, Project};

const TWO_JOBS: &str = "
one:
  script:
    - echo from-one
two:
  stage: deploy
  script:
    - echo from-two
";

#[test]
fn in_a_pipe_each_line_has_its_jobs_name() {
    let printed = Project::new(TWO_JOBS).output(&["run"]).ended_with(0);
    for line in ["one | from-one", "two | from-two"] {
        assert!(printed.stdout.lines().any(|printed| printed == line), "`{line}` is missing in:\n{}", printed.stdout);
    }
    assert!(printed.stderr.contains("pipeline passed"), "{}", printed.stderr);
    assert!(!printed.stdout.contains("pipeline passed"), "the summary is no data:\n{}", printed.stdout);
}

#[test]
fn the_named_job_brings_what_it_needs_and_no_more() {
    let project = Project::new(&format!("{TWO_JOBS}  needs: [one]\nthree:\n  script: [echo from-three]\n"));
    let printed = project.output(&["run", "two"]).ended_with(0);
    assert!(printed.stdout.contains("from-one") && printed.stdout.contains("from-two"), "{}", printed.stdout);
    assert!(!printed.stdout.contains("from-three"), "{}", printed.stdout);
}

#[test]
fn coverage_is_in_the_summary_and_delayed_jobs_need_not_be_waited_for() {
    let configuration = "
one:
  script: [echo TOTAL 81.5% of lines]
  coverage: '/TOTAL \\d+\\.\\d+%/'
late:
  stage: deploy
  script: [echo from-late]
  when: delayed
  start_in: 1 hour
";
    let project = Project::new(configuration);
    let printed = project.output(&["run", "--delayed", "now"]).ended_with(0);
    assert!(printed.stderr.contains("passed  coverage 81.5%"), "{}", printed.stderr);
    assert!(printed.stdout.contains("from-late"), "{}", printed.stdout);
    let printed = project.output(&["run", "--delayed", "skip"]).ended_with(0);
    assert!(!printed.stdout.contains("from-late"), "{}", printed.stdout);
    assert!(project.output(&["run", "late"]).ended_with(0).stdout.contains("from-late"));
}

#[test]
fn junit_reports_are_summed_up() {
    let project = Project::new(
        "
unit:
  script: [cp good.xml report.xml; cp bad.xml broken.xml; exit 1]
  artifacts: {reports: {junit: [report.xml, broken.xml]}}
",
    );
    project.write(
        "good.xml",
        "<testsuite><testcase name='adds' classname='Math'><failure message='expected 1'/></testcase><testcase name='b'/></testsuite>",
    );
    project.write("bad.xml", "<testsuite>\n<testcase name='c'/>\n</testsuit>\n");
    let printed = project.output(&["run"]).ended_with(1);
    for line in ["tests of unit: 3 tests, 1 failed", "  ✗ Math adds: expected 1"] {
        assert!(printed.stderr.lines().any(|printed| printed == line), "`{line}` is missing in:\n{}", printed.stderr);
    }
    let warning = "warning: unit: the JUnit report `broken.xml` is wrong in line 3: ";
    assert_eq!(printed.stderr.matches(warning).count(), 1, "{}", printed.stderr);
    let printed = project.output(&["run", "--json"]).ended_with(1);
    let events = printed.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let finished = events.into_iter().find(|event| event["type"] == "job_finished").expect("job_finished");
    let failed = serde_json::json!([{"name": "adds", "class": "Math", "message": "expected 1"}]);
    assert_eq!(finished["tests"], serde_json::json!({"tests": 3, "failures": 1, "errors": 0, "skipped": 0, "failed": failed}));
}

#[test]
fn a_release_is_told_and_not_made() {
    let project = Project::new(
        "
release:
  script: [echo made > notes.md]
  artifacts: {paths: [notes.md]}
  variables: {VERSION: '1.2'}
  release:
    tag_name: v$VERSION
    description: notes.md
    released_at: soon
    assets: {links: [{name: app, url: 'https://example.com/$VERSION'}]}
failed:
  stage: deploy
  script: [exit 1]
  allow_failure: true
  release: {tag_name: v1, description: never}
",
    );
    let printed = project.output(&["run"]).ended_with(0);
    for line in ["  tag_name    v1.2", "  description made", "  link        app: https://example.com/1.2"] {
        assert!(printed.stderr.lines().any(|printed| printed == line), "`{line}` is missing in:\n{}", printed.stderr);
    }
    assert!(printed.stderr.contains("warning: release: `release:released_at` is `soon`"), "{}", printed.stderr);
    assert!(!printed.stderr.contains("release of failed") && !printed.stderr.contains("never"), "{}", printed.stderr);
}

#[test]
fn json_is_one_event_per_line() {
    let project = Project::new("bad:\n  script:\n    - echo hello\n    - exit 3\n");
    let printed = project.output(&["run", "--json"]).ended_with(1);
    let events: Vec<serde_json::Value> =
        printed.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert!(events.iter().all(|event| event["schema"] == 1 && event["ts"].is_string()), "{}", printed.stdout);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"pipeline_started"), Some(&"pipeline_finished")));
    let finished = events.iter().find(|event| event["type"] == "job_finished").expect("job_finished");
    assert_eq!((&finished["job"], &finished["status"]), (&"bad".into(), &"failed".into()));
    assert_eq!((&finished["reason"], &finished["exit_code"]), (&"script_failure".into(), &3.into()));
    assert!(events.iter().any(|event| event["type"] == "job_output" && event["line"] == "hello"), "{}", printed.stdout);
}

#[test]
fn quiet_prints_only_failures() {
    let project = Project::new("good:\n  script: [echo good-says]\nbad:\n  script: [echo bad-says; exit 1]\n");
    let printed = project.output(&["run", "--quiet", "good"]).ended_with(0);
    assert_eq!((printed.stdout.as_str(), printed.stderr.as_str()), ("", ""));
    let printed = project.output(&["run", "--quiet"]).ended_with(1);
    assert!(printed.stdout.contains("bad-says") && !printed.stdout.contains("good-says"), "{}", printed.stdout);
}

#[test]
fn colour_follows_the_flag_and_the_environment() {
    let project = Project::new(TWO_JOBS);
    let escapes = |printed: Printed| printed.ended_with(0).stdout.contains('\x1b');
    assert!(!escapes(project.output(&["run"])), "a pipe gets no colour");
    assert!(escapes(project.output(&["run", "--color", "always"])));
    let output = |variable: &str, value: &str| {
        Printed::of(project.dockwright(&["run"]).env("CLICOLOR_FORCE", "1").env(variable, value).output().expect("dockwright runs"))
    };
    assert!(escapes(output("CLICOLOR_FORCE", "1")));
    assert!(!escapes(output("NO_COLOR", "1")));
}

#[test]
fn list_shows_jobs_and_runs_none() {
    let project = Project::new(
        "a:\n  script: [touch ran]\n  rules:\n    - if: $CI_COMMIT_BRANCH == 'main'\nb:\n  script: ['true']\n  when: manual\n",
    );
    let printed = project.output(&["list"]).ended_with(0);
    assert!(printed.stdout.contains('a') && printed.stdout.contains("manual"), "{}", printed.stdout);
    let printed = project.output(&["list", "--json"]).ended_with(0);
    let jobs: serde_json::Value = serde_json::from_str(&printed.stdout).expect("JSON");
    let names: Vec<&str> = jobs["jobs"].as_array().expect("jobs").iter().filter_map(|job| job["name"].as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(!project.repository().join("ran").exists());
}

#[test]
fn preview_shows_the_whole_configuration_even_when_a_job_is_wrong() {
    let project = Project::new("include: ci.yml\nchild: {extends: .parent, stage: tets}\n");
    project.write("ci.yml", ".parent: {script: [make]}\n");
    let printed = project.output(&["preview"]).ended_with(3);
    let expected = "---\n\".parent\":\n  script:\n  - make\nchild:\n  script:\n  - make\n  extends: \".parent\"\n  stage: tets\n";
    assert_eq!(printed.stdout, expected);
    assert!(printed.stderr.contains("stage-unknown"), "{}", printed.stderr);
    let printed = project.output(&["preview", "--json"]).ended_with(3);
    let merged: serde_json::Value = serde_json::from_str(&printed.stdout).expect("JSON");
    assert_eq!(merged["child"]["script"][0], "make");
    project.write(".gitlab-ci.yml", "include: none.yml\njob: {script: [x]}\n");
    assert_eq!(project.output(&["preview"]).ended_with(3).stdout, "", "half a configuration is none");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let project = Project::new(TWO_JOBS);
    let mut child = project.dockwright(&["list", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("dockwright runs");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("stderr").read_to_string(&mut stderr).expect("text");
    assert!(child.wait().expect("wait").success(), "{stderr}");
    assert_eq!(stderr, "");
}

#[test]
fn uncommitted_changes_take_part_unless_told_otherwise() {
    let project = Project::new("show:\n  script: [cat file]\n");
    project.write("file", "committed\n");
    project.git(&["add", "file"]);
    project.git(&["commit", "-q", "-m", "second"]);
    project.write("file", "changed\n");
    assert!(project.output(&["run"]).ended_with(0).stdout.contains("show | changed"));
    assert!(project.output(&["run", "--committed"]).ended_with(0).stdout.contains("show | committed"));
}

#[test]
fn variables_reach_the_job() {
    let project = Project::new("show:\n  variables: {A: file}\n  script: [echo \"A is $A\", cat \"$B\"]\n");
    project.write("secret", "content of B");
    let printed = project.output(&["run", "--variable", "A=typed", "--variable-file", "B=secret"]).ended_with(0);
    assert!(printed.stdout.contains("A is typed") && printed.stdout.contains("content of B"), "{}", printed.stdout);
}

#[test]
fn artifacts_are_kept_where_asked() {
    let project = Project::new("make:\n  script: [mkdir out, echo made > out/file]\n  artifacts:\n    paths: [out]\n");
    let kept = project.path("kept");
    project.output(&["run", "--keep-artifacts", kept.to_str().expect("path")]).ended_with(0);
    assert_eq!(std::fs::read_to_string(kept.join("make/out/file")).expect("the artifact"), "made\n");
}

#[test]
fn list_draws_the_graph() {
    let project = Project::new("build: {stage: build, script: [make]}\nunit: {script: [make], needs: [build]}\n");
    let printed = project.output(&["list", "--graph"]).ended_with(0);
    assert_eq!(printed.stdout, "build\n└─ build\ntest\n└─ unit  ← build\n");
    assert!(project.output(&["list", "--svg"]).ended_with(0).stdout.starts_with("<svg "));
    project.output(&["list", "--svg", "--graph"]).ended_with(2);
}

#[test]
fn the_schema_is_printed_without_a_project() {
    let project = Project::without_commit();
    let printed = project.output(&["lint", "--schema"]).ended_with(0);
    let schema: serde_json::Value = serde_json::from_str(&printed.stdout).expect("it is JSON");
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert_eq!(schema["properties"]["stages"]["description"], "The stages in their order.");
}
