//! A pipeline in memory: its evaluated form, its scheduler, and the latest run of each job.
//!
//! The database holds what happened; the configuration is evaluated again from the commit, which always gives the same jobs. So a
//! restart needs nothing but the rows and the repository.

use std::sync::Arc;

use dockwright_job::{Dependency, DependencyFile, JobId, JobPayload, JobToken};
use dockwright_pipeline::{Job, Pipeline, has_errors, parse};
use indexmap::IndexMap;
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

use super::{
    ArtifactRecord, JobRecord, PipelineRecord, ServerError,
    record::{self, Record as _},
};
use crate::{
    configuration,
    directory::JobsDirectory,
    dotenv,
    event::JobStatus,
    payload::{PayloadFacts, RunOfJob},
    predefined::{GivenVariable, RegistryFacts, Trigger, context},
    project::Project,
    schedule::{self, Command, Event, Plan, RestoredJob, State},
};

const CONFIG_FILE: &str = ".gitlab-ci.yml";

pub(super) struct Live {
    /// Shared with the copies that are made of it for every step.
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) facts: Arc<PayloadFacts>,
    pub(super) state: State,
    /// The latest run of each job of the pipeline.
    pub(super) latest: Vec<JobId>,
}

/// Evaluates a configuration for a commit.
pub(super) fn evaluated(project: &Project, trigger: &Trigger, registry: Option<&RegistryFacts>) -> Result<Pipeline, ServerError> {
    let context = context(project, trigger, registry);
    let parsed = parse(CONFIG_FILE, project, &context);
    let (pipeline, problems) = configuration::evaluated(&parsed, &context);
    if has_errors(&problems) {
        return Err(ServerError::Configuration(problems));
    }
    Ok(pipeline)
}

/// What a pipeline is started with, as the database keeps it.
pub(super) fn variables_text(variables: &[GivenVariable]) -> String {
    let list = variables.iter().map(|variable| serde_json::json!([variable.key, variable.value, variable.masked, variable.file]));
    serde_json::Value::from_iter(list).to_string()
}

pub(super) fn read_variables(text: &str) -> Vec<GivenVariable> {
    let list: Vec<(String, String, bool, bool)> = serde_json::from_str(text).unwrap_or_default();
    list.into_iter().map(|(key, value, masked, file)| GivenVariable { key, value, masked, file }).collect()
}

impl Live {
    /// Makes the facts that all payloads of a pipeline share.
    pub(super) fn facts(
        project: Project,
        trigger: Trigger,
        registry: Option<RegistryFacts>,
        record: &PipelineRecord,
        pipeline: &Pipeline,
    ) -> PayloadFacts {
        PayloadFacts {
            project,
            trigger,
            registry,
            is_remote: true,
            pipeline_id: record.id,
            pipeline_iid: record.iid,
            pipeline_name: pipeline.name.clone(),
            created: record.created_at.parse().unwrap_or_else(|_| Timestamp::now()),
        }
    }

    /// Puts a pipeline together again from what is known of it and from its rows.
    pub(super) fn restored(
        connection: &Connection,
        record: &PipelineRecord,
        project: Project,
        trigger: Trigger,
        registry: Option<RegistryFacts>,
        pipeline: Pipeline,
    ) -> Result<Self, ServerError> {
        let jobs = JobRecord::list(connection, "WHERE pipeline_id = ? AND is_latest ORDER BY position", params![record.id])?;
        let is_same = jobs.len() == pipeline.jobs.len() && jobs.iter().zip(&pipeline.jobs).all(|(left, right)| left.name == right.name);
        if !is_same {
            return Err(ServerError::invalid(
                "this version of dockwright understands the configuration differently than the one that began it",
            ));
        }
        let restored = jobs.iter().map(|job| RestoredJob {
            status: job.status,
            is_allowed_to_fail: job.is_allowed_to_fail,
            tries: job.tries,
            is_canceling: job.is_canceling,
        });
        let state = State::restored(Plan::new(&pipeline), restored.collect());
        let facts = Arc::new(Self::facts(project, trigger, registry, record, &pipeline));
        Ok(Self { pipeline: pipeline.into(), facts, state, latest: jobs.iter().map(|job| job.id).collect() })
    }

    /// Advances the pipeline; the rows change with it. Nothing has happened until the caller commits and keeps what is returned.
    pub(super) fn step(&self, transaction: &Transaction<'_>, event: Event) -> Result<(State, Vec<JobId>), ServerError> {
        let (state, commands) = schedule::next(&self.state, event);
        let mut latest = self.latest.clone();
        for command in commands {
            execute(transaction, &mut latest, &self.pipeline, &command)?;
        }
        let status = state.pipeline_status();
        let is_over = JobStatus::is_completed(record::parse_status(status.as_str()));
        let finished = is_over.then(record::now);
        transaction.execute(
            "UPDATE pipelines SET status = ?, finished_at = ? WHERE id = ?",
            params![status.as_str(), finished, self.facts.pipeline_id],
        )?;
        Ok((state, latest))
    }

    /// Makes the payload of a job that is about to be handed out.
    pub(super) fn payload(&self, connection: &Connection, jobs: &JobsDirectory, record: &JobRecord) -> Result<JobPayload, ServerError> {
        let job = &self.pipeline.jobs[record.position];
        let mut dependencies = Vec::new();
        let mut variables = IndexMap::new();
        for id in self.artifact_sources(job) {
            let source = JobRecord::find(connection, "WHERE id = ?", params![id.0])?;
            let Some(source) = source else { continue };
            for artifact in ArtifactRecord::list(connection, "WHERE job_id = ?", params![id.0])? {
                match artifact.kind.as_str() {
                    "archive" if artifact.is_erased => return Err(ServerError::ArtifactsExpired { job: source.name }),
                    "archive" => dependencies.push(dependency(&source, artifact)),
                    "dotenv" => variables.extend(read_dotenv(jobs, id)?),
                    _ => {}
                }
            }
        }
        let run = RunOfJob {
            id: record.id,
            token: JobToken::new(record.token.clone()),
            retries: record.tries - 1,
            started: Timestamp::now(),
            queued_secs: record.queued_at.as_deref().map_or(0.0, record::seconds_since),
            dependencies,
            dotenv: variables,
        };
        Ok(self.facts.payload(job, &run)?)
    }

    fn artifact_sources(&self, job: &Job) -> Vec<JobId> {
        crate::payload::artifact_sources(&self.pipeline, &self.latest, job)
    }
}

fn dependency(job: &JobRecord, archive: ArtifactRecord) -> Dependency {
    Dependency {
        id: job.id,
        token: JobToken::new(job.token.clone()),
        name: job.name.clone(),
        artifacts_file: DependencyFile { filename: archive.filename, size: archive.size },
    }
}

fn read_dotenv(jobs: &JobsDirectory, job: JobId) -> Result<IndexMap<String, String>, ServerError> {
    let path = jobs.artifact(job, "dotenv");
    let file = std::fs::File::open(&path).map_err(ServerError::file(path))?;
    Ok(dotenv::read(file)?)
}

/// Writes a job that has not run yet.
pub(super) fn insert_job(
    transaction: &Transaction<'_>,
    pipeline: u64,
    position: usize,
    job: &Job,
    tries: u8,
) -> Result<JobId, ServerError> {
    transaction.execute(
        "INSERT INTO jobs (pipeline_id, position, name, stage, tags, status, tries, token, created_at, is_bridge)
         VALUES (?, ?, ?, ?, ?, 'created', ?, ?, ?, ?)",
        params![
            pipeline,
            position,
            job.name,
            job.stage,
            record::joined(&job.tags),
            tries,
            crate::run::new_token().expose(),
            record::now(),
            job.bridge.is_some()
        ],
    )?;
    Ok(JobId(u64::try_from(transaction.last_insert_rowid()).unwrap_or_default()))
}

fn execute(transaction: &Transaction<'_>, latest: &mut [JobId], pipeline: &Pipeline, command: &Command) -> Result<(), ServerError> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| transaction.execute(sql, values).map(|_| ());
    match command {
        // A job that comes back from a runner gets another token: the runner that had it is not to report on it any more.
        Command::Enqueue(job) => run(
            "UPDATE jobs SET status = 'pending', queued_at = ?, started_at = NULL, runner_id = NULL, is_acknowledged = 0, token = ? WHERE id = ?",
            params![record::now(), crate::run::new_token().expose(), latest[*job].0],
        )?,
        Command::Reopen(job) => run("UPDATE jobs SET status = 'created', finished_at = NULL WHERE id = ?", params![latest[*job].0])?,
        Command::Hold(job) => run("UPDATE jobs SET status = 'manual' WHERE id = ?", params![latest[*job].0])?,
        Command::Queue(job) => run("UPDATE jobs SET status = 'waiting_for_resource' WHERE id = ?", params![latest[*job].0])?,
        Command::Delay(job) => {
            let delay = jiff::SignedDuration::from_secs(
                pipeline.jobs[*job].start_in_secs.and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or_default(),
            );
            let due = Timestamp::now().checked_add(delay).unwrap_or(Timestamp::MAX);
            run("UPDATE jobs SET status = 'scheduled', due_at = ? WHERE id = ?", params![record::written(due), latest[*job].0])?;
        }
        Command::Stop(job) => run("UPDATE jobs SET is_canceling = 1 WHERE id = ?", params![latest[*job].0])?,
        Command::Close { job, status, is_allowed_to_fail } => run(
            "UPDATE jobs SET status = ?, is_allowed_to_fail = ?, finished_at = ? WHERE id = ?",
            params![status.as_str(), is_allowed_to_fail, record::now(), latest[*job].0],
        )?,
        Command::Retry(job) => {
            let ended =
                JobRecord::find(transaction, "WHERE id = ?", params![latest[*job].0])?.ok_or(ServerError::NotFound { what: "job" })?;
            if !ended.status.is_completed() {
                run("UPDATE jobs SET status = 'failed', finished_at = ? WHERE id = ?", params![record::now(), ended.id.0])?;
            }
            run("UPDATE jobs SET is_latest = 0 WHERE id = ?", params![ended.id.0])?;
            let tries = ended.tries.saturating_add(1);
            latest[*job] = insert_job(transaction, ended.pipeline_id, ended.position, &pipeline.jobs[*job], tries)?;
        }
        // The pipeline's row is written after every step.
        Command::Finish(_) => {}
    }
    Ok(())
}
