//! `dockwright test`: what a file says about pipelines of a repository.

use crate::common::Project;

const CONFIG: &str = "
build: {stage: build, script: [make]}
docs: {script: [make], rules: [{changes: ['docs/*']}]}
review: {script: [make], rules: [{if: $CI_PIPELINE_SOURCE == 'merge_request_event'}]}
release: {script: [make], rules: [{if: $CI_COMMIT_TAG}]}
deploy: {stage: deploy, script: [make], rules: [{if: $TARGET}], variables: {URL: 'https://$TARGET'}}
";

#[test]
fn situations_are_those_of_the_file() {
    let project = Project::new(CONFIG);
    let tests = "
code: {pipeline: {changes: [a.c]}, jobs: [build], exact: true}
docs: {pipeline: {changes: [docs/a.md]}, jobs: [build, docs], exact: true}
tag: {pipeline: {tag: v1, changes: []}, jobs: [build, release], absent: [review]}
merge request: {pipeline: {ref: topic, target_branch: main}, jobs: [review], absent: [build]}
target: {pipeline: {ref: main, variables: {TARGET: a.test}}, jobs: {deploy: {variables: {URL: 'https://a.test'}}}}
";
    project.write(".gitlab-ci.test.yml", tests);
    let printed = project.output(&["test"]).ended_with(0);
    assert_eq!(printed.stdout, "ok      code\nok      docs\nok      tag\nok      merge request\nok      target\n");
    assert!(printed.stderr.contains("5 passed, 0 failed"), "{}", printed.stderr);
}

#[test]
fn what_does_not_hold_is_shown_and_the_rest_goes_on() {
    let project = Project::new(CONFIG);
    project.write("t.yml", "one: {jobs: [biuld]}\ntwo: {jobs: [build]}\n");
    let printed = project.output(&["test", "t.yml"]).ended_with(1);
    assert_eq!(printed.stdout, "failed  one\nok      two\n");
    assert!(printed.stderr.contains("t.yml:1:14") && printed.stderr.contains("did you mean `build`?"), "{}", printed.stderr);
}

#[test]
fn what_cannot_be_tested_ends_with_3() {
    let project = Project::new(CONFIG);
    assert!(project.output(&["test"]).ended_with(3).stderr.contains(".gitlab-ci.test.yml"));
    project.write("t.yml", "one: {pipeline: {event: psuh}, jobs: [build]}\n");
    assert!(project.output(&["test", "t.yml"]).ended_with(3).stderr.contains("`push`"));
    project.write("t.yml", "one: {job: [build]}\n");
    assert!(project.output(&["test", "t.yml"]).ended_with(3).stderr.contains("test-unknown-key"));
}

#[test]
fn the_example_holds() {
    let project = Project::new(include_str!("../../../../examples/app/.gitlab-ci.yml"));
    project.write(".gitlab-ci.test.yml", include_str!("../../../../examples/app/.gitlab-ci.test.yml"));
    project.output(&["test"]).ended_with(0);
}
