//! What runners do: take jobs and say how they end.

use std::time::Instant;

use dockwright_job::{FailureReason, JobId, JobPayload, JobState, RunnerDetails, TraceChecksum};
use jiff::Timestamp;
use rusqlite::params;

use super::{
    ACKNOWLEDGE_WITHIN, JobRecord, RunnerRecord, SILENCE_MAX, Server, ServerError, database,
    live::Live,
    record::{self, Record as _},
    secret,
};
use crate::{
    event::JobStatus,
    predefined,
    schedule::{Event, Outcome},
};

/// Where a job stands for its runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Running,
    /// To be ended in order.
    Canceling,
}

/// `PUT /jobs/:id`.
#[derive(Debug, Clone)]
pub struct JobUpdateRequest {
    pub state: JobState,
    pub failure_reason: Option<FailureReason>,
    pub exit_code: Option<i32>,
    pub output: Option<TraceChecksum>,
}

impl Server {
    /// Gives a job to a runner, when there is one for it. It is the runner's once it has confirmed it.
    pub fn take_job(&self, runner: &RunnerRecord, details: &RunnerDetails) -> Result<Option<JobPayload>, ServerError> {
        let mut book = self.book();
        let waiting = JobRecord::list(&book.connection, "WHERE status = 'pending' AND is_latest AND NOT is_bridge ORDER BY id", params![])?;
        for job in waiting {
            if let Err(error) = self.load(&mut book, job.pipeline_id) {
                tracing::error!(job = %job.id, %error, "the pipeline of a waiting job cannot be loaded");
                continue;
            }
            let book = &mut *book;
            let Some(live) = book.live.get_mut(&job.pipeline_id) else { continue };
            if !runner.takes(&job.tags, predefined::is_protected(&live.facts.project)) {
                continue;
            }
            let payload = live.payload(&book.connection, &self.jobs, &job);
            let transaction = database::begin(&mut book.connection)?;
            let (state, latest) = live.step(&transaction, Event::Started(job.position))?;
            transaction.execute(
                "UPDATE jobs SET status = 'running', runner_id = ?, started_at = ?, is_acknowledged = ?, cancels_gracefully = ? WHERE id = ?",
                params![
                    runner.id,
                    record::now(),
                    !details.features.two_phase_job_commit,
                    details.features.cancel_gracefully,
                    job.id.0
                ],
            )?;
            let mut stepped = Live { pipeline: live.pipeline.clone(), facts: live.facts.clone(), state, latest };
            if let Err(error) = &payload {
                tracing::error!(job = %job.id, %error, "the payload of a job cannot be made");
                let reason = match error {
                    ServerError::ArtifactsExpired { .. } => FailureReason::MissingDependencyFailure,
                    _ => FailureReason::RunnerSystemFailure,
                };
                let failed = Outcome::Failed { reason, exit_code: None };
                transaction.execute("UPDATE jobs SET failure_reason = ? WHERE id = ?", params![reason.as_str(), job.id.0])?;
                (stepped.state, stepped.latest) = stepped.step(&transaction, Event::Ended(job.position, failed))?;
            }
            transaction.commit()?;
            (live.state, live.latest) = (stepped.state, stepped.latest);
            if let Ok(payload) = payload {
                book.heard.insert(job.id, Instant::now());
                return Ok(Some(payload));
            }
        }
        Ok(None)
    }

    /// Takes note that a runner was here.
    pub fn note_contact(&self, runner: &RunnerRecord) -> Result<(), ServerError> {
        // Once a minute is enough for people, and spares the disk.
        let is_fresh = runner.contacted_at.as_deref().is_some_and(|time| record::seconds_since(time) < 60.0);
        if !is_fresh {
            self.book().connection.execute("UPDATE runners SET contacted_at = ? WHERE id = ?", params![record::now(), runner.id])?;
        }
        Ok(())
    }

    /// Returns a job that a token proves the right to report on.
    pub fn running_job(&self, id: JobId, token: &str) -> Result<(JobRecord, Standing), ServerError> {
        let mut book = self.book();
        let job = book.job(id)?;
        if !secret::is_same(&job.token, token) {
            return Err(ServerError::Forbidden);
        }
        if job.status != JobStatus::Running {
            return Err(ServerError::JobOver { status: job.status.as_str() });
        }
        book.heard.insert(id, Instant::now());
        let standing = if job.is_canceling { Standing::Canceling } else { Standing::Running };
        Ok((job, standing))
    }

    /// Takes a report of a job's state.
    pub fn update_job(&self, id: JobId, token: &str, update: &JobUpdateRequest) -> Result<Standing, ServerError> {
        let (job, standing) = match self.running_job(id, token) {
            // An answer may have been lost; the same report again is as good as the first.
            Err(ServerError::JobOver { status }) if is_same_end(status, update.state) => return Ok(Standing::Running),
            other => other?,
        };
        if update.state == JobState::Running {
            if !job.is_acknowledged {
                self.book().connection.execute("UPDATE jobs SET is_acknowledged = 1 WHERE id = ?", params![id.0])?;
            }
            return Ok(standing);
        }
        self.check_trace(id, update.output.as_ref())?;
        let outcome = match update.state {
            JobState::Success => Outcome::Success,
            _ => Outcome::Failed { reason: update.failure_reason.unwrap_or(FailureReason::ScriptFailure), exit_code: update.exit_code },
        };
        self.end_job(&job, outcome)?;
        Ok(Standing::Running)
    }

    fn end_job(&self, job: &JobRecord, outcome: Outcome) -> Result<(), ServerError> {
        if let Outcome::Failed { reason, exit_code } = &outcome {
            let reason = reason.as_str();
            self.book()
                .connection
                .execute("UPDATE jobs SET failure_reason = ?, exit_code = ? WHERE id = ?", params![reason, exit_code, job.id.0])?;
        }
        let id = job.id;
        let position = job.position;
        // Only the run that is the latest: another may have begun meanwhile.
        self.advance(job.pipeline_id, &|live| (live.latest[position] == id).then(|| Event::Ended(position, outcome.clone())))?;
        self.book().heard.remove(&id);
        Ok(())
    }

    /// Starts delayed jobs that are due, does what bridges wait for, takes jobs back from runners that did not confirm them, and ends jobs
    /// whose runners have fallen silent. Erases artifacts that have expired. Called every few seconds.
    pub fn tidy(&self) -> Result<(), ServerError> {
        self.start_due(Timestamp::now())?;
        self.settle();
        self.erase_expired(Timestamp::now())?;
        self.tidy_at(Instant::now())
    }

    /// Starts delayed jobs whose time has come.
    fn start_due(&self, now: Timestamp) -> Result<(), ServerError> {
        let due = JobRecord::list(
            &self.book().connection,
            "WHERE status = 'scheduled' AND is_latest AND due_at <= ? ORDER BY due_at",
            params![record::written(now)],
        )?;
        for job in due {
            self.advance(job.pipeline_id, &|live| (live.latest[job.position] == job.id).then_some(Event::Due(job.position)))?;
        }
        Ok(())
    }

    fn tidy_at(&self, now: Instant) -> Result<(), ServerError> {
        let running = {
            let mut book = self.book();
            let running = JobRecord::list(&book.connection, "WHERE status = 'running' AND is_latest AND NOT is_bridge", params![])?;
            for job in &running {
                book.heard.entry(job.id).or_insert(now);
            }
            let silence = |job: &JobRecord| now.saturating_duration_since(book.heard.get(&job.id).copied().unwrap_or(now));
            let mut silent = Vec::new();
            for job in running {
                let limit = if job.is_acknowledged { SILENCE_MAX } else { ACKNOWLEDGE_WITHIN };
                if silence(&job) > limit {
                    silent.push(job);
                }
            }
            silent
        };
        for job in running {
            if job.is_acknowledged {
                tracing::warn!(job = %job.id, "the runner of a job has fallen silent");
                self.end_job(&job, Outcome::Failed { reason: FailureReason::RunnerSystemFailure, exit_code: None })?;
            } else {
                tracing::info!(job = %job.id, "a runner did not confirm a job; it goes back to the queue");
                let (id, position) = (job.id, job.position);
                self.advance(job.pipeline_id, &|live| (live.latest[position] == id).then_some(Event::Returned(position)))?;
                self.book().heard.remove(&id);
            }
        }
        Ok(())
    }
}

fn is_same_end(status: &str, state: JobState) -> bool {
    matches!((status, state), ("success", JobState::Success) | ("failed", JobState::Failed))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use dockwright_job::RunnerFeatures;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        project::git,
        server::{NewPipeline, NewRunner, ServerOptions},
    };

    fn open(root: &Path) -> Server {
        let options = ServerOptions { directory: root.join("data"), url: "http://127.0.0.1:1".to_owned(), registry: None };
        Server::open(options).expect("the directory can be used")
    }

    /// A coordinator with one waiting job.
    fn with_job(root: &Path) -> (Server, RunnerRecord) {
        with_configuration(root, "job: {script: 'true'}\n")
    }

    fn with_configuration(root: &Path, configuration: &str) -> (Server, RunnerRecord) {
        let repository = root.join("repository");
        std::fs::create_dir(&repository).expect("a directory");
        std::fs::write(repository.join(".gitlab-ci.yml"), configuration).expect("a file");
        for arguments in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["add", "."],
            &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "x"],
        ] {
            git(&repository, arguments).bytes().expect("git succeeds");
        }
        let server = open(root);
        let project = server.add_project("group/app", &repository).expect("a project");
        let new = NewPipeline { ref_name: "main".to_owned(), source: "api".to_owned(), ..NewPipeline::default() };
        server.create_pipeline(&project, &new).expect("a pipeline");
        let token = server.create_runner(&NewRunner { run_untagged: true, ..NewRunner::default() }).expect("a runner").token;
        let runner = server.runner(token.expose()).expect("it is known");
        (server, runner)
    }

    fn details() -> RunnerDetails {
        let features = RunnerFeatures { two_phase_job_commit: true, cancel_gracefully: true, ..RunnerFeatures::default() };
        RunnerDetails { features, ..RunnerDetails::default() }
    }

    fn report(state: JobState) -> JobUpdateRequest {
        JobUpdateRequest { state, failure_reason: None, exit_code: None, output: None }
    }

    #[test]
    fn a_job_that_is_not_confirmed_goes_to_somebody_else() {
        let root = TempDir::new().expect("a temporary directory");
        let (server, runner) = with_job(root.path());
        let first = server.take_job(&runner, &details()).expect("an answer").expect("a job");
        assert!(server.take_job(&runner, &details()).expect("an answer").is_none(), "a job is given once");
        server.tidy_at(Instant::now() + ACKNOWLEDGE_WITHIN + Duration::from_secs(1)).expect("tidied");
        let second = server.take_job(&runner, &details()).expect("an answer").expect("the job again");
        assert_eq!(first.id, second.id);
        let late = server.update_job(first.id, first.token.expose(), &report(JobState::Running));
        assert!(matches!(late, Err(ServerError::Forbidden)), "{late:?}");
        server.update_job(second.id, second.token.expose(), &report(JobState::Running)).expect("confirmed");
        server.tidy_at(Instant::now() + ACKNOWLEDGE_WITHIN + Duration::from_secs(1)).expect("tidied");
        server.update_job(second.id, second.token.expose(), &report(JobState::Success)).expect("it is still the runner's");
        // The answer may have been lost.
        server.update_job(second.id, second.token.expose(), &report(JobState::Success)).expect("once more");
        let other = server.update_job(second.id, second.token.expose(), &report(JobState::Failed));
        assert!(matches!(other, Err(ServerError::JobOver { status: "success" })), "{other:?}");
    }

    #[test]
    fn a_delayed_job_is_given_when_it_is_due_even_after_a_restart() {
        let root = TempDir::new().expect("a temporary directory");
        let (server, runner) = with_configuration(root.path(), "job: {script: 'true', when: delayed, start_in: 1 hour}\n");
        server.start_due(Timestamp::now()).expect("looked");
        assert!(server.take_job(&runner, &details()).expect("an answer").is_none());
        drop(server);
        let server = open(root.path());
        server.start_due(Timestamp::now() + jiff::SignedDuration::from_mins(61)).expect("looked");
        assert!(server.take_job(&runner, &details()).expect("an answer").is_some());
    }

    #[test]
    fn jobs_of_one_resource_group_are_given_one_after_the_other() {
        let root = TempDir::new().expect("a temporary directory");
        let configuration = "a: {script: 'true', resource_group: x}\nb: {script: 'true', resource_group: x}\n";
        let (server, runner) = with_configuration(root.path(), configuration);
        let first = server.take_job(&runner, &details()).expect("an answer").expect("a job");
        assert!(server.take_job(&runner, &details()).expect("an answer").is_none());
        server.update_job(first.id, first.token.expose(), &report(JobState::Success)).expect("ended");
        assert!(server.take_job(&runner, &details()).expect("an answer").is_some());
    }

    #[test]
    fn a_silent_runner_fails_its_job_even_after_a_restart() {
        let root = TempDir::new().expect("a temporary directory");
        let (server, runner) = with_job(root.path());
        let job = server.take_job(&runner, &details()).expect("an answer").expect("a job");
        server.update_job(job.id, job.token.expose(), &report(JobState::Running)).expect("confirmed");
        drop(server);
        let server = open(root.path());
        server.tidy_at(Instant::now() + SILENCE_MAX).expect("tidied");
        server.tidy_at(Instant::now() + SILENCE_MAX + SILENCE_MAX / 2).expect("tidied");
        assert_eq!(server.project_job(1, job.id).expect("a job").0.status, JobStatus::Running, "everybody gets the whole time");
        server.tidy_at(Instant::now() + SILENCE_MAX * 3).expect("tidied");
        let (ended, pipeline) = server.project_job(1, job.id).expect("a job");
        assert_eq!((ended.status, ended.failure_reason.as_deref()), (JobStatus::Failed, Some("runner_system_failure")));
        assert_eq!(pipeline.status, "failed");
    }

    #[test]
    fn a_job_that_needs_expired_artifacts_fails() {
        let root = TempDir::new().expect("a temporary directory");
        let configuration = "stages: [a, b]\nfirst: {stage: a, script: x, artifacts: {paths: [x]}}\nkept: {stage: a, script: x, artifacts: {paths: [x]}}\n\
                             second: {stage: b, script: x, needs: [first]}\nthird: {stage: b, script: x, needs: [kept]}\n";
        let (server, runner) = with_configuration(root.path(), configuration);
        for _ in 0..2 {
            let job = server.take_job(&runner, &details()).expect("an answer").expect("a job");
            let (record, _) = server.running_job(job.id, job.token.expose()).expect("it runs");
            let file = server.upload_file(job.id).expect("a place");
            std::fs::write(&file, "zip").expect("a file");
            let expires_at = crate::server::expires_at("1 hour", Timestamp::now()).expect("a duration");
            let text = |text: &str| text.to_owned();
            let (kind, filename, format) = (text("archive"), text("artifacts.zip"), text("zip"));
            let artifact = crate::server::ArtifactRecord { kind, filename, format, size: 3, expires_at, is_erased: false };
            server.store_artifact(&record, &file, &artifact).expect("stored");
            server.update_job(job.id, job.token.expose(), &report(JobState::Success)).expect("ended");
            if job.job_info.name == "kept" {
                server.keep_artifacts(&record).expect("kept");
            }
        }
        let (first, kept) = (JobId(1), JobId(2));
        server.erase_expired(Timestamp::now()).expect("nothing to do");
        let (_, path) = server.archive(first).expect("it is there");
        server.erase_expired(Timestamp::now() + jiff::SignedDuration::from_mins(61)).expect("erased");
        assert!(!path.exists());
        assert!(matches!(server.archive(first), Err(ServerError::NotFound { what: "artifact" })));
        assert!(server.archive(kept).expect("it was kept").1.exists());
        let third = server.take_job(&runner, &details()).expect("an answer").expect("a job");
        assert_eq!(third.job_info.name, "third");
        let (second, _) = server.project_job(1, JobId(3)).expect("a job");
        assert_eq!((second.status, second.failure_reason.as_deref()), (JobStatus::Failed, Some("missing_dependency_failure")));
    }

    #[test]
    fn a_trace_is_written_where_its_runner_says() {
        let root = TempDir::new().expect("a temporary directory");
        let (server, runner) = with_job(root.path());
        let job = server.take_job(&runner, &details()).expect("an answer").expect("a job");
        let append = |offset, bytes: &[u8]| server.append_trace(job.id, job.token.expose(), offset, bytes);
        assert_eq!(append(0, b"first").expect("stored").0, 5);
        // The same once more, as after an answer that was lost.
        assert_eq!(append(0, b"first").expect("stored").0, 5);
        assert!(matches!(append(7, b"x"), Err(ServerError::TraceGap { stored: 5 })));
        assert_eq!(append(5, b" second").expect("stored").0, 12);
        let output = |bytes: &[u8]| {
            let checksum = format!("crc32:{:08x}", crc32fast::hash(bytes));
            TraceChecksum { checksum: Some(checksum), bytesize: Some(bytes.len() as u64) }
        };
        let ended = |bytes| JobUpdateRequest { output: Some(output(bytes)), ..report(JobState::Success) };
        let wrong = server.update_job(job.id, job.token.expose(), &ended(b"first sec0nd"));
        assert!(matches!(wrong, Err(ServerError::TraceDiffers)), "{wrong:?}");
        server.update_job(job.id, job.token.expose(), &ended(b"first second")).expect("it is the same");
    }
}
