//! What people do: projects, pipelines, and stopping or starting jobs.

use std::path::Path;

use dockwright_job::JobId;
use rusqlite::{ToSql, params};

use super::{
    Book, JobRecord, PipelineRecord, ProjectRecord, Server, ServerError, database,
    live::{self, Live},
    record::{self, Record as _},
};
use crate::{
    event::JobStatus,
    predefined::{GivenVariable, Trigger},
    project::{Mirror, RefName},
    schedule::Event,
};

/// A commit that a push hook names when the ref is new or gone.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// A pipeline to create.
#[derive(Debug, Clone, Default)]
pub struct NewPipeline {
    /// Branch or tag, by its name or in full.
    pub ref_name: String,
    /// `CI_PIPELINE_SOURCE`.
    pub source: String,
    pub variables: Vec<GivenVariable>,
    pub before_sha: Option<String>,
}

/// Which pipelines to list; what is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct PipelineFilter {
    pub ref_name: Option<String>,
    pub status: Option<String>,
    pub sha: Option<String>,
    pub source: Option<String>,
}

/// What a push changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    pub before: String,
    pub after: String,
    /// `refs/heads/…` or `refs/tags/…`.
    pub full_ref: String,
}

impl Server {
    /// Makes a project, or points an existing one at another repository.
    pub fn add_project(&self, path: &str, repository: &Path) -> Result<ProjectRecord, ServerError> {
        let is_usable = path.contains('/')
            && path.split('/').all(|part| !matches!(part, "" | "." | ".." | "-") && part.chars().all(crate::project::is_path_char));
        if !is_usable {
            return Err(ServerError::invalid(format!("`{path}` is no path of a project: `group/name` is expected")));
        }
        let repository = repository.canonicalize().map_err(ServerError::file(repository))?;
        Mirror::refs(&repository)?;
        let record = {
            let book = self.book();
            book.connection.execute(
                "INSERT INTO projects (path, repository, created_at) VALUES (?, ?, ?)
                 ON CONFLICT (path) DO UPDATE SET repository = excluded.repository",
                params![path, repository.to_string_lossy(), record::now()],
            )?;
            ProjectRecord::find(&book.connection, "WHERE path = ?", params![path])?
        };
        let record = record.ok_or(ServerError::NotFound { what: "project" })?;
        self.mirror(&record)?;
        Ok(record)
    }

    /// Returns a project by its number or path.
    pub fn project(&self, key: &str) -> Result<ProjectRecord, ServerError> {
        let number = key.parse::<u64>().unwrap_or_default();
        let found = ProjectRecord::find(&self.book().connection, "WHERE id = ? OR path = ?", params![number, key])?;
        found.ok_or(ServerError::NotFound { what: "project" })
    }

    /// Returns all projects.
    pub fn projects(&self) -> Result<Vec<ProjectRecord>, ServerError> {
        ProjectRecord::list(&self.book().connection, "ORDER BY id", params![])
    }

    /// Creates a pipeline and starts it.
    pub fn create_pipeline(&self, project: &ProjectRecord, new: &NewPipeline) -> Result<PipelineRecord, ServerError> {
        let draft = self.draft(project, new, None)?;
        let id = {
            let mut book = self.book();
            let Book { connection, live, .. } = &mut *book;
            let transaction = database::begin(connection)?;
            let (id, begun) = draft.write(&transaction, None)?;
            transaction.commit()?;
            live.insert(id, begun);
            id
        };
        self.settle();
        self.queue_has_changed();
        self.book().pipeline(id)
    }

    /// Creates a pipeline for a push, unless the ref is gone.
    pub fn push(&self, project: &ProjectRecord, push: &Push) -> Result<Option<PipelineRecord>, ServerError> {
        if push.after.chars().all(|digit| digit == '0') {
            return Ok(None);
        }
        if RefName::parse(&push.full_ref).is_none() {
            return Ok(None);
        }
        let before_sha = Some(push.before.clone()).filter(|before| before != NO_COMMIT && !before.is_empty());
        let new = NewPipeline { ref_name: push.full_ref.clone(), source: "push".to_owned(), variables: Vec::new(), before_sha };
        self.create_pipeline(project, &new).map(Some)
    }

    /// Looks at the refs of a project's repository and returns what has changed since the last look. The first look changes nothing.
    pub fn look_for_pushes(&self, project: &ProjectRecord) -> Result<Vec<Push>, ServerError> {
        let refs = Mirror::refs(&project.repository)?;
        let mut book = self.book();
        let transaction = database::begin(&mut book.connection)?;
        let known: Vec<(String, String)> = {
            let mut statement = transaction.prepare("SELECT name, sha FROM seen_refs WHERE project_id = ?")?;
            let rows = statement.query_map(params![project.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<_, _>>()?
        };
        let mut pushes = Vec::new();
        for (name, sha) in &refs {
            let before = known.iter().find(|(known, _)| known == name).map(|(_, sha)| sha.clone());
            if before.as_ref() == Some(sha) {
                continue;
            }
            transaction.execute(
                "INSERT INTO seen_refs (project_id, name, sha) VALUES (?, ?, ?)
                 ON CONFLICT (project_id, name) DO UPDATE SET sha = excluded.sha",
                params![project.id, name, sha],
            )?;
            if !known.is_empty() {
                let before = before.unwrap_or_else(|| NO_COMMIT.to_owned());
                pushes.push(Push { before, after: sha.clone(), full_ref: name.clone() });
            }
        }
        transaction.commit()?;
        Ok(pushes)
    }

    /// Returns a project's pipelines, latest first; child pipelines only to who asks for their source.
    pub fn pipelines(&self, project: u64, filter: &PipelineFilter) -> Result<Vec<PipelineRecord>, ServerError> {
        let rest = "WHERE project_id = ?1 AND (?2 IS NULL OR ref = ?2) AND (?3 IS NULL OR status = ?3) AND (?4 IS NULL OR sha = ?4)
                    AND (source = ?5 OR ?5 IS NULL AND archives IS NULL) ORDER BY id DESC";
        let PipelineFilter { ref_name, status, sha, source } = filter;
        PipelineRecord::list(&self.book().connection, rest, params![project, ref_name, status, sha, source])
    }

    /// Returns a pipeline of a project.
    pub fn pipeline(&self, project: u64, id: u64) -> Result<PipelineRecord, ServerError> {
        self.book().pipeline(id).and_then(|pipeline| {
            if pipeline.project_id == project { Ok(pipeline) } else { Err(ServerError::NotFound { what: "pipeline" }) }
        })
    }

    /// Returns the latest pipeline of a ref, or of the default branch.
    pub fn latest_pipeline(&self, project: &ProjectRecord, ref_name: Option<String>) -> Result<PipelineRecord, ServerError> {
        let ref_name = ref_name.unwrap_or_else(|| Mirror::default_branch(&project.repository));
        let filter = PipelineFilter { ref_name: Some(ref_name), ..PipelineFilter::default() };
        self.pipelines(project.id, &filter)?.into_iter().next().ok_or(ServerError::NotFound { what: "pipeline" })
    }

    /// Returns what a pipeline was started with.
    pub fn pipeline_variables(&self, id: u64) -> Result<Vec<GivenVariable>, ServerError> {
        Ok(live::read_variables(&self.book().pipeline(id)?.variables))
    }

    /// Returns a job by its name, of the last pipeline of a ref that succeeded.
    pub fn successful_job(&self, project: u64, ref_name: &str, name: &str) -> Result<JobRecord, ServerError> {
        let rest = "WHERE name = ?1 AND status = 'success' AND is_latest AND pipeline_id =
                    (SELECT MAX(id) FROM pipelines WHERE project_id = ?2 AND ref = ?3 AND status = 'success' AND archives IS NULL)";
        let found = JobRecord::find(&self.book().connection, rest, params![name, project, ref_name])?;
        found.ok_or(ServerError::NotFound { what: "job" })
    }

    /// Returns the pipeline of a job.
    pub fn pipeline_of(&self, job: &JobRecord) -> Result<PipelineRecord, ServerError> {
        self.book().pipeline(job.pipeline_id)
    }

    /// Returns the jobs of a pipeline that runners run, or those that start other pipelines; runs that were followed by another on request.
    pub fn pipeline_jobs(&self, pipeline: u64, are_bridges: bool, with_retried: bool) -> Result<Vec<JobRecord>, ServerError> {
        let filter = "WHERE pipeline_id = ? AND is_bridge = ? AND (is_latest OR ?) ORDER BY id";
        JobRecord::list(&self.book().connection, filter, params![pipeline, are_bridges, with_retried])
    }

    /// Returns a project's jobs, latest first.
    pub fn project_jobs(&self, project: u64) -> Result<Vec<JobRecord>, ServerError> {
        let filter =
            "WHERE is_latest AND NOT is_bridge AND pipeline_id IN (SELECT id FROM pipelines WHERE project_id = ?) ORDER BY id DESC";
        JobRecord::list(&self.book().connection, filter, params![project])
    }

    /// Returns a job of a project and its pipeline.
    pub fn project_job(&self, project: u64, job: JobId) -> Result<(JobRecord, PipelineRecord), ServerError> {
        let book = self.book();
        let job = book.job(job)?;
        let pipeline = book.pipeline(job.pipeline_id)?;
        if pipeline.project_id == project { Ok((job, pipeline)) } else { Err(ServerError::NotFound { what: "job" }) }
    }

    /// Stops a pipeline and its child pipelines.
    pub fn cancel_pipeline(&self, id: u64) -> Result<(), ServerError> {
        self.advance(id, &|_| Some(Event::Cancel))?;
        let bridges = JobRecord::list(&self.book().connection, "WHERE pipeline_id = ? AND is_bridge", params![id])?;
        bridges.iter().try_for_each(|bridge| self.cancel_children(bridge))
    }

    /// Runs what failed or was canceled again.
    pub fn retry_pipeline(&self, id: u64) -> Result<(), ServerError> {
        let jobs = JobRecord::list(&self.book().connection, "WHERE pipeline_id = ? AND is_latest ORDER BY id", params![id])?;
        for job in jobs {
            if matches!(job.status, JobStatus::Failed | JobStatus::Canceled) {
                self.advance(id, &|_| Some(Event::Retry(job.position)))?;
            }
        }
        Ok(())
    }

    /// Stops a job. One whose runner cannot do that in order is over at once.
    pub fn cancel_job(&self, job: &JobRecord) -> Result<JobRecord, ServerError> {
        self.advance(job.pipeline_id, &|_| Some(Event::CancelJob(job.position)))?;
        self.cancel_children(job)?;
        self.book().job(job.id)
    }

    /// Runs a job again and returns the new run.
    pub fn retry_job(&self, job: &JobRecord) -> Result<JobRecord, ServerError> {
        let can_be_retried = job.is_latest && matches!(job.status, JobStatus::Success | JobStatus::Failed | JobStatus::Canceled);
        if !can_be_retried {
            return Err(ServerError::invalid("job is not retryable"));
        }
        self.advance(job.pipeline_id, &|_| Some(Event::Retry(job.position)))?;
        self.latest_run(job)
    }

    /// Starts a job that waits for somebody.
    pub fn play_job(&self, job: &JobRecord) -> Result<JobRecord, ServerError> {
        if job.status != JobStatus::Manual {
            return Err(ServerError::invalid("unplayable job"));
        }
        self.advance(job.pipeline_id, &|_| Some(Event::Play(job.position)))?;
        self.latest_run(job)
    }

    fn latest_run(&self, job: &JobRecord) -> Result<JobRecord, ServerError> {
        let values: &[&dyn ToSql] = params![job.pipeline_id, job.position];
        let found = JobRecord::find(&self.book().connection, "WHERE pipeline_id = ? AND position = ? AND is_latest", values)?;
        found.ok_or(ServerError::NotFound { what: "job" })
    }

    /// Lets something happen in a pipeline, and in others what follows from it.
    pub(super) fn advance(&self, pipeline: u64, event: &dyn Fn(&Live) -> Option<Event>) -> Result<(), ServerError> {
        self.step(pipeline, event)?;
        self.settle();
        self.queue_has_changed();
        Ok(())
    }

    /// Lets something happen in a pipeline, and ends at once what cannot be ended in order.
    fn step(&self, pipeline: u64, event: &dyn Fn(&Live) -> Option<Event>) -> Result<(), ServerError> {
        let mut book = self.book();
        self.load(&mut book, pipeline)?;
        let book = &mut *book;
        let Some(live) = book.live.get_mut(&pipeline) else { return Err(ServerError::NotFound { what: "pipeline" }) };
        let Some(event) = event(live) else { return Ok(()) };
        let transaction = database::begin(&mut book.connection)?;
        let (state, latest) = live.step(&transaction, event)?;
        let mut stepped = Live { pipeline: live.pipeline.clone(), facts: live.facts.clone(), state, latest };
        let abrupt = "WHERE pipeline_id = ? AND is_latest AND status = 'running' AND is_canceling AND NOT cancels_gracefully";
        for job in JobRecord::list(&transaction, abrupt, params![pipeline])? {
            let end = Event::Ended(job.position, crate::schedule::Outcome::Success);
            (stepped.state, stepped.latest) = stepped.step(&transaction, end)?;
        }
        transaction.commit()?;
        (live.state, live.latest) = (stepped.state, stepped.latest);
        if live.state.is_finished() {
            // Whoever wants something of it again finds it in the database.
            book.live.remove(&pipeline);
        }
        Ok(())
    }

    /// Puts a pipeline into memory, when it is not there.
    pub(super) fn load(&self, book: &mut super::Book, id: u64) -> Result<(), ServerError> {
        if book.live.contains_key(&id) {
            return Ok(());
        }
        let record = book.pipeline(id)?;
        let project = book.project(record.project_id)?;
        let at = RefName { name: record.ref_name.clone(), is_tag: record.is_tag };
        let place = self.place(&project, record.default_branch.clone());
        let seen = self.mirror(&project)?.project(place, &at, &record.sha, record.before_sha.as_deref())?;
        let upstream = record.bridge_id.map(|bridge| book.upstream(bridge)).transpose()?;
        let variables = live::read_variables(&record.variables);
        let trigger = Trigger { source: record.source.clone(), variables, inputs: Vec::new(), upstream };
        let pipeline = match record.bridge_id {
            Some(bridge) if record.is_child() => self.child_again(book, &record, bridge, &seen, &trigger)?,
            _ => live::evaluated(&seen, &trigger, self.options.registry.as_ref())?,
        };
        let live = Live::restored(&book.connection, &record, seen, trigger, self.options.registry.clone(), pipeline)?;
        book.live.insert(id, live);
        Ok(())
    }
}
