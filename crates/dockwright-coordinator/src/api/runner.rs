//! The runner API, the server's side.

use std::time::Duration;

use dockwright_job::{
    FailureReason, JobId, JobPayload, JobRequest, JobState, RegisteredRunner, Registration, RunnerCredentials, TraceChecksum,
};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    Api, header_text, multipart, personal_token,
    respond::{self, Failure, Response, body, json, json_body},
};
use crate::server::{ArtifactRecord, JobUpdateRequest, Server, ServerError, Standing, expires_at};

/// How long a request for a job is held.
const HOLD: Duration = Duration::from_secs(50);
/// Runners send less at once.
const TRACE_PIECE_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Pause that runners make between two pieces of a trace.
const TRACE_INTERVAL_SECS: &str = "3";

impl Api {
    pub(super) async fn runner(&self, parts: &[&str], request: Request<Incoming>) -> Result<Response, Failure> {
        match (request.method(), parts) {
            (&Method::POST, ["runners"]) => self.register(request).await,
            (&Method::POST, ["runners", "verify"]) => self.verify(request).await,
            (&Method::POST, ["runners", "reset_authentication_token"]) => self.reset_token(request).await,
            (&Method::POST, ["runners", id, "reset_authentication_token"]) => self.reset_token_of(id, &request).await,
            (&Method::DELETE, ["runners"]) => self.unregister(request, true).await,
            (&Method::DELETE, ["runners", "managers"]) => self.unregister(request, false).await,
            (&Method::POST, ["jobs", "request"]) => self.request_job(request).await,
            (method, ["jobs", id, rest @ ..]) => {
                let id = JobId(id.parse().map_err(|_| Failure::plain(StatusCode::NOT_FOUND))?);
                match (method, rest) {
                    (&Method::PUT, []) => self.update_job(id, request).await,
                    (&Method::PATCH, ["trace"]) => self.append_trace(id, request).await,
                    (&Method::POST, ["artifacts"]) => self.upload(id, request).await,
                    (&Method::GET, ["artifacts"]) => self.download(id, &request).await,
                    _ => Err(Failure::plain(StatusCode::NOT_FOUND)),
                }
            }
            _ => Err(Failure::plain(StatusCode::NOT_FOUND)),
        }
    }

    async fn register(&self, request: Request<Incoming>) -> Result<Response, Failure> {
        let registration: Registration = json_body(request).await?;
        let runner = self.blocking(move |server| server.register(&registration)).await?;
        Ok(json(StatusCode::CREATED, &runner))
    }

    async fn verify(&self, request: Request<Incoming>) -> Result<Response, Failure> {
        let credentials: RunnerCredentials = json_body(request).await?;
        let token = credentials.token.clone();
        let runner = self.blocking(move |server| server.runner(token.expose())).await?;
        Ok(json(StatusCode::OK, &RegisteredRunner { id: runner.id, token: credentials.token, token_expires_at: None }))
    }

    async fn reset_token(&self, request: Request<Incoming>) -> Result<Response, Failure> {
        let credentials: RunnerCredentials = json_body(request).await?;
        let reset = self.blocking(move |server| {
            let runner = server.runner(credentials.token.expose())?;
            server.reset_runner_token(runner.id)
        });
        Ok(json(StatusCode::CREATED, &reset.await?))
    }

    async fn reset_token_of(&self, id: &str, request: &Request<Incoming>) -> Result<Response, Failure> {
        if !self.server.is_personal_token(personal_token(request.headers())) {
            return Err(Failure::plain(StatusCode::UNAUTHORIZED));
        }
        let id = id.parse().map_err(|_| Failure::plain(StatusCode::NOT_FOUND))?;
        Ok(json(StatusCode::CREATED, &self.blocking(move |server| server.reset_runner_token(id)).await?))
    }

    /// A machine that leaves does not take the runner with it.
    async fn unregister(&self, request: Request<Incoming>, with_runner: bool) -> Result<Response, Failure> {
        let credentials: RunnerCredentials = json_body(request).await?;
        let removed = self.blocking(move |server| {
            let runner = server.runner(credentials.token.expose())?;
            if with_runner { server.delete_runner(runner.id) } else { Ok(()) }
        });
        removed.await?;
        Ok(respond::empty(StatusCode::NO_CONTENT))
    }

    /// Gives a job, or waits for one when the runner knows the queue as it is; one that does not, or does not want to wait, gets its
    /// answer at once, as from GitLab. The queue's version is read before the queue, so that what changes in between is noticed.
    async fn request_job(&self, request: Request<Incoming>) -> Result<Response, Failure> {
        let asked: JobRequest = json_body(request).await?;
        let mut queue = self.server.watch_queue();
        let deadline = tokio::time::Instant::now() + HOLD;
        let may_hold = asked.last_update.as_deref() == Some(queue.borrow().to_string().as_str());
        loop {
            let version = *queue.borrow_and_update();
            let asked = asked.clone();
            let job = self.blocking(move |server| take_job(server, &asked)).await?;
            let answered = match job {
                Some(job) => json(StatusCode::CREATED, &job),
                None => {
                    let is_over = !may_hold
                        || tokio::select! {
                            changed = queue.changed() => changed.is_err(),
                            () = tokio::time::sleep_until(deadline) => true,
                            () = self.stop.cancelled() => true,
                        };
                    if !is_over {
                        continue;
                    }
                    respond::empty(StatusCode::NO_CONTENT)
                }
            };
            let mut answered = answered;
            respond::set(&mut answered, "x-gitlab-last-update", &version.to_string());
            return Ok(answered);
        }
    }

    async fn update_job(&self, id: JobId, request: Request<Incoming>) -> Result<Response, Failure> {
        let header_token = header_text(request.headers(), "job-token").to_owned();
        let body: Value = json_body(request).await?;
        let token = body["token"].as_str().map_or(header_token, str::to_owned);
        let update = read_update(&body)?;
        let standing = self.blocking(move |server| server.update_job(id, &token, &update)).await?;
        let mut response = json(StatusCode::OK, &true);
        tell_standing(&mut response, standing);
        Ok(response)
    }

    async fn append_trace(&self, id: JobId, request: Request<Incoming>) -> Result<Response, Failure> {
        let token = header_text(request.headers(), "job-token").to_owned();
        let range = header_text(request.headers(), "content-range");
        let offset = range.split('-').next().and_then(|start| start.trim().parse().ok());
        let offset: u64 = offset.ok_or_else(|| Failure::bad_request("400 Missing header Content-Range"))?;
        let piece = body(request, TRACE_PIECE_MAX_BYTES).await?;
        let (length, standing) = self.blocking(move |server| server.append_trace(id, &token, offset, &piece)).await?;
        let mut response = respond::empty(StatusCode::ACCEPTED);
        respond::set(&mut response, "range", &format!("0-{length}"));
        tell_standing(&mut response, standing);
        Ok(response)
    }

    async fn upload(&self, id: JobId, request: Request<Incoming>) -> Result<Response, Failure> {
        let token = header_text(request.headers(), "job-token").to_owned();
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
        let find = |key: &str| query.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
        let boundary = multipart::boundary(header_text(request.headers(), "content-type"));
        let boundary = boundary.ok_or_else(|| Failure::bad_request("a multipart form is expected"))?;
        let expires_at = expires_at(&find("expire_in").unwrap_or_default(), Timestamp::now())?;
        let (job, file) = self
            .blocking(move |server| {
                let (job, _) = server.running_job(id, &token)?;
                Ok((job, server.upload_file(id)?))
            })
            .await?;
        let received = multipart::receive(request.into_body(), &boundary, &file).await;
        let stored = match received {
            Ok(received) => {
                let artifact = ArtifactRecord {
                    expires_at,
                    is_erased: false,
                    kind: find("artifact_type").unwrap_or_else(|| "archive".to_owned()),
                    format: find("artifact_format").unwrap_or_else(|| "zip".to_owned()),
                    filename: received.filename,
                    size: received.size,
                };
                let file = file.clone();
                self.blocking(move |server| server.store_artifact(&job, &file, &artifact)).await.map_err(Failure::from)
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = stored {
            // Moved away when it was kept; whatever is left now is not wanted.
            let _ = tokio::fs::remove_file(&file).await;
            return Err(failure);
        }
        Ok(json(StatusCode::CREATED, &serde_json::json!({ "id": id })))
    }

    async fn download(&self, id: JobId, request: &Request<Incoming>) -> Result<Response, Failure> {
        let token = header_text(request.headers(), "job-token").to_owned();
        let found = self.blocking(move |server| {
            if !server.may_read_artifacts(id, &token)? {
                return Err(ServerError::Forbidden);
            }
            server.archive(id)
        });
        let (_, path) = found.await?;
        Ok(respond::file("application/octet-stream", &path).await?)
    }
}

fn take_job(server: &Server, asked: &JobRequest) -> Result<Option<JobPayload>, ServerError> {
    let runner = server.runner(asked.token.expose())?;
    server.note_contact(&runner)?;
    server.take_job(&runner, &asked.info)
}

fn tell_standing(response: &mut Response, standing: Standing) {
    let word = match standing {
        Standing::Running => "running",
        Standing::Canceling => "canceling",
    };
    respond::set(response, "job-status", word);
    respond::set(response, "x-gitlab-trace-update-interval", TRACE_INTERVAL_SECS);
}

/// Reads a report. Reasons of newer runners are unknown ones.
fn read_update(body: &Value) -> Result<JobUpdateRequest, Failure> {
    let state: JobState =
        serde_json::from_value(body["state"].clone()).map_err(|_| Failure::bad_request("state does not have a valid value"))?;
    let reason = &body["failure_reason"];
    let failure_reason = reason
        .as_str()
        .filter(|text| !text.is_empty())
        .map(|_| serde_json::from_value(reason.clone()).unwrap_or(FailureReason::UnknownFailure));
    let output: Option<TraceChecksum> = serde_json::from_value(body["output"].clone()).unwrap_or_default();
    let exit_code = body["exit_code"].as_i64().and_then(|code| i32::try_from(code).ok());
    Ok(JobUpdateRequest { state, failure_reason, exit_code, output })
}
