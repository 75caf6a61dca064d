//! Jobs with `trigger`: no runner gets them, the coordinator starts their pipelines itself.
//!
//! What is to be done is found in the database: bridges that are pending are started, and those whose pipelines have ended end as these
//! did. So a restart forgets nothing. A bridge and the pipeline that it starts are written in one transaction.

use std::io::Write as _;

use dockwright_job::{FailureReason, JobId};
use dockwright_pipeline::{Bridge, ChildInclude, Downstream, Pipeline, Strategy};
use rusqlite::params;

use super::{
    ArtifactRecord, Book, JobRecord, NewPipeline, PipelineRecord, ProjectRecord, Server, ServerError, database,
    draft::Draft,
    live::Live,
    record::{self, Record as _},
};
use crate::{
    downstream,
    event::PipelineStatus,
    payload::PayloadFacts,
    predefined::Trigger,
    project::{Mirror, Project},
    run::child::{self, ChildError},
    schedule::{Event, Outcome},
};

const ENDED: [PipelineStatus; 4] = [PipelineStatus::Success, PipelineStatus::Failed, PipelineStatus::Canceled, PipelineStatus::Skipped];
/// How often a project's pipelines for one ref may start each other.
const ROUNDS_MAX: usize = 2;

/// Why a bridge started no pipeline.
#[derive(Debug, thiserror::Error)]
enum BridgeError {
    #[error("there is no project `{path}` on this coordinator")]
    NoProject { path: String },
    #[error("the pipelines of `{path}` start each other")]
    Loop { path: String },
    #[error("a project cannot trigger itself; use `trigger:include` for a child pipeline")]
    OwnProject,
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl BridgeError {
    /// GitLab's word, as its jobs' `failure_reason`.
    fn reason(&self) -> &'static str {
        match self {
            Self::NoProject { .. } => "downstream_bridge_project_not_found",
            Self::Loop { .. } => "pipeline_loop_detected",
            Self::OwnProject => "invalid_bridge_trigger",
            Self::Child(ChildError::TooDeep) => "reached_max_descendant_pipelines_depth",
            Self::Child(_) | Self::Server(_) => "downstream_pipeline_creation_failed",
        }
    }
}

/// What there is to know of a bridge before its pipeline is made.
struct Start {
    facts: std::sync::Arc<PayloadFacts>,
    bridge: Bridge,
    trigger: Trigger,
    archives: Vec<Option<JobId>>,
    project: ProjectRecord,
    /// The pipeline of the bridge, that which started it, and so on.
    upstream: Vec<PipelineRecord>,
}

impl Server {
    /// Starts the bridges that are pending, and ends those whose pipelines have ended, until there are no more.
    pub(super) fn settle(&self) {
        loop {
            match self.settle_once() {
                Ok(true) => self.queue_has_changed(),
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "look for jobs with `trigger`");
                    return;
                }
            }
        }
    }

    /// Tells whether something has changed.
    fn settle_once(&self) -> Result<bool, ServerError> {
        let (pending, over) = {
            let book = self.book();
            let is = |status: &str| format!("WHERE status = '{status}' AND is_latest AND is_bridge");
            let pending = JobRecord::list(&book.connection, &format!("{} ORDER BY id", is("pending")), params![])?;
            let ended = ENDED.map(|status| format!("'{}'", status.as_str())).join(", ");
            let has_ended = format!("EXISTS (SELECT 1 FROM pipelines WHERE bridge_id = jobs.id AND status IN ({ended}))");
            (pending, JobRecord::list(&book.connection, &format!("{} AND {has_ended} ORDER BY id", is("running")), params![])?)
        };
        let mut has_changed = false;
        // One that cannot be dealt with must not stop the others.
        let mut done = |bridge: &JobRecord, outcome| match outcome {
            Ok(changed) => has_changed |= changed,
            Err(error) => tracing::error!(job = %bridge.id, error = &error as &dyn std::error::Error, "a job with `trigger` is stuck"),
        };
        for bridge in &pending {
            done(bridge, self.start_bridge(bridge));
        }
        for bridge in &over {
            done(bridge, self.end_bridge(bridge));
        }
        Ok(has_changed)
    }

    fn start_bridge(&self, bridge: &JobRecord) -> Result<bool, ServerError> {
        let Some(start) = self.look_at(bridge)? else { return Ok(false) };
        let waits = start.bridge.strategy.is_some();
        let written = self.downstream(start).and_then(|draft| {
            let after: &[Event] = if waits { &[] } else { &[Event::Ended(bridge.position, Outcome::Success)] };
            Ok(self.write(bridge, Some(draft), after, None)?)
        });
        match written {
            Ok(changed) => Ok(changed),
            Err(error) => {
                self.say(bridge.id, &format!("ERROR: {error}\n"))?;
                self.write(bridge, None, &[Event::Ended(bridge.position, failed())], Some(error.reason()))
            }
        }
    }

    /// Collects what a bridge is about; `None` when it is not the latest run of its job.
    fn look_at(&self, bridge: &JobRecord) -> Result<Option<Start>, ServerError> {
        let mut book = self.book();
        self.load(&mut book, bridge.pipeline_id)?;
        let Some(live) = book.live.get(&bridge.pipeline_id).filter(|live| live.latest[bridge.position] == bridge.id) else {
            return Ok(None);
        };
        let job = &live.pipeline.jobs[bridge.position];
        let Some(of_job) = job.bridge.clone() else { return Ok(None) };
        let (source, archives) = match &of_job.downstream {
            Downstream::Child(includes) => ("parent_pipeline", archives(&book.connection, live, includes)?),
            Downstream::Project(_) => ("pipeline", Vec::new()),
        };
        let upstream = upstream(&book, bridge.pipeline_id)?;
        Ok(Some(Start {
            trigger: downstream::trigger(&live.facts, bridge.id, job, &of_job, source),
            facts: live.facts.clone(),
            bridge: of_job,
            archives,
            project: book.project(upstream[0].project_id)?,
            upstream,
        }))
    }

    /// Evaluates the pipeline that a bridge is to start.
    fn downstream(&self, start: Start) -> Result<Draft, BridgeError> {
        let Start { facts, bridge, trigger, archives, project, upstream } = start;
        match &bridge.downstream {
            Downstream::Child(includes) => {
                if upstream.iter().take_while(|pipeline| pipeline.is_child()).count() >= child::MAX_DEPTH {
                    return Err(ChildError::TooDeep.into());
                }
                let pipeline =
                    child::make(&facts.project, &trigger, facts.registry.as_ref(), &facts.project, &self.sources(includes, &archives))?;
                Ok(Draft {
                    mirror: self.mirror(&project)?,
                    seen: facts.project.clone(),
                    before_sha: upstream[0].before_sha.clone(),
                    trigger,
                    registry: facts.registry.clone(),
                    pipeline,
                    archives: Some(archives),
                })
            }
            Downstream::Project(path) => {
                let other = self.project(path).map_err(|_| BridgeError::NoProject { path: path.clone() })?;
                if other.id == project.id {
                    return Err(BridgeError::OwnProject);
                }
                let ref_name = bridge.branch.clone().unwrap_or_else(|| Mirror::default_branch(&other.repository));
                let is_same = |pipeline: &&PipelineRecord| {
                    (pipeline.project_id, &pipeline.ref_name, &pipeline.source) == (other.id, &ref_name, &trigger.source)
                };
                if upstream.iter().filter(is_same).count() >= ROUNDS_MAX {
                    return Err(BridgeError::Loop { path: path.clone() });
                }
                let new = NewPipeline { ref_name, source: trigger.source, variables: trigger.variables, before_sha: None };
                Ok(self.draft(&other, &new, trigger.upstream)?)
            }
        }
    }

    fn end_bridge(&self, bridge: &JobRecord) -> Result<bool, ServerError> {
        let (downstream, strategy) = {
            let mut book = self.book();
            self.load(&mut book, bridge.pipeline_id)?;
            let of_job = book.live.get(&bridge.pipeline_id).and_then(|live| live.pipeline.jobs[bridge.position].bridge.as_ref());
            let strategy = of_job.and_then(|bridge| bridge.strategy).unwrap_or(Strategy::Depend);
            (started_by(&book, bridge.id)?, strategy)
        };
        let ended = downstream.and_then(|pipeline| ENDED.into_iter().find(|status| status.as_str() == pipeline.status));
        let Some(status) = ended else { return Ok(false) };
        if downstream::is_success(status, strategy) {
            return self.write(bridge, None, &[Event::Ended(bridge.position, Outcome::Success)], None);
        }
        self.say(bridge.id, &format!("The downstream pipeline ended as {}.\n", status.as_str()))?;
        self.write(bridge, None, &[Event::Ended(bridge.position, failed())], Some(FailureReason::UnknownFailure.as_str()))
    }

    /// Writes what becomes of a bridge, with the pipeline that it starts. Tells whether it was still as it was seen.
    fn write(&self, bridge: &JobRecord, draft: Option<Draft>, events: &[Event], reason: Option<&str>) -> Result<bool, ServerError> {
        let mut book = self.book();
        self.load(&mut book, bridge.pipeline_id)?;
        let Book { connection, live, .. } = &mut *book;
        let Some(parent) = live.get_mut(&bridge.pipeline_id) else { return Ok(false) };
        let transaction = database::begin(connection)?;
        let as_seen = params![bridge.id.0, bridge.status.as_str()];
        if JobRecord::find(&transaction, "WHERE id = ? AND status = ? AND is_latest", as_seen)?.is_none() {
            return Ok(false);
        }
        let mut after = Live {
            pipeline: parent.pipeline.clone(),
            facts: parent.facts.clone(),
            state: parent.state.clone(),
            latest: parent.latest.clone(),
        };
        if bridge.started_at.is_none() {
            (after.state, after.latest) = after.step(&transaction, Event::Started(bridge.position))?;
            let started = "UPDATE jobs SET status = 'running', started_at = ?, is_acknowledged = 1 WHERE id = ?";
            transaction.execute(started, params![record::now(), bridge.id.0])?;
        }
        let begun = draft.map(|draft| draft.write(&transaction, Some(bridge.id))).transpose()?;
        transaction.execute("UPDATE jobs SET failure_reason = ? WHERE id = ?", params![reason, bridge.id.0])?;
        for event in events {
            (after.state, after.latest) = after.step(&transaction, event.clone())?;
        }
        transaction.commit()?;
        let is_finished = after.state.is_finished();
        *parent = after;
        if is_finished {
            live.remove(&bridge.pipeline_id);
        }
        live.extend(begun);
        Ok(true)
    }

    /// Writes to the trace of a bridge, which no runner does.
    fn say(&self, bridge: JobId, text: &str) -> Result<(), ServerError> {
        self.jobs.create(bridge)?;
        let path = self.jobs.trace(bridge);
        let write = || {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_data()
        };
        write().map_err(ServerError::file(&path))
    }

    /// Stops the child pipelines of a bridge. Those of other projects are theirs.
    pub(super) fn cancel_children(&self, bridge: &JobRecord) -> Result<(), ServerError> {
        let unfinished = "WHERE bridge_id = ? AND archives IS NOT NULL AND finished_at IS NULL";
        let children = PipelineRecord::list(&self.book().connection, unfinished, params![bridge.id.0])?;
        children.iter().try_for_each(|child| self.cancel_pipeline(child.id))
    }

    /// Returns the pipeline that a bridge has started.
    pub fn downstream_of(&self, bridge: JobId) -> Result<Option<PipelineRecord>, ServerError> {
        started_by(&self.book(), bridge)
    }

    /// Evaluates a child pipeline once more, as it was when its bridge started it.
    pub(super) fn child_again(
        &self,
        book: &mut Book,
        record: &PipelineRecord,
        bridge: JobId,
        seen: &Project,
        trigger: &Trigger,
    ) -> Result<Pipeline, ServerError> {
        let bridge = book.job(bridge)?;
        let was_there = book.live.contains_key(&bridge.pipeline_id);
        self.load(book, bridge.pipeline_id)?;
        let parent = book.live.get(&bridge.pipeline_id).map(|live| (live.pipeline.jobs[bridge.position].clone(), live.state.is_finished()));
        if parent.as_ref().is_some_and(|(_, is_finished)| *is_finished && !was_there) {
            book.live.remove(&bridge.pipeline_id);
        }
        let downstream = parent.and_then(|(job, _)| job.bridge).map(|bridge| bridge.downstream);
        let Some(Downstream::Child(includes)) = downstream else { return Err(ServerError::NotFound { what: "parent pipeline" }) };
        let archives: Vec<Option<u64>> = serde_json::from_str(record.archives.as_deref().unwrap_or("[]")).unwrap_or_default();
        let archives: Vec<Option<JobId>> = archives.into_iter().map(|job| job.map(JobId)).collect();
        let made = child::make(seen, trigger, self.options.registry.as_ref(), seen, &self.sources(&includes, &archives));
        made.map_err(|error| ServerError::invalid(error.to_string()))
    }

    fn sources(&self, includes: &[ChildInclude], archives: &[Option<JobId>]) -> Vec<child::Source> {
        let source = |(include, archive): (&ChildInclude, &Option<JobId>)| child::Source {
            include: include.clone(),
            archive: archive.map(|job| self.jobs.artifact(job, "archive")),
        };
        includes.iter().zip(archives).map(source).collect()
    }
}

fn failed() -> Outcome {
    Outcome::Failed { reason: FailureReason::UnknownFailure, exit_code: None }
}

fn started_by(book: &Book, bridge: JobId) -> Result<Option<PipelineRecord>, ServerError> {
    PipelineRecord::find(&book.connection, "WHERE bridge_id = ? ORDER BY id DESC", params![bridge.0])
}

/// Returns the jobs that have the files of a child pipeline's configuration in their archives.
fn archives(connection: &rusqlite::Connection, live: &Live, includes: &[ChildInclude]) -> Result<Vec<Option<JobId>>, ServerError> {
    let archive = |include: &ChildInclude| {
        let ChildInclude::Artifact { job, .. } = include else { return Ok(None) };
        let Some(position) = live.pipeline.jobs.iter().position(|known| known.name == *job) else { return Ok(None) };
        let id = live.latest[position];
        let found = ArtifactRecord::find(connection, "WHERE job_id = ? AND type = 'archive' AND NOT is_erased", params![id.0])?;
        Ok(found.map(|_| id))
    };
    includes.iter().map(archive).collect()
}

/// Returns a pipeline, that which started it, and so on.
fn upstream(book: &Book, pipeline: u64) -> Result<Vec<PipelineRecord>, ServerError> {
    let mut list = vec![book.pipeline(pipeline)?];
    while let Some(bridge) = list.last().and_then(|pipeline| pipeline.bridge_id) {
        list.push(book.pipeline(book.job(bridge)?.pipeline_id)?);
    }
    Ok(list)
}
