//! Child pipelines.

use crate::common::Project;

#[test]
fn child_pipelines_run_from_files_and_from_artifacts() {
    let project = Project::new(
        r#"
make:
  stage: build
  script:
    - 'printf "inner:\n  script: [echo made by \$FROM and \$CI_PIPELINE_SOURCE]\n" > generated.yml'
  artifacts: {paths: [generated.yml]}
generated:
  variables: {FROM: "$CI_COMMIT_BRANCH"}
  trigger: {include: [{artifact: generated.yml, job: make}], strategy: depend}
local:
  trigger: {include: child.yml, strategy: depend}
after:
  stage: deploy
  script: [echo from-after]
"#,
    );
    project.write(
        "child.yml",
        "stages: [one, two]\nfirst: {stage: one, script: [echo from-first]}\nlast: {stage: two, script: [echo from-last]}\n",
    );
    let printed = project.output(&["run", "--jobs", "2"]).ended_with(0);
    for line in ["generated > inner | made by main and parent_pipeline", "local > first | from-first", "local > last | from-last"] {
        assert!(printed.stdout.lines().any(|printed| printed == line), "`{line}` is missing in:\n{}\n{}", printed.stdout, printed.stderr);
    }
    let place = |text: &str| printed.stdout.find(text).unwrap_or_else(|| panic!("{text} is missing in {}", printed.stdout));
    assert!(place("from-last") < place("from-after"), "{}", printed.stdout);
}

#[test]
fn a_child_gets_artifacts_of_its_parent_and_knows_it() {
    let project = Project::new(
        r#"
make:
  stage: build
  script: [echo made > made.txt, echo WORD=told > vars]
  artifacts: {paths: [made.txt], reports: {dotenv: vars}}
child:
  variables: {PARENT_PIPELINE_ID: $CI_PIPELINE_ID}
  trigger: {include: child.yml, strategy: depend}
"#,
    );
    let child = |pipeline: &str| {
        format!(
            "show:\n  needs: [{{pipeline: {pipeline}, job: make}}]\n  script: ['cat made.txt', 'echo $WORD by $CI_UPSTREAM_PIPELINE_ID = $PARENT_PIPELINE_ID']\n"
        )
    };
    project.write("child.yml", &child("$PARENT_PIPELINE_ID"));
    let printed = project.output(&["run"]).ended_with(0);
    let said = |text: &str| printed.stdout.lines().any(|line| line.starts_with("child > show") && line.contains(text));
    assert!(said("| made") && said("told by 1 = 1"), "{}\n{}", printed.stdout, printed.stderr);
    project.write("child.yml", &child("$NONE"));
    let printed = project.output(&["run"]).ended_with(1);
    assert!(printed.stdout.contains("it needs the artifacts of job `make`"), "{}\n{}", printed.stdout, printed.stderr);
    assert!(printed.stderr.contains("missing dependency failure"), "{}", printed.stderr);
}

#[test]
fn steps_fail_their_job_and_no_other() {
    let project = Project::new("steps: {run: [{name: a, script: x}], allow_failure: true}\nother: {script: [echo from-other]}\n");
    let printed = project.output(&["run"]).ended_with(0);
    assert!(
        printed.stdout.contains("from-other") && printed.stdout.contains("the steps of `run` are not run locally"),
        "{}",
        printed.stdout
    );
}

#[test]
fn a_bridge_ends_as_its_child_does() {
    let project = Project::new("child: {trigger: {include: child.yml, strategy: depend}}\n");
    project.write("child.yml", "bad: {script: [exit 3]}\n");
    let printed = project.output(&["run"]).ended_with(1);
    assert!(printed.stdout.contains("The child pipeline ended as failed."), "{}\n{}", printed.stdout, printed.stderr);
    project.write("child.yml", "bad: {scirpt: [exit 3]}\n");
    let printed = project.output(&["run"]).ended_with(1);
    assert!(printed.stdout.contains("child.yml:1:7: error: jobs bad config should implement"), "{}", printed.stdout);
    project.write("child.yml", "child: {trigger: {include: child.yml, strategy: depend}}\n");
    let printed = project.output(&["run"]).ended_with(1);
    assert!(printed.stdout.contains("more than 2 levels"), "{}", printed.stdout);
}

#[test]
fn a_failed_child_that_nothing_waits_for_fails_nothing() {
    let project = Project::new("child: {trigger: {include: child.yml}}\nother: {trigger: group/other}\n");
    project.write("child.yml", "bad: {script: [exit 3]}\n");
    let printed = project.output(&["run"]).ended_with(0);
    assert!(printed.stderr.contains("child > bad"), "{}", printed.stderr);
}
