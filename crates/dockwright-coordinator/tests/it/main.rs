//! Whole runs with a runner made of paper: it does what a job's script says in words.

use std::{collections::HashMap, fmt::Write as _, fs, path::Path, process::Command};

use dockwright_coordinator::{
    Access, ChildIncludes, GivenVariable, IncludeOptions, JobEvent, PipelineRun, Project, RegistryFacts, RunDirectory, RunError,
    RunOptions, StartedRun, Tree, Trigger, Web, WebError, context,
};
use dockwright_job::{FailureReason, JobPayload, JobState, JobUpdate};
use dockwright_pipeline::{evaluate, has_errors, parse};
use expect_test::{Expect, expect};
use tempfile::TempDir;

#[derive(Debug)]
struct NoWeb;

impl Web for NoWeb {
    fn get(&self, _url: &str) -> Result<Vec<u8>, WebError> {
        Err(WebError::Status { code: 404, attempts: 1 })
    }
}

struct Fixture {
    directory: TempDir,
}

impl Fixture {
    /// Makes a repository with this configuration.
    fn new(configuration: &str) -> Self {
        let fixture = Self { directory: TempDir::new().expect("a temporary directory") };
        fs::create_dir(fixture.root()).expect("directory is made");
        fs::write(fixture.root().join(".gitlab-ci.yml"), configuration).expect("file is written");
        fs::write(fixture.root().join("Cargo.lock"), "locked").expect("file is written");
        fixture.git(&["init", "--quiet", "--initial-branch=main"]);
        fixture.git(&["remote", "add", "origin", "https://gitlab.example.com/Group/App.git"]);
        fixture.git(&["add", "--all"]);
        let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        fixture.git(&[&identity[..], &["commit", "--quiet", "--message", "First\n\nOf all"]].concat());
        fixture
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("app")
    }

    fn git(&self, arguments: &[&str]) {
        let status = Command::new("git").args(arguments).current_dir(self.root()).status().expect("git runs");
        assert!(status.success(), "git {arguments:?}");
    }

    fn start(&self) -> StartedRun {
        let directory = RunDirectory::create(&self.directory.path().join("state")).expect("directory is made");
        let project = Project::open(&self.root(), Tree::Working, &directory.sources()).expect("the project opens");
        let given = GivenVariable { key: "GIVEN".to_owned(), value: "$CI_COMMIT_BRANCH!".to_owned(), masked: true, file: false };
        let trigger = Trigger { variables: vec![given], ..Trigger::default() };
        let registry = Some(RegistryFacts { host: "registry:5000".to_owned() });
        let context = context(&project, &trigger, registry.as_ref());
        let parsed = parse(".gitlab-ci.yml", &project, &context);
        assert!(!has_errors(&parsed.problems), "{:?}", parsed.problems);
        let (pipeline, problems) = evaluate(&parsed.config, &context);
        assert!(!has_errors(&problems), "{problems:?}");
        let includes = ChildIncludes { options: IncludeOptions::default(), web: Box::new(NoWeb) };
        PipelineRun::start(RunOptions { project, pipeline, trigger, registry, directory, includes }).expect("the run starts")
    }
}

/// Takes jobs one after the other and does what their scripts say: `print TEXT`, `leave TYPE TEXT`, `receive`, `exit N`, `cancel`.
async fn runner(run: PipelineRun, scratch: std::path::PathBuf) -> Vec<JobPayload> {
    let mut payloads = Vec::new();
    while let Some(payload) = run.request_job().await {
        let access = Access { job: payload.id, token: payload.token.clone() };
        let mut trace = Vec::new();
        let mut exit_code = 0;
        for line in &payload.steps[0].script {
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            match verb {
                "print" => trace.extend(format!("{}\n", expand(rest, &payload)).bytes()),
                "leave" => {
                    let (artifact_type, text) = rest.split_once(' ').expect("a type and a text");
                    let error = leave(&run, &access, artifact_type, text, &scratch).await.err();
                    trace.extend(error.into_iter().flat_map(|error| format!("{error}\n").into_bytes()));
                }
                "receive" => trace.extend(receive(&run, &payload, &scratch).await.into_bytes()),
                "exit" => exit_code = rest.parse().expect("a number"),
                "cancel" => {
                    run.cancel();
                    run.signals(payload.id).cancel.cancelled().await;
                }
                other => panic!("unknown verb {other}"),
            }
        }
        run.append_trace(&access, 0, trace).await.expect("the trace is taken");
        let failed = exit_code != 0;
        let update = JobUpdate {
            token: payload.token.clone(),
            state: if failed { JobState::Failed } else { JobState::Success },
            failure_reason: failed.then_some(FailureReason::ScriptFailure),
            output: None,
            exit_code: failed.then_some(exit_code),
        };
        run.update_job(payload.id, update).await.expect("the update is taken");
        payloads.push(payload);
    }
    payloads
}

fn expand(text: &str, payload: &JobPayload) -> String {
    let variables: HashMap<&str, &str> =
        payload.variables.iter().map(|variable| (variable.key.as_str(), variable.value.as_str())).collect();
    text.split(' ')
        .map(|word| word.strip_prefix('$').map_or(word, |name| variables.get(name).copied().unwrap_or("")))
        .collect::<Vec<_>>()
        .join(" ")
}

async fn leave(run: &PipelineRun, access: &Access, artifact_type: &str, text: &str, scratch: &Path) -> Result<(), RunError> {
    use std::io::Write as _;
    let file = scratch.join("upload");
    let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&file).expect("file is made"), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("file is written");
    encoder.finish().expect("file is written");
    run.store_artifacts(access, artifact_type, "upload", &file).await
}

async fn receive(run: &PipelineRun, payload: &JobPayload, scratch: &Path) -> String {
    let mut text = String::new();
    for dependency in &payload.dependencies {
        run.open_artifacts(dependency, &scratch.join("download")).await.expect("the artifacts are there");
        writeln!(text, "from {} ({} bytes)", dependency.name, dependency.artifacts_file.size).expect("writing to a string");
    }
    text
}

/// Runs a pipeline with one runner and shows what happened.
async fn check(configuration: &str, expected: Expect) -> Vec<JobPayload> {
    let fixture = Fixture::new(configuration);
    let StartedRun { run, mut events, result } = fixture.start();
    let runner = tokio::spawn(runner(run, fixture.directory.path().to_owned()));
    let mut names = HashMap::new();
    let mut output = String::new();
    while let Some(event) = events.recv().await {
        let line = match event {
            JobEvent::Added { job, name, .. } => {
                names.insert(job, name.clone());
                format!("{job} is {name}")
            }
            JobEvent::Waiting { job, status } => format!("{} {}", status.as_str(), names[&job]),
            JobEvent::Started { job } => format!("start {}", names[&job]),
            JobEvent::Trace { bytes, .. } => format!("| {}", String::from_utf8_lossy(&bytes).trim_end().replace('\n', "\n| ")),
            JobEvent::Warning { job, message } => format!("warning about {}: {message}", names[&job]),
            JobEvent::Finished(outcome) => {
                let allowed = if outcome.allowed_to_fail { " (allowed)" } else { "" };
                let retried = outcome.retried_as.map(|id| format!(" again as {id}")).unwrap_or_default();
                format!("{} {}{allowed}{retried}", outcome.status.as_str(), outcome.name)
            }
            JobEvent::PipelineFinished { status } => format!("pipeline {}", status.as_str()),
        };
        writeln!(output, "{line}").expect("writing to a string");
    }
    let result = result.await.expect("the owner does not panic");
    writeln!(output, "result {} of {} jobs", result.status.as_str(), result.jobs.len()).expect("writing to a string");
    expected.assert_eq(&output);
    runner.await.expect("the runner does not panic")
}

#[tokio::test]
async fn artifacts_and_dotenv_reach_later_jobs() {
    check(
        r"
build:
  stage: build
  script: [leave archive zip, leave dotenv VERSION=1.2, leave junit x]
  artifacts: {paths: [dist], reports: {dotenv: build.env}}
lint: {stage: build, script: [print linted]}
test: {stage: test, script: [receive, print version $VERSION]}
apart: {stage: test, needs: [lint], script: [receive, print version $VERSION]}
without: {stage: test, dependencies: [], script: [receive]}
",
        expect![[r#"
            1 is build
            2 is lint
            3 is test
            4 is apart
            5 is without
            pending build
            pending lint
            start build
            | job 1 has no `junit` in its `artifacts`
            success build
            start lint
            | linted
            success lint
            pending test
            pending apart
            pending without
            start test
            | from build (23 bytes)
            | version 1.2
            success test
            start apart
            | version
            success apart
            start without
            success without
            pipeline success
            result success of 5 jobs
        "#]],
    )
    .await;
}

#[tokio::test]
async fn failures_retries_and_cancellation() {
    check(
        r"
flaky: {stage: build, script: [exit 3], retry: 1, allow_failure: {exit_codes: 3}}
fails: {stage: test, script: [exit 1]}
never: {stage: deploy, script: [print x]}
clean: {stage: deploy, script: [cancel], when: on_failure}
last: {stage: .post, script: [print x], when: always}
",
        expect![[r#"
            1 is flaky
            2 is fails
            3 is never
            4 is clean
            5 is last
            pending flaky
            start flaky
            failed flaky again as 6
            6 is flaky
            pending flaky
            start flaky
            failed flaky (allowed)
            pending fails
            start fails
            failed fails
            skipped never
            pending clean
            start clean
            canceled last
            canceled clean
            pipeline failed
            result failed of 6 jobs
        "#]],
    )
    .await;
}

#[tokio::test]
async fn payloads_hold_what_a_runner_needs() {
    let payloads = check(
        r#"
variables: {IMAGE: "$CI_REGISTRY_IMAGE:$CI_COMMIT_REF_SLUG", RAW: {value: $IMAGE, expand: false}, GIVEN: ignored}
job:
  image: {name: debian:12, entrypoint: ['']}
  services: [{name: "docker:dind", alias: docker}]
  before_script: [print before]
  script: [print $IMAGE $RAW $GIVEN $CI_ENVIRONMENT_URL]
  after_script: [print after]
  timeout: 5 minutes
  cache: {key: {files: [Cargo.lock, missing]}, paths: [target]}
  environment: {name: prod, url: "https://$CI_PROJECT_NAME"}
"#,
        expect![[r#"
            1 is job
            pending job
            start job
            | before
            | registry:5000/group/app:main $IMAGE main! https://App
            success job
            pipeline success
            result success of 1 jobs
        "#]],
    )
    .await;
    let payload = &payloads[0];
    assert_eq!(payload.runner_info.timeout, 300);
    assert_eq!(payload.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["script", "after_script"]);
    assert_eq!(payload.job_info.project_full_path, "Group/App");
    assert_eq!(payload.git_info.refspecs, ["+refs/heads/main:refs/remotes/origin/main"]);
    assert_eq!(payload.credentials[0].password, payload.token.expose());
    assert!(payload.cache[0].key.starts_with("0_Cargo_missing-"), "{}", payload.cache[0].key);
    let find = |key: &str| payload.variables.iter().rfind(|variable| variable.key == key).unwrap_or_else(|| panic!("{key} is missing"));
    let values = [
        ("CI_COMMIT_TITLE", "First"),
        ("CI_COMMIT_AUTHOR", "Ada <ada@example.com>"),
        ("CI_COMMIT_BRANCH", "main"),
        ("CI_PROJECT_PATH", "Group/App"),
        ("CI_PROJECT_ROOT_NAMESPACE", "Group"),
        ("CI_SERVER_URL", "https://gitlab.example.com"),
        ("CI_REGISTRY", "registry:5000"),
        ("CI_REGISTRY_IMAGE", "registry:5000/group/app"),
        ("CI_REGISTRY_USER", "gitlab-ci-token"),
        ("CI_ENVIRONMENT_TIER", "production"),
        ("CI_JOB_STAGE", "test"),
    ];
    for (key, value) in values {
        assert_eq!(find(key).value, value, "{key}");
    }
    for key in ["CI_JOB_TOKEN", "CI_REGISTRY_PASSWORD", "GIVEN"] {
        assert!(find(key).masked, "{key} is masked");
    }
}

#[tokio::test]
async fn reports_of_strangers_are_refused() {
    let fixture = Fixture::new("job: {script: [x]}\n");
    let StartedRun { run, mut events, result } = fixture.start();
    let drain = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let payload = run.request_job().await.expect("a job");
    let stranger = Access { job: payload.id, token: dockwright_job::JobToken::new("guessed") };
    assert!(matches!(run.append_trace(&stranger, 0, b"x".to_vec()).await, Err(RunError::Denied { .. })));
    let access = Access { token: payload.token.clone(), ..stranger };
    run.append_trace(&access, 0, b"one".to_vec()).await.expect("the trace is taken");
    run.append_trace(&access, 1, b"ne two".to_vec()).await.expect("the trace is taken");
    assert!(matches!(run.append_trace(&access, 9, b"x".to_vec()).await, Err(RunError::TraceGap { stored: 7, .. })));
    assert_eq!(fs::read_to_string(run.trace_path(payload.id)).expect("the trace is kept"), "one two");
    let refused = run.store_artifacts(&access, "archive", "a.zip", &fixture.root().join("Cargo.lock")).await;
    assert!(matches!(refused, Err(RunError::UnexpectedArtifact { .. })));
    run.abort();
    run.signals(payload.id).abort.cancelled().await;
    drop(run);
    assert_eq!(result.await.expect("the owner does not panic").status.as_str(), "canceled");
    drain.await.expect("the events end");
}
