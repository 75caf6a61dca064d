//! Jobs of a coordinator behind HTTP, one that misbehaves among them.

use std::{fs, num::NonZeroUsize, sync::Arc, time::Duration};

use dockwright_job::{
    Artifact, ArtifactFormat, Dependency, DependencyFile, JobId, JobPayload, JobToken, Registration, RunnerToken, Variable,
};
use dockwright_runner::{
    FixedEndpoint, Runner,
    api::{ApiError, Client, ExecutorKind, HttpCoordinator, RunnerIdentity, ServerSettings, details},
};
use expect_test::expect;
use http::Method;
use tokio_util::sync::CancellationToken;

use crate::{
    fake_server::{FakeServer, Fault, TOKEN},
    faults::assert_documented,
    support::{Place, step, variable},
};

/// Runs jobs from a server until it is stopped.
pub(crate) struct Worker {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Worker {
    pub(crate) fn start(place: &Place, server: &FakeServer) -> Self {
        Self::start_with(place, server, |_| {})
    }

    fn start_with(place: &Place, server: &FakeServer, change: impl FnOnce(&mut RunnerIdentity)) -> Self {
        let settings = ServerSettings { report_timeout: Some(Duration::from_millis(500)), ..ServerSettings::new(server.url()) };
        Self::start_as(place, settings, |identity| {
            identity.check_interval = Duration::from_millis(50);
            identity.trace_interval = Duration::from_millis(30);
            change(identity);
        })
    }

    /// Times as GitLab Runner's, but for what `change` changes.
    pub(crate) fn start_as(place: &Place, settings: ServerSettings, change: impl FnOnce(&mut RunnerIdentity)) -> Self {
        let mut config = place.config();
        config.shell.with_engine = false;
        let client = Arc::new(Client::new(settings).expect("a client"));
        let spool = place.root.path().join("spool");
        let mut identity = RunnerIdentity::new(RunnerToken::new(TOKEN), "s_0123456789ab", details(Some(ExecutorKind::Shell)), spool);
        change(&mut identity);
        let runner = Runner {
            coordinator: Arc::new(HttpCoordinator::new(client, identity)),
            engines: Arc::new(FixedEndpoint::new("unix:///nonexistent.sock")),
            config: Arc::new(config),
            events: None,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { runner.run_jobs(NonZeroUsize::MIN, stopped).await.expect("the runner runs") });
        Self { stop, task }
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("the runner ends");
    }
}

/// What the job of most tests prints is known to the byte.
pub(crate) const SCRIPT: [&str; 2] = ["for i in $(seq 1 40); do echo \"line $i\"; sleep 0.01; done", "echo the end"];

pub(crate) fn assert_whole(server: &FakeServer, id: u64) {
    let trace = server.job(id, |job| String::from_utf8_lossy(&job.trace).into_owned());
    let lines: Vec<&str> = trace.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=40).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expected, "the trace has a gap or a repetition:\n{trace}\n{}", server.log());
    assert_eq!(trace.matches("Running with dockwright").count(), 1, "{trace}");
    assert!(trace.ends_with("Job succeeded\x1b[0;m\n"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_conversation() {
    let place = Place::new(&[]);
    let server = FakeServer::start([place.payload(1, &["true"])]).await;
    let worker = Worker::start_with(&place, &server, |identity| identity.trace_interval = Duration::from_secs(10));
    server.until_ended(1).await;
    worker.end().await;
    let log = server.log();
    let conversation: Vec<&str> = log.lines().take(4).collect();
    assert_eq!(conversation, ["POST jobs/request 201", "PUT update running 200", "PATCH trace range 202", "PUT update success 200"]);
    let last = server.job(1, |job| job.updates.last().cloned()).expect("an update");
    assert_eq!(last["checksum"], last["output"]["checksum"]);
    assert_eq!(last["info"]["features"]["two_phase_job_commit"], true);
    let headers = &server.state().headers;
    assert!(headers.iter().all(|headers| headers.contains_key("x-request-id")), "every request has an id");
    assert!(headers[0]["user-agent"].to_str().expect("text").starts_with("gitlab-runner 19."), "{:?}", headers[0]);
    assert_eq!(headers[0]["runner-token"], TOKEN);
    assert_eq!(headers[1]["job-token"], "job-token-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_survives_every_fault_of_the_trace() {
    let faults = [
        Fault::Answer(500, vec![]),
        Fault::Answer(502, vec![]),
        Fault::Answer(429, vec![("retry-after", "0".to_owned())]),
        Fault::Answer(404, vec![]),
        Fault::Answer(412, vec![]),
        Fault::Reset,
        Fault::ResetDuringBody,
        Fault::LoseAnswer,
        Fault::Hang,
        Fault::Forget(100),
        Fault::Forget(0),
    ];
    let runs = faults.map(|fault| async move {
        let place = Place::new(&[]);
        let server = FakeServer::start([place.payload(1, &SCRIPT)]).await;
        // The first piece goes well.
        server.plan(Method::PATCH, "trace", 1, Fault::Add(vec![]));
        server.plan(Method::PATCH, "trace", 2, fault.clone());
        let worker = Worker::start(&place, &server);
        server.until_ended(1).await;
        worker.end().await;
        assert!(server.state().is_through(), "{fault:?} did not happen: {}", server.log());
        assert_whole(&server, 1);
        assert_eq!(server.job(1, |job| job.state.clone()).as_deref(), Some("success"));
        assert_documented("the_trace_survives_every_fault_of_the_trace", &server, 1);
    });
    futures_util::future::join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_survives_every_fault_of_the_update() {
    let faults = [
        Fault::Answer(500, vec![]),
        Fault::Answer(503, vec![("retry-after", "1".to_owned())]),
        Fault::Answer(202, vec![]),
        Fault::Answer(412, vec![]),
        Fault::Reset,
        Fault::LoseAnswer,
        Fault::Hang,
        Fault::Forget(7),
    ];
    let runs = faults.map(|fault| async move {
        let place = Place::new(&[]);
        let server = FakeServer::start([place.payload(1, &SCRIPT)]).await;
        // The first update is the acknowledgement.
        server.plan(Method::PUT, "update", 1, Fault::Add(vec![]));
        server.plan(Method::PUT, "update", 1, fault.clone());
        let worker = Worker::start(&place, &server);
        server.until("the fault", |state| state.is_through()).await;
        server.until_ended(1).await;
        worker.end().await;
        assert_whole(&server, 1);
        assert_documented("the_end_survives_every_fault_of_the_update", &server, 1);
    });
    futures_util::future::join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_a_while_gets_everything() {
    let place = Place::new(&[]);
    let mut server = FakeServer::start([place.payload(1, &SCRIPT), place.payload(2, &["true"])]).await;
    let worker = Worker::start(&place, &server);
    server.until("output", |state| state.trace(1).len() > 200).await;
    server.disappear();
    tokio::time::sleep(Duration::from_millis(800)).await;
    server.come_back().await;
    server.until_ended(1).await;
    server.until_ended(2).await;
    worker.end().await;
    assert_whole(&server, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn canceling_lets_after_script_run_and_canceled_does_not() {
    for (status, runs_after_script) in [("canceling", true), ("canceled", false)] {
        let place = Place::new(&[]);
        let mut payload = place.payload(1, &["echo started", "while sleep 0.02; do echo tick; done"]);
        payload.steps.push(step("after_script", &["echo \"after: $CI_JOB_STATUS\" > \"$MARK\""]));
        let mark = place.root.path().join("mark");
        payload.variables.push(variable("MARK", &mark.display().to_string()));
        let server = FakeServer::start([payload, place.payload(2, &["true"])]).await;
        let worker = Worker::start(&place, &server);
        server.until("output", |state| String::from_utf8_lossy(state.trace(1)).contains("\nstarted")).await;
        server.plan(Method::PATCH, "trace", 1, Fault::Add(vec![("job-status", status.to_owned())]));
        server.until_ended(2).await;
        worker.end().await;
        assert_eq!(mark.exists(), runs_after_script, "{status}: {}", server.log());
        // What was canceled at once has its state already.
        assert_eq!(server.job(1, |job| job.state.is_some()), runs_after_script, "{}", server.log());
        if runs_after_script {
            assert_documented("canceling_lets_after_script_run_and_canceled_does_not", &server, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_given_to_somebody_else_does_not_run() {
    for status in [403, 404, 409] {
        let place = Place::new(&[]);
        let mark = place.root.path().join("mark");
        let script = format!("touch {}", mark.display());
        let server = FakeServer::start([place.payload(1, &[&script]), place.payload(2, &["true"])]).await;
        server.plan(Method::PUT, "update", 1, Fault::Answer(status, vec![]));
        let worker = Worker::start(&place, &server);
        server.until_ended(2).await;
        worker.end().await;
        assert!(!mark.exists(), "{status}");
        assert_eq!(server.job(1, |job| job.trace.len()), 0);
        assert_documented("a_job_that_was_given_to_somebody_else_does_not_run", &server, 1);
    }
}

pub(crate) fn with_artifacts(place: &Place) -> JobPayload {
    let mut payload = place.payload(1, &["printf content > file"]);
    payload.artifacts = vec![Artifact {
        name: "out".to_owned(),
        paths: vec!["file".to_owned()],
        artifact_type: "archive".to_owned(),
        artifact_format: ArtifactFormat::Zip,
        expire_in: "1 week".to_owned(),
        ..Artifact::default()
    }];
    payload
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_is_sent_again() {
    for fault in [Fault::ResetDuringBody, Fault::Reset, Fault::Answer(500, vec![]), Fault::Answer(503, vec![])] {
        let place = Place::new(&[]);
        let server = FakeServer::start([with_artifacts(&place)]).await;
        server.plan(Method::POST, "artifacts", 1, fault);
        let worker = Worker::start(&place, &server);
        server.until_ended(1).await;
        worker.end().await;
        assert_eq!(server.job(1, |job| job.state.clone()).as_deref(), Some("success"), "{}", server.log());
        let (query, body) = server.job(1, |job| job.uploads[0].clone());
        assert_eq!(query, "expire_in=1+week&artifact_format=zip&artifact_type=archive");
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("name=\"file\"; filename=\"out.zip\""), "{text}");
        assert!(body.windows(4).any(|window| window == b"PK\x03\x04"), "the form holds an archive");
        assert_documented("an_upload_that_breaks_off_is_sent_again", &server, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_too_large_fails_the_job() {
    let place = Place::new(&[]);
    let server = FakeServer::start([with_artifacts(&place)]).await;
    server.plan(Method::POST, "artifacts", 1, Fault::Answer(413, vec![]));
    let worker = Worker::start(&place, &server);
    server.until_ended(1).await;
    worker.end().await;
    let last = server.job(1, |job| job.updates.last().cloned()).expect("an update");
    assert_eq!((&last["state"], &last["failure_reason"]), (&"failed".into(), &"runner_system_failure".into()));
    let trace = server.job(1, |job| String::from_utf8_lossy(&job.trace).into_owned());
    assert!(trace.contains("413 Payload Too Large (as planned)"), "{trace}");
    assert_documented("an_upload_that_is_too_large_fails_the_job", &server, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_of_earlier_jobs_come_from_the_server_or_from_where_it_says() {
    let place = Place::new(&[]);
    let archive = {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        writer.start_file("from-earlier", zip::write::SimpleFileOptions::default()).expect("an entry");
        std::io::Write::write_all(&mut writer, b"earlier").expect("content");
        writer.finish().expect("an archive").into_inner()
    };
    let elsewhere = FakeServer::start([]).await;
    elsewhere.serve_artifacts(&archive);
    let mut first = place.payload(1, &["true"]);
    first.token = JobToken::new("token-of-dependency");
    let mut second = place.payload(2, &["cat from-earlier"]);
    second.dependencies = vec![Dependency {
        id: JobId(1),
        token: JobToken::new("token-of-dependency"),
        name: "earlier".to_owned(),
        artifacts_file: DependencyFile { filename: "artifacts.zip".to_owned(), size: 1 },
    }];
    let server = FakeServer::start([first, second]).await;
    server.serve_artifacts(&archive);
    let location = format!("{}api/v4/storage?signature=x", elsewhere.url());
    server.plan(Method::GET, "artifacts", 1, Fault::Answer(302, vec![("location", location)]));
    elsewhere.plan(Method::GET, "storage", 1, Fault::Answer(500, vec![]));
    let worker = Worker::start(&place, &server);
    server.until_ended(2).await;
    worker.end().await;
    let trace = server.job(2, |job| String::from_utf8_lossy(&job.trace).into_owned());
    assert!(trace.contains("\nearlier"), "{trace}");
    assert!(elsewhere.state().headers.iter().all(|headers| !headers.contains_key("job-token")), "the token stays at its server");
    assert!(elsewhere.log().contains("GET storage"), "{}", elsewhere.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_server_only_where_they_belong() {
    let place = Place::new(&[]);
    let mut payload = place.payload(1, &["echo \"$PASSWORD and $CI_JOB_TOKEN\""]);
    payload.variables = vec![
        Variable { masked: true, ..variable("PASSWORD", "tulip-bulb-9") },
        Variable { masked: true, ..variable("CI_JOB_TOKEN", "job-token-1") },
    ];
    let server = FakeServer::start([payload]).await;
    server.plan(Method::PATCH, "trace", 2, Fault::LoseAnswer);
    let worker = Worker::start(&place, &server);
    server.until_ended(1).await;
    worker.end().await;
    let trace = server.job(1, |job| String::from_utf8_lossy(&job.trace).into_owned());
    assert!(trace.contains("[MASKED] and [MASKED]"), "{trace}");
    for secret in ["tulip-bulb-9", "job-token-1", TOKEN] {
        assert!(!trace.contains(secret), "{trace}");
    }
    let left: Vec<_> = fs::read_dir(place.root.path().join("spool")).expect("a directory").flatten().map(|file| file.path()).collect();
    assert!(left.is_empty(), "{left:?} are left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_are_managed() {
    let server = FakeServer::start([]).await;
    let client = Client::new(ServerSettings::new(server.url())).expect("a client");
    let info = details(None);
    let registered = client.register(&Registration { token: RunnerToken::new("GR1348941secret"), ..Registration::default() }).await;
    assert_eq!(registered.map(|runner| (runner.id, runner.token.expose().to_owned())).ok(), Some((7, "glrtr-new".to_owned())));
    let verified = client.verify(&RunnerToken::new(TOKEN), "s_0123456789ab", &info).await.expect("it is valid");
    assert_eq!((verified.id, verified.token_expires_at.as_deref()), (7, Some("2026-12-01T00:00:00.000Z")));
    let old = client.verify(&RunnerToken::new("old-server"), "s_0123456789ab", &info).await.expect("it is valid");
    assert_eq!((old.id, old.token.expose()), (0, "old-server"));
    client.unregister(&RunnerToken::new(TOKEN)).await.expect("it goes");
    client.unregister_manager(&RunnerToken::new(TOKEN), "s_0123456789ab").await.expect("it goes");
    let reset = client.reset_token(&RunnerToken::new(TOKEN)).await.expect("a new token");
    assert_eq!(reset.token.expose(), "glrt-reset");
    client.reset_token_of(7, "glpat-right").await.expect("a new token");
    let refused = client.verify(&RunnerToken::new("wrong-secret"), "s_0123456789ab", &info).await.expect_err("it is wrong");
    assert!(refused.is_forbidden());
    expect![[r#"
        POST runners 201
        POST runners/verify 200
        POST runners/verify 200
        DELETE runners 204
        DELETE runners/managers 204
        POST runners/reset_authentication_token 201
        POST runners/7/reset_authentication_token 201
        POST runners/verify 403
    "#]]
    .assert_eq(&server.log());
    let text = format!("{refused} {refused:?}");
    assert!(!text.contains("wrong-secret"), "{text}");
    assert!(text.contains("403 Forbidden (403 Forbidden: [redacted] is not known)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_not_wanted_leaves_the_server_alone() {
    let place = Place::new(&[]);
    let server = FakeServer::start([]).await;
    let worker = Worker::start_with(&place, &server, |identity| identity.token = RunnerToken::new("glrt-unknown"));
    server.until("three refusals", |state| state.log.len() >= 3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    worker.end().await;
    assert_eq!(server.log(), "POST jobs/request 403\n".repeat(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queues_state_is_sent_back() {
    let place = Place::new(&[]);
    let server = FakeServer::start([]).await;
    let worker = Worker::start(&place, &server);
    server.until("two requests", |state| state.bodies.len() >= 2).await;
    worker.end().await;
    let bodies = server.state().bodies.clone();
    assert_eq!((&bodies[0]["last_update"], &bodies[1]["last_update"]), (&serde_json::Value::Null, &"q1".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_json_is_a_failure_of_the_protocol() {
    let server = FakeServer::start([]).await;
    server.plan(Method::POST, "runners", 1, Fault::Answer(201, vec![("content-type", "text/html".to_owned())]));
    let client = Client::new(ServerSettings::new(server.url())).expect("a client");
    let error = client.register(&Registration { token: RunnerToken::new("t"), ..Registration::default() }).await.expect_err("no JSON");
    assert!(matches!(error, ApiError::Protocol { .. }), "{error:?}");
}
