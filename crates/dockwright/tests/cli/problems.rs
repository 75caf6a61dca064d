//! Bad input: one clear message with place and remedy, and the documented exit code.

use crate::common::{Printed, Project};

#[test]
fn a_failing_script_is_a_result() {
    let printed = Project::new("job:\n  script: [exit 7]\n").output(&["run"]).ended_with(1);
    assert!(printed.stderr.contains("failed with exit code 7"), "{}", printed.stderr);
}

#[test]
fn a_failure_that_is_allowed_is_success() {
    let printed = Project::new("job:\n  script: [exit 7]\n  allow_failure: true\n").output(&["run"]).ended_with(0);
    assert!(printed.stderr.contains("allowed to fail"), "{}", printed.stderr);
}

#[test]
fn broken_yaml_is_shown_with_its_line() {
    for command in ["run", "lint", "list"] {
        let printed = Project::new("job:\n  script: [a, b\nother: x\n").output(&[command]).ended_with(3);
        assert!(printed.stderr.contains(".gitlab-ci.yml:"), "{command}: {}", printed.stderr);
    }
}

#[test]
fn a_valid_file_lints() {
    Project::new("job:\n  script: [make]\n").output(&["lint"]).ended_with(0);
}

#[test]
fn lint_says_problems_in_json() {
    let printed = Project::new("job:\n  script: [make]\n  needs: [no-such]\n").output(&["lint", "--json"]).ended_with(3);
    let report: serde_json::Value = serde_json::from_str(&printed.stdout).expect("JSON");
    assert_eq!(report["valid"], false);
    let problem = &report["problems"][0];
    assert_eq!((&problem["file"], &problem["line"]), (&".gitlab-ci.yml".into(), &3.into()), "{report}");
}

#[test]
fn lint_speaks_formats_of_others() {
    let project = Project::new("job:\n  script: [make]\n  needs: [no-such]\n");
    let printed = project.output(&["lint", "--format", "sarif"]).ended_with(3);
    let log: serde_json::Value = serde_json::from_str(&printed.stdout).expect("JSON");
    assert_eq!(log["runs"][0]["results"][0]["ruleId"], "needs-unknown-job", "{log}");
    let printed = project.output(&["lint", "--format", "code-quality"]).ended_with(3);
    let report: serde_json::Value = serde_json::from_str(&printed.stdout).expect("JSON");
    let location = serde_json::json!({ "path": ".gitlab-ci.yml", "lines": { "begin": 3, "end": 3 } });
    assert_eq!((&report[0]["severity"], &report[0]["location"]), (&"blocker".into(), &location), "{report}");
    project.write(".gitlab-ci.yml", "job:\n  script: [make]\n");
    assert_eq!(project.output(&["lint", "--format", "code-quality"]).ended_with(0).stdout, "[]\n");
}

#[test]
fn a_missing_file_says_what_to_write() {
    let project = Project::without_commit();
    project.write("README", "");
    project.git(&["add", "-A"]);
    project.git(&["commit", "-q", "-m", "first"]);
    let printed = project.output(&["run"]).ended_with(3);
    assert!(printed.stderr.contains("`.gitlab-ci.yml`") && printed.stderr.contains("create it"), "{}", printed.stderr);
}

#[test]
fn outside_of_a_repository_the_remedy_is_git_init() {
    let project = Project::without_commit();
    let elsewhere = tempfile::tempdir().expect("temporary directory");
    let output = project.dockwright(&["run"]).current_dir(elsewhere.path()).output().expect("dockwright runs");
    let printed = Printed::of(output).ended_with(3);
    assert!(printed.stderr.contains("git init"), "{}", printed.stderr);
}

#[test]
fn an_unknown_job_is_named_with_a_similar_one() {
    let printed = Project::new("build-image:\n  script: [make]\n").output(&["run", "biuld-image"]).ended_with(2);
    assert!(printed.stderr.contains("`biuld-image`") && printed.stderr.contains("`build-image`"), "{}", printed.stderr);
}

#[test]
fn an_unknown_flag_is_a_usage_error() {
    let printed = Project::without_commit().output(&["run", "--verbos"]).ended_with(2);
    assert!(printed.stderr.contains("--verbos"), "{}", printed.stderr);
}

#[test]
fn a_pipeline_without_jobs_has_its_own_code() {
    let project = Project::new("job:\n  script: [make]\n  rules:\n    - if: $CI_COMMIT_TAG\n");
    let printed = project.output(&["run"]).ended_with(6);
    assert!(printed.stderr.contains("no job"), "{}", printed.stderr);
}

#[test]
fn a_blocking_manual_job_has_its_own_code() {
    let project = Project::new("gate:\n  script: [make]\n  when: manual\n  allow_failure: false\n");
    let printed = project.output(&["run"]).ended_with(7);
    assert!(printed.stderr.contains("manual"), "{}", printed.stderr);
    let printed = project.output(&["run", "--quiet", "gate"]);
    assert_ne!(printed.code, Some(7), "a manual job that is named runs: {}", printed.stderr);
}

#[test]
fn a_job_with_an_image_fails_clearly_without_an_engine() {
    let project = Project::new("job:\n  image: busybox\n  script: ['true']\n");
    let printed = project.output(&["run", "--no-engine"]).ended_with(1);
    assert!(printed.stdout.contains("--no-engine"), "{}", printed.stdout);
}

#[test]
fn a_docker_that_does_not_answer_is_named() {
    let project = Project::new("job:\n  image: busybox\n  script: ['true']\n");
    let printed = project.output(&["run", "--docker-host", "unix:///no/such/socket"]).ended_with(1);
    assert!(printed.stdout.contains("/no/such/socket"), "{}", printed.stdout);
}
