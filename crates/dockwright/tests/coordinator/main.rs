//! `dockwright coordinator serve` with runners: whole pipelines over HTTP.

mod downstream;
mod registry;
mod rest;
mod world;

use std::{fmt::Write as _, time::Duration};

use world::{World, call};

const TWO_STAGES: &str = "
stages: [build, test]
make:
  stage: build
  script: ['echo making', 'mkdir out', 'echo product > out/file', 'echo VERSION=7 > env']
  artifacts: {paths: [out], reports: {dotenv: env}}
check:
  stage: test
  script: ['cat out/file', 'echo version $VERSION of $CI_PROJECT_PATH at $CI_SERVER_URL']
";

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_from_registration_to_artifacts() {
    let world = World::new(TWO_STAGES);
    let pipeline = world.create_pipeline();
    let runner = world.runner("", 1).await;
    world.until_pipeline(pipeline, "success").await;
    let jobs = world.jobs(pipeline);
    let names: Vec<&str> = jobs.iter().filter_map(|job| job["name"].as_str()).collect();
    assert_eq!(names, ["make", "check"]);
    let trace = world.trace(2);
    assert!(trace.contains("\nproduct\n"), "{trace}");
    assert!(trace.contains(&format!("\nversion 7 of group/app at http://{}\n", world.address)), "{trace}");
    assert!(trace.contains("Job succeeded"), "{trace}");
    assert!(!trace.contains("glcbt-"), "{trace}");
    let (status, archive) = world.call("GET", "/projects/1/jobs/1/artifacts", "");
    assert_eq!((status, &archive[..2]), (200, b"PK".as_slice()));
    assert_eq!(world.job(1)["artifacts_file"]["filename"], "artifacts.zip");
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_a_token_learns_anything() {
    let world = World::new(TWO_STAGES);
    world.create_pipeline();
    for (method, path) in [("GET", "/projects"), ("POST", "/projects/1/pipeline?ref=main"), ("GET", "/projects/1/jobs/1/trace")] {
        assert_eq!(call(&world.address, method, path, "", "").0, 401, "{path}");
        assert_eq!(call(&world.address, method, path, "PRIVATE-TOKEN: glpat-wrong\r\n", "").0, 401, "{path}");
    }
    for (method, path) in [("POST", "/jobs/request"), ("PUT", "/jobs/1"), ("POST", "/runners/verify"), ("GET", "/jobs/1/artifacts")] {
        assert_eq!(call(&world.address, method, path, "", r#"{"token":"x","state":"success"}"#).0, 403, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_canceled_retried_and_played() {
    let world = World::new(
        "
slow:
  script: ['echo begun', 'while sleep 0.05; do echo tick; done']
  after_script: ['echo after $CI_JOB_STATUS']
by-hand: {script: 'echo played', when: manual}
",
    );
    let pipeline = world.create_pipeline();
    let runner = world.runner("", 2).await;
    world.until("output", || world.trace(1).contains("begun\n")).await;
    world.json("POST", "/projects/1/jobs/1/cancel", "");
    world.until("the end", || world.job(1)["status"] == "canceled").await;
    assert!(world.trace(1).contains("after canceled"), "{}", world.trace(1));
    assert_eq!(world.call("POST", "/projects/1/jobs/1/play", "").0, 400);

    let again = world.json("POST", "/projects/1/jobs/1/retry", "")["id"].as_u64().expect("a number");
    assert_eq!(again, 3);
    world.until("output", || world.trace(again).contains("begun\n")).await;
    world.json("POST", "/projects/1/jobs/2/play", "");
    world.until("the played job", || world.job(2)["status"] == "success").await;
    world.json("POST", &format!("/projects/1/pipelines/{pipeline}/cancel"), "");
    world.until_pipeline(pipeline, "canceled").await;
    let statuses: Vec<String> =
        world.jobs(pipeline).iter().map(|job| format!("{} {}", job["id"], job["status"].as_str().unwrap_or_default())).collect();
    assert_eq!(statuses, ["1 canceled", "2 success", "3 canceled"]);
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let mut world = World::new(
        "
stages: [one, two]
first:
  stage: one
  script: ['echo begun', 'for i in $(seq 1 60); do echo line $i; sleep 0.05; done']
second: {stage: two, script: 'echo second'}
",
    );
    let pipeline = world.create_pipeline();
    let runner = world.runner("", 1).await;
    world.until("output", || world.trace(1).contains("line 5\n")).await;
    let before = world.trace(1);
    world.kill_and_restart();
    assert!(world.trace(1).starts_with(&before), "the trace lost something");
    assert_eq!(world.job(1)["status"], "running");
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.kill_and_restart();
    world.until_pipeline(pipeline, "success").await;
    let trace = world.trace(1);
    let lines: Vec<&str> = trace.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=60).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expected);
    world.kill_and_restart();
    assert_eq!(world.jobs(pipeline).len(), 2);
    let again = world.json("POST", "/projects/1/jobs/2/retry", "")["id"].as_u64().expect("a number");
    world.until("the retried job", || world.job(again)["status"] == "success").await;
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_run_once_each_on_runners_that_may_have_them() {
    let mut config = String::new();
    for number in 0..40 {
        let tags = if number % 4 == 0 { ", tags: [special]" } else { "" };
        writeln!(config, "job-{number}: {{script: 'echo ran >> $MARKS/$CI_JOB_ID'{tags}}}").expect("writing to a string");
    }
    let world = World::new(&config);
    let marks = world.root.path().join("marks");
    std::fs::create_dir(&marks).expect("a directory");
    let body = format!(r#"{{"ref":"main","variables":[{{"key":"MARKS","value":"{}"}}]}}"#, marks.display());
    let pipeline = world.json("POST", "/projects/1/pipeline", &body)["id"].as_u64().expect("a number");
    let (plain, special) = (world.runner("", 4).await, world.runner("special", 2).await);
    world.until_pipeline(pipeline, "success").await;
    let jobs = world.jobs(pipeline);
    assert_eq!(jobs.len(), 40);
    for job in jobs {
        let mark = std::fs::read_to_string(marks.join(job["id"].to_string())).expect("the job ran");
        assert_eq!(mark, "ran\n", "{job}");
        let is_special = job["tag_list"][0] == "special";
        assert_eq!(job["runner"]["id"], if is_special { 2 } else { 1 }, "{job}");
    }
    plain.end().await;
    special.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_are_noticed() {
    let world = World::with_arguments("job: {script: 'true'}\n", &["--watch", "1"]);
    // The first look only takes note.
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.commit("job: {script: 'echo second'}\n");
    world.until("a pipeline", || world.json("GET", "/projects/1/pipelines", "").as_array().is_some_and(|list| list.len() == 1)).await;
    let pipeline = &world.json("GET", "/projects/1/pipelines", "")[0];
    assert_eq!((&pipeline["source"], &pipeline["ref"]), (&"push".into(), &"main".into()));
    world.commit("job: [broken\n");
    let (status, body) = world.call("POST", "/projects/1/pipeline?ref=main", "");
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_knows_the_queue_waits() {
    let world = World::new("job: {script: 'true'}\n");
    let runner = world.json("POST", "/user/runners", "{}");
    let ask = |last_update: &str| {
        let body = format!(r#"{{"token":{},"last_update":"{last_update}"}}"#, runner["token"]);
        let address = world.address.clone();
        std::thread::spawn(move || call(&address, "POST", "/jobs/request", "", &body).0)
    };
    for stale in ["", "1"] {
        assert_eq!(ask(stale).join().expect("an answer"), 204);
    }
    let known = world.queue_version(runner["token"].as_str().expect("a token"));
    let waiting = ask(&known);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "the request is held");
    world.create_pipeline();
    assert_eq!(waiting.join().expect("an answer"), 201);
}
