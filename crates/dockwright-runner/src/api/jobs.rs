//! Taking a job, and reporting on it.

use std::time::Duration;

use bytes::Bytes;
use dockwright_job::{JobId, JobPayload, JobRequest, JobToken, JobUpdate, RunnerDetails};
use http::{Method, StatusCode};
use serde::Serialize;

use super::{
    ApiError, Client,
    request::{Answer, Body, Call, Token},
};

/// Longest pause between two pieces of a trace, whatever the server asks for.
const TRACE_INTERVAL_MAX: Duration = Duration::from_secs(15 * 60);

/// Answer to a request for a job.
#[derive(Debug)]
pub struct JobAnswer {
    /// `None`: there is nothing to do.
    pub job: Option<Box<JobPayload>>,
    /// State of the queue, to be sent with the next request (`X-GitLab-Last-Update`).
    pub last_update: Option<String>,
}

/// What an answer says about the job beside its own result (`Job-Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatusSignal {
    /// Go on.
    None,
    /// End the script; `after_script` and uploads still run.
    Cancel,
    /// The job is over; nothing about it is wanted any more.
    Abort,
}

/// Answer to `PUT /jobs/:id`.
#[derive(Debug)]
pub enum UpdateAnswer {
    Accepted,
    /// Accepted, but the server has not yet taken in the whole trace: ask again.
    Incomplete,
    /// The trace that the server has is not the one whose checksum was sent: send all of it again.
    TraceDiffers,
    Abort(ApiError),
}

/// Answer to `PATCH /jobs/:id/trace`.
#[derive(Debug)]
pub enum TraceAnswer {
    Accepted,
    /// The server has so many bytes; go on there.
    Resume(u64),
    NotFound(ApiError),
    Abort(ApiError),
}

/// An answer, the signal with it, and how long the server wants to be left alone.
#[derive(Debug)]
pub struct Signalled<T> {
    pub answer: T,
    pub signal: JobStatusSignal,
    pub interval: Option<Duration>,
}

#[derive(Serialize)]
struct UpdateBody<'a> {
    info: &'a RunnerDetails,
    #[serde(flatten)]
    update: &'a JobUpdate,
    /// The checksum once more, where servers before 13.11 look for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<&'a str>,
}

impl Client {
    /// Asks for a job. The server may hold the request while the queue stays as `last_update` says.
    pub async fn request_job(&self, request: &JobRequest) -> Result<JobAnswer, ApiError> {
        let call = Call::new(Method::POST, "jobs/request", Token::Runner(request.token.expose()), Body::json(request));
        let answer = self.send(&call).await?;
        let last_update = answer.header("x-gitlab-last-update").filter(|text| !text.is_empty()).map(str::to_owned);
        match answer.status() {
            StatusCode::CREATED => Ok(JobAnswer { job: Some(Box::new(answer.json().await?)), last_update }),
            StatusCode::NO_CONTENT => Ok(JobAnswer { job: None, last_update }),
            _ => Err(answer.refusal(call.token).await),
        }
    }

    /// Reports a job's state.
    pub async fn update_job(&self, job: JobId, update: &JobUpdate, details: &RunnerDetails) -> Result<Signalled<UpdateAnswer>, ApiError> {
        let checksum = update.output.as_ref().and_then(|output| output.checksum.as_deref());
        let body = Body::json(&UpdateBody { info: details, update, checksum });
        let mut call = Call::new(Method::PUT, format!("jobs/{job}"), Token::Job(update.token.expose()), body);
        call.timeout = Some(self.transport.report_timeout());
        let answer = self.send(&call).await?;
        let (signal, interval) = (signal(&answer), interval(&answer));
        let answer = match answer.status() {
            _ if signal == JobStatusSignal::Abort => UpdateAnswer::Abort(answer.refusal(call.token).await),
            StatusCode::OK => UpdateAnswer::Accepted,
            StatusCode::ACCEPTED => UpdateAnswer::Incomplete,
            StatusCode::PRECONDITION_FAILED => UpdateAnswer::TraceDiffers,
            status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT && status != StatusCode::TOO_MANY_REQUESTS => {
                UpdateAnswer::Abort(answer.refusal(call.token).await)
            }
            _ => return Err(answer.refusal(call.token).await),
        };
        Ok(Signalled { answer, signal, interval })
    }

    /// Sends bytes of a trace, the first of them at `offset`. `is_debug` tells that the trace may show secrets.
    pub async fn append_trace(
        &self,
        job: JobId,
        token: &JobToken,
        offset: u64,
        bytes: Bytes,
        is_debug: bool,
    ) -> Result<Signalled<TraceAnswer>, ApiError> {
        let end = offset + bytes.len() as u64;
        let call = Call::new(Method::PATCH, format!("jobs/{job}/trace"), Token::Job(token.expose()), Body::Text(bytes));
        let mut call = call.header("content-range", &format!("{offset}-{}", end.saturating_sub(1)));
        call.query.push(("debug_trace", is_debug.to_string()));
        call.timeout = Some(self.transport.report_timeout());
        let answer = self.send(&call).await?;
        let (signal, interval) = (signal(&answer), interval(&answer));
        let answer = match answer.status() {
            _ if signal == JobStatusSignal::Abort => TraceAnswer::Abort(answer.refusal(call.token).await),
            StatusCode::ACCEPTED => TraceAnswer::Accepted,
            StatusCode::RANGE_NOT_SATISFIABLE => TraceAnswer::Resume(stored_bytes(&answer)),
            StatusCode::NOT_FOUND => TraceAnswer::NotFound(answer.refusal(call.token).await),
            _ => return Err(answer.refusal(call.token).await),
        };
        Ok(Signalled { answer, signal, interval })
    }
}

fn signal(answer: &Answer) -> JobStatusSignal {
    match answer.header("job-status") {
        Some("canceled" | "failed") => JobStatusSignal::Abort,
        _ if answer.status() == StatusCode::FORBIDDEN => JobStatusSignal::Abort,
        Some("canceling") => JobStatusSignal::Cancel,
        _ => JobStatusSignal::None,
    }
}

fn interval(answer: &Answer) -> Option<Duration> {
    let seconds: u64 = answer.header("x-gitlab-trace-update-interval")?.trim().parse().ok().filter(|&seconds| seconds > 0)?;
    Some(Duration::from_secs(seconds).min(TRACE_INTERVAL_MAX))
}

/// Reads `Range: 0-N`, where N is the number of bytes that the server has. Anything else means none.
fn stored_bytes(answer: &Answer) -> u64 {
    answer.header("range").and_then(|range| range.split_once('-')?.1.trim().parse().ok()).unwrap_or(0)
}
