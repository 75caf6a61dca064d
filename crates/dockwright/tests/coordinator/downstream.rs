//! `trigger`: pipelines that are started by jobs.

use serde_json::Value;

use crate::world::World;

fn bridges(world: &World, project: u64, pipeline: u64) -> Vec<Value> {
    let list = world.json("GET", &format!("/projects/{project}/pipelines/{pipeline}/bridges"), "");
    list.as_array().expect("a list").clone()
}

fn downstream(world: &World, pipeline: u64) -> u64 {
    bridges(world, 1, pipeline)[0]["downstream_pipeline"]["id"].as_u64().expect("a pipeline was started")
}

const PARENT: &str = "
stages: [make, start, after]
make:
  stage: make
  script: ['printf \"from-file: {script: [cat child.txt, echo got \\$WORD and \\$SECRET.]}\" > made.yml']
  artifacts: {paths: [made.yml]}
start:
  stage: start
  variables: {WORD: 'hello-$CI_COMMIT_REF_NAME'}
  trigger:
    include: [{artifact: made.yml, job: make}, child.yml]
    strategy: depend
    forward: {pipeline_variables: true}
after: {stage: after, script: 'echo after'}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_child_from_artifacts_and_the_repository_survives_a_kill() {
    let mut world = World::new(PARENT);
    world.write("child.txt", "text of the commit\n");
    world.write("child.yml", "slow: {script: ['echo begun', 'sleep 1']}\n");
    world.commit(PARENT);
    let body = r#"{"ref":"main","variables":[{"key":"SECRET","value":"given"}]}"#;
    let parent = world.json("POST", "/projects/1/pipeline", body)["id"].as_u64().expect("a number");
    // The child's jobs wait; the coordinator that goes on with them is another.
    let runner = world.runner("", 1).await;
    world.until("the child", || bridges(&world, 1, parent)[0]["downstream_pipeline"].is_object()).await;
    world.kill_and_restart();
    let child = downstream(&world, parent);
    world.until_pipeline(parent, "success").await;
    let shown = world.json("GET", &format!("/projects/1/pipelines/{child}"), "");
    assert_eq!((&shown["source"], &shown["status"]), (&"parent_pipeline".into(), &"success".into()));
    let jobs = world.jobs(child);
    assert_eq!(jobs.iter().map(|job| job["name"].as_str().unwrap_or_default()).collect::<Vec<_>>(), ["from-file", "slow"]);
    let trace = world.trace(jobs[0]["id"].as_u64().expect("a number"));
    assert!(trace.contains("\ntext of the commit\n"), "{trace}");
    assert!(trace.contains("\ngot hello-main and given.\n"), "{trace}");
    let names: Vec<Value> = world.jobs(parent).iter().map(|job| job["name"].clone()).collect();
    assert_eq!(names, ["make", "after"], "a bridge is no job");
    assert_eq!(bridges(&world, 1, parent)[0]["status"], "success");
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_child_fails_its_job_only_with_a_strategy() {
    let config = "
waits: {trigger: {include: child.yml, strategy: depend}, allow_failure: true}
starts: {trigger: {include: child.yml}}
missing: {trigger: {include: nowhere.yml}, allow_failure: true}
";
    let world = World::new(config);
    world.write("child.yml", "broken: {script: 'false'}\n");
    world.commit(config);
    let parent = world.create_pipeline();
    let runner = world.runner("", 2).await;
    world.until_pipeline(parent, "success").await;
    let shown: Vec<String> =
        bridges(&world, 1, parent).iter().map(|job| format!("{} {} {}", job["name"], job["status"], job["failure_reason"])).collect();
    let expected = [
        r#""waits" "failed" "unknown_failure""#,
        r#""starts" "success" null"#,
        r#""missing" "failed" "downstream_pipeline_creation_failed""#,
    ];
    assert_eq!(shown, expected);
    let missing = bridges(&world, 1, parent)[2].clone();
    assert!(missing["downstream_pipeline"].is_null(), "{missing}");
    let trace = world.trace(missing["id"].as_u64().expect("a number"));
    assert!(trace.contains("nowhere.yml"), "{trace}");
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_end_with_whoever_stops_their_parent() {
    let config = "start: {trigger: {include: child.yml, strategy: depend}}\n";
    let world = World::new(config);
    world.write("child.yml", "slow: {script: ['echo begun', 'while sleep 0.05; do echo tick; done']}\n");
    world.commit(config);
    let parent = world.create_pipeline();
    let runner = world.runner("", 1).await;
    let child = downstream(&world, parent);
    let job = world.jobs(child)[0]["id"].as_u64().expect("a number");
    world.until("output", || world.trace(job).contains("begun\n")).await;
    world.json("POST", &format!("/projects/1/pipelines/{parent}/cancel"), "");
    world.until_pipeline(child, "canceled").await;
    world.until_pipeline(parent, "canceled").await;
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_of_other_projects_are_started_on_their_branches() {
    let config = "
other: {variables: {WORD: passed}, trigger: {project: group/other, branch: stable, strategy: depend}}
stranger: {trigger: group/nobody, allow_failure: true}
itself: {trigger: group/app, allow_failure: true}
";
    let world = World::new(config);
    world.add_project("group/other", "stable", "say: {script: 'echo $WORD in $CI_PROJECT_PATH at $CI_COMMIT_REF_NAME'}\n");
    let pipeline = world.create_pipeline();
    let runner = world.runner("", 1).await;
    world.until_pipeline(pipeline, "success").await;
    let shown = bridges(&world, 1, pipeline);
    let other = &shown[0]["downstream_pipeline"];
    assert_eq!((&other["project_id"], &other["ref"], &other["source"]), (&2.into(), &"stable".into(), &"pipeline".into()));
    assert_eq!(shown[1]["failure_reason"], "downstream_bridge_project_not_found");
    assert_eq!(shown[2]["failure_reason"], "invalid_bridge_trigger");
    let jobs = world.json("GET", &format!("/projects/2/pipelines/{}/jobs", other["id"]), "");
    let path = format!("/projects/2/jobs/{}/trace", jobs[0]["id"]);
    let trace = String::from_utf8_lossy(&world.call("GET", &path, "").1).into_owned();
    assert!(trace.contains("\npassed in group/other at stable\n"), "{trace}");
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_that_start_each_other_are_stopped() {
    let world = World::new("there: {trigger: group/other}\n");
    world.add_project("group/other", "main", "back: {trigger: group/app}\n");
    let first = world.create_pipeline();
    world.until_pipeline(first, "success").await;
    let count = |project: u64| world.json("GET", &format!("/projects/{project}/pipelines"), "").as_array().map_or(0, Vec::len);
    assert_eq!((count(1), count(2)), (3, 2));
    let last = world.json("GET", "/projects/1/pipelines/latest", "")["id"].as_u64().expect("a number");
    assert_eq!(bridges(&world, 1, last)[0]["failure_reason"], "pipeline_loop_detected");
}
