//! Pipelines that are evaluated and not yet written.

use dockwright_job::JobId;
use dockwright_pipeline::Pipeline;
use rusqlite::{Transaction, params};

use super::{
    NewPipeline, PipelineRecord, ProjectRecord, Server, ServerError,
    live::{self, Live},
    record::{self, Record as _},
};
use crate::{
    predefined::{RegistryFacts, Trigger, Upstream},
    project::{Mirror, Project},
    schedule::{Event, Plan, State},
};

pub(super) struct Draft {
    pub(super) mirror: Mirror,
    pub(super) seen: Project,
    pub(super) before_sha: Option<String>,
    pub(super) trigger: Trigger,
    pub(super) registry: Option<RegistryFacts>,
    pub(super) pipeline: Pipeline,
    /// Of a child pipeline: the jobs in whose archives the files of its configuration are.
    pub(super) archives: Option<Vec<Option<JobId>>>,
}

impl Server {
    /// Evaluates the pipeline of a branch or tag. `upstream` is the job that starts it, if one does.
    pub(super) fn draft(&self, project: &ProjectRecord, new: &NewPipeline, upstream: Option<Upstream>) -> Result<Draft, ServerError> {
        let mirror = self.mirror(project)?;
        let (at, sha) = mirror
            .take(&project.repository, &new.ref_name)?
            .ok_or_else(|| ServerError::invalid(format!("there is no branch or tag `{}`", new.ref_name)))?;
        let place = self.place(project, Mirror::default_branch(&project.repository));
        let seen = mirror.project(place, &at, &sha, new.before_sha.as_deref())?;
        let trigger = Trigger { source: new.source.clone(), variables: new.variables.clone(), inputs: Vec::new(), upstream };
        let pipeline = live::evaluated(&seen, &trigger, self.options.registry.as_ref())?;
        let registry = self.options.registry.clone();
        Ok(Draft { mirror, seen, before_sha: new.before_sha.clone(), trigger, registry, pipeline, archives: None })
    }
}

impl Draft {
    /// Writes the pipeline and starts it. Nothing has happened until the caller commits.
    pub(super) fn write(self, transaction: &Transaction<'_>, bridge: Option<JobId>) -> Result<(u64, Live), ServerError> {
        let Self { mirror, seen, before_sha, trigger, registry, pipeline, archives } = self;
        if pipeline.jobs.is_empty() {
            return Err(ServerError::invalid("the pipeline would have no jobs"));
        }
        let archives = archives.map(|list| serde_json::Value::from_iter(list.iter().map(|job| job.map(|job| job.0))).to_string());
        transaction.execute(
            "INSERT INTO pipelines (iid, project_id, ref, is_tag, sha, before_sha, default_branch, source, variables, bridge_id, archives,
                                    status, created_at)
             VALUES ((SELECT COALESCE(MAX(iid), 0) + 1 FROM pipelines WHERE project_id = ?1), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
                     'created', ?11)",
            params![
                seen.id,
                seen.ref_name,
                seen.is_tag,
                seen.sha,
                before_sha,
                seen.default_branch,
                trigger.source,
                live::variables_text(&trigger.variables),
                bridge.map(|bridge| bridge.0),
                archives,
                record::now()
            ],
        )?;
        let id = u64::try_from(transaction.last_insert_rowid()).unwrap_or_default();
        let mut latest = Vec::new();
        for (position, job) in pipeline.jobs.iter().enumerate() {
            latest.push(live::insert_job(transaction, id, position, job, 1)?);
        }
        let created = PipelineRecord::find(transaction, "WHERE id = ?", params![id])?.ok_or(ServerError::NotFound { what: "pipeline" })?;
        // Before anybody hears of the pipeline, its commit must be safe from the collection of garbage.
        mirror.keep(id, &seen.sha)?;
        let state = State::new(Plan::new(&pipeline));
        let facts = Live::facts(seen, trigger, registry, &created, &pipeline).into();
        let mut live = Live { pipeline: pipeline.into(), facts, state, latest };
        (live.state, live.latest) = live.step(transaction, Event::Begin)?;
        Ok((id, live))
    }
}
