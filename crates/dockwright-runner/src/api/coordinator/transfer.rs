//! Archives to the server and from it: how often, and how long a server that is away is waited for.

use std::{path::Path, time::Duration};

use dockwright_job::Dependency;
use http::StatusCode;
use tokio::time::sleep;

use super::{
    HttpCoordinator,
    report::{refused, unreachable},
};
use crate::{
    CoordinatorError,
    api::{ApiError, UploadAnswer, UploadQuery},
    coordinator::{ArtifactUpload, JobAccess},
    outcome,
};

/// Attempts while the server answers, the first included. What breaks off each time is not worth more: a large archive would go over the
/// line for nothing.
const ATTEMPTS: u32 = 3;
/// A server without room for the moment gets more time.
const ATTEMPTS_UNAVAILABLE: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const ABSENCE_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Attempts while nobody listens at the server's address: about a quarter of an hour, longer than an upgrade of GitLab takes.
const ATTEMPTS_ABSENT: u32 = 34;

/// Counts the attempts of one transfer.
#[derive(Debug, Default)]
struct Attempts {
    answered: u32,
    absent: u32,
}

impl Attempts {
    /// Returns how long to wait after an attempt that failed, or `None` when it was the last.
    fn pause_after(&mut self, error: &ApiError) -> Option<Duration> {
        if error.is_absence() {
            self.absent += 1;
            let doubled = FIRST_PAUSE * (1 << (self.absent - 1).min(10));
            return (self.absent < ATTEMPTS_ABSENT).then_some(doubled.min(ABSENCE_PAUSE_MAX));
        }
        self.answered += 1;
        let limit = match error.status() {
            Some(StatusCode::SERVICE_UNAVAILABLE) => ATTEMPTS_UNAVAILABLE,
            _ => ATTEMPTS,
        };
        (self.answered < limit).then_some(FIRST_PAUSE * self.answered)
    }
}

impl HttpCoordinator {
    pub(super) async fn upload(&self, job: &JobAccess, upload: &ArtifactUpload) -> Result<(), CoordinatorError> {
        let query = UploadQuery { artifact: &upload.artifact, filename: &upload.filename };
        let mut attempts = Attempts::default();
        loop {
            let error = match self.client.upload_artifacts(job.id, &job.token, query, &upload.file).await {
                Ok(UploadAnswer::Stored) => return Ok(()),
                Ok(UploadAnswer::TooLarge(error) | UploadAnswer::Forbidden(error)) => return Err(refused("the artifacts", &error)),
                Err(error) => error,
            };
            let Some(pause) = attempts.pause_after(&error) else { return Err(unreachable(error)) };
            tracing::warn!(job = %job.id, error = outcome::chain(&error), "the artifacts are uploaded again");
            sleep(pause).await;
        }
    }

    pub(super) async fn download(&self, dependency: &Dependency, to: &Path) -> Result<(), CoordinatorError> {
        let mut attempts = Attempts::default();
        let mut direct = true;
        loop {
            let error = match self.client.download_artifacts(dependency.id, &dependency.token, direct, to).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if matches!(error.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)) {
                return Err(refused("artifacts of an earlier job", &error));
            }
            let Some(pause) = attempts.pause_after(&error) else { return Err(unreachable(error)) };
            tracing::warn!(job = %dependency.id, error = outcome::chain(&error), "the artifacts are downloaded again");
            sleep(pause).await;
            // The server itself may reach a store that we do not.
            direct = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn a_server_that_answers_gets_a_few_attempts() {
        for (status, limit) in [(500, 3), (503, 6)] {
            let status = StatusCode::from_u16(status).expect("a status");
            let error = ApiError::Refused { method: Method::POST, url: String::new(), status, message: String::new() };
            let mut attempts = Attempts::default();
            let pauses: Vec<Duration> = std::iter::from_fn(|| attempts.pause_after(&error)).take(100).collect();
            assert_eq!(pauses.len() + 1, limit, "{status}");
            assert_eq!(pauses[..2], [Duration::from_secs(1), Duration::from_secs(2)]);
        }
    }
}
