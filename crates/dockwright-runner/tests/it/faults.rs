//! Faults of the coordinator and of the way to it: each row of `docs/reference/faults.md` that a job sees from inside. Long times pass on
//! tokio's clock, which is put forward while nothing else is to do.

use std::{fs, time::Duration};

use dockwright_job::{JobPayload, Variable};
use dockwright_runner::api::ServerSettings;
use dockwright_testing::documented_fault;
use http::Method;

use crate::{
    fake_server::{FakeServer, Fault, TOKEN},
    http::{SCRIPT, Worker, assert_whole, with_artifacts},
    support::{Place, step, variable},
};

const ABSENCE: Duration = Duration::from_secs(600);
const SECRET: &str = "tulip-bulb-9";

/// A runner with the times of an ordinary one.
fn worker(place: &Place, server: &FakeServer) -> Worker {
    Worker::start_as(place, ServerSettings::new(server.url()), |_| {})
}

/// A job that has a secret and prints it, and may outlive an absence.
fn with_secret(mut payload: JobPayload) -> JobPayload {
    payload.runner_info.timeout = 7200;
    payload.variables.push(Variable { masked: true, ..variable("PASSWORD", SECRET) });
    payload.steps[0].script.push("echo \"secret: $PASSWORD\"".to_owned());
    payload
}

/// What the server knows of a job is what the table says of the test's fault.
#[track_caller]
pub(crate) fn assert_documented(test: &str, server: &FakeServer, id: u64) {
    let (state, last) = server.job(id, |job| (job.state.clone(), job.updates.last().cloned().unwrap_or_default()));
    let reason = last["failure_reason"].as_str().filter(|_| state.is_some()).unwrap_or_default();
    let found = (state.as_deref().unwrap_or("as the coordinator says"), reason);
    let row = documented_fault(test);
    assert_eq!((row.ends.as_str(), row.failure_reason.as_str()), found, "{test}:\n{}", server.log());
    let trace = String::from_utf8_lossy(server.state().trace(id)).into_owned();
    for secret in [SECRET, TOKEN, &format!("job-token-{id}")] {
        assert!(!trace.contains(secret), "{test}: {trace}");
    }
}

/// Nobody listens for ten minutes; whatever the runner does meanwhile, it does.
async fn away(server: &mut FakeServer) {
    server.disappear();
    tokio::time::pause();
    tokio::time::sleep(ABSENCE).await;
    server.come_back().await;
    // The runner may be in its longest pause.
    tokio::time::sleep(ABSENCE).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_server_is_away_while_nothing_is_to_do() {
    let place = Place::new(&[]);
    let mut server = FakeServer::start([]).await;
    let worker = worker(&place, &server);
    server.until("a request", |state| !state.log.is_empty()).await;
    server.queue(with_secret(place.payload(1, &SCRIPT)));
    away(&mut server).await;
    server.until_ended(1).await;
    worker.end().await;
    assert_whole(&server, 1);
    assert_documented("a_server_is_away_while_nothing_is_to_do", &server, 1);
}

#[tokio::test]
async fn a_server_is_away_while_a_job_runs() {
    let place = Place::new(&[]);
    let mut server = FakeServer::start([with_secret(place.payload(1, &SCRIPT))]).await;
    let worker = worker(&place, &server);
    server.until("output", |state| !state.trace(1).is_empty()).await;
    away(&mut server).await;
    server.until_ended(1).await;
    worker.end().await;
    assert_whole(&server, 1);
    assert_documented("a_server_is_away_while_a_job_runs", &server, 1);
}

#[tokio::test]
async fn a_server_is_away_at_the_end_of_a_job() {
    let place = Place::new(&[]);
    let mut server = FakeServer::start([with_secret(place.payload(1, &SCRIPT))]).await;
    server.plan(Method::PUT, "update", 1, Fault::Add(vec![]));
    server.plan(Method::PUT, "update", 1, Fault::Reset);
    let worker = worker(&place, &server);
    server.until("a report of the end", |state| state.is_through()).await;
    away(&mut server).await;
    server.until_ended(1).await;
    worker.end().await;
    assert_whole(&server, 1);
    assert_documented("a_server_is_away_at_the_end_of_a_job", &server, 1);
}

#[tokio::test]
async fn a_server_is_away_during_an_upload() {
    let place = Place::new(&[]);
    let mut server = FakeServer::start([with_secret(with_artifacts(&place))]).await;
    server.plan(Method::POST, "artifacts", 1, Fault::ResetDuringBody);
    let worker = worker(&place, &server);
    server.until("an upload", |state| state.is_through()).await;
    away(&mut server).await;
    server.until_ended(1).await;
    worker.end().await;
    assert_eq!(server.job(1, |job| job.uploads.len()), 1, "{}", server.log());
    assert_documented("a_server_is_away_during_an_upload", &server, 1);
}

#[tokio::test]
async fn a_request_for_a_job_meets_every_fault() {
    for fault in [
        Fault::Answer(500, vec![]),
        Fault::Answer(502, vec![]),
        Fault::Answer(503, vec![("retry-after", "7".to_owned())]),
        Fault::Answer(429, vec![("retry-after", "60".to_owned())]),
        Fault::Reset,
        Fault::Hang,
    ] {
        let place = Place::new(&[]);
        let server = FakeServer::start([with_secret(place.payload(1, &SCRIPT))]).await;
        // More often than one request is repeated.
        server.plan(Method::POST, "jobs/request", 7, fault);
        tokio::time::pause();
        let worker = worker(&place, &server);
        while !server.state().is_through() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // The longest pause and the longest wait for an answer.
        tokio::time::sleep(Duration::from_secs(700)).await;
        tokio::time::resume();
        server.until_ended(1).await;
        worker.end().await;
        assert_whole(&server, 1);
        assert_documented("a_request_for_a_job_meets_every_fault", &server, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_hand_over_is_lost_does_not_run() {
    let place = Place::new(&[]);
    let mark = place.root.path().join("mark");
    let server = FakeServer::start([place.payload(1, &[&format!("touch {}", mark.display())]), place.payload(2, &["true"])]).await;
    server.plan(Method::POST, "jobs/request", 1, Fault::LoseAnswer);
    let worker = Worker::start(&place, &server);
    server.until_ended(2).await;
    worker.end().await;
    assert!(!mark.exists(), "{}", server.log());
    assert!(server.job(1, |job| job.updates.is_empty()), "nothing confirms it, so the server gives it to the next who asks");
    assert_documented("a_job_whose_hand_over_is_lost_does_not_run", &server, 1);
}

/// What happened to a job at the server while nobody could reach it.
type Change = fn(&FakeServer);

#[tokio::test]
async fn a_server_comes_back_with_another_state() {
    let changes: [Change; 4] =
        [|server| server.close(1, "canceled"), |server| server.close(1, "failed"), |server| server.forget(1), |server| server.give_away(1)];
    for (number, change) in changes.into_iter().enumerate() {
        let place = Place::new(&[]);
        let pid = place.root.path().join("pid");
        let after = place.root.path().join("after");
        let mut payload = place.payload(1, &[&format!("echo $$ > {}", pid.display()), "while sleep 0.05; do echo tick; done"]);
        payload.runner_info.timeout = 100_000;
        payload.steps.push(step("after_script", &[&format!("touch {}", after.display())]));
        let mut server = FakeServer::start([payload, place.payload(2, &["true"])]).await;
        let worker = worker(&place, &server);
        server.until("output", |state| String::from_utf8_lossy(state.trace(1)).contains("tick")).await;
        server.disappear();
        tokio::time::pause();
        tokio::time::sleep(ABSENCE).await;
        change(&server);
        server.come_back().await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        tokio::time::resume();
        // The one slot is free for the next job.
        server.until_ended(2).await;
        worker.end().await;
        let pid = fs::read_to_string(&pid).expect("the script ran");
        assert!(!fs::exists(format!("/proc/{}", pid.trim())).expect("/proc"), "change {number}: the script still runs");
        assert!(!after.exists(), "change {number}: after_script ran");
        let known = server.state().knows(1);
        assert!(!known || server.job(1, |job| job.state.is_none()), "change {number}: {}", server.log());
        let row = documented_fault("a_server_comes_back_with_another_state");
        assert_eq!((row.ends.as_str(), row.failure_reason.as_str()), ("as the coordinator says", ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_upload_ends_when_the_job_is_canceled() {
    let place = Place::new(&[]);
    let mut payload = with_artifacts(&place);
    payload.steps[0].script.push("echo noise".to_owned());
    let server = FakeServer::start([payload, place.payload(2, &["true"])]).await;
    server.plan(Method::POST, "artifacts", 1, Fault::Hang);
    let worker = Worker::start(&place, &server);
    server.until("an upload", |state| state.is_through()).await;
    // Nothing is left to print, so the sign of life tells it.
    server.plan(Method::PATCH, "trace", 1, Fault::Add(vec![("job-status", "canceled".to_owned())]));
    server.until_ended(2).await;
    worker.end().await;
    assert_documented("a_hanging_upload_ends_when_the_job_is_canceled", &server, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_never_succeeds() {
    let place = Place::new(&[]);
    let server = FakeServer::start([with_secret(with_artifacts(&place))]).await;
    server.plan(Method::POST, "artifacts", 3, Fault::ResetDuringBody);
    let worker = Worker::start(&place, &server);
    server.until_ended(1).await;
    worker.end().await;
    let trace = String::from_utf8_lossy(server.state().trace(1)).into_owned();
    assert!(trace.contains("ERROR: Job failed (system failure): reach the coordinator: "), "{trace}");
    assert_documented("an_upload_that_never_succeeds", &server, 1);
}
