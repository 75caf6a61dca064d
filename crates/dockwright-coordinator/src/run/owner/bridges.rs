//! Jobs with `trigger`: no runner gets them, their owner starts the child pipelines itself.
//!
//! A child has an owner of its own. It shares the runners, the directory and the events with its parent, and ends when whatever stops the
//! job that started it does.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::{Arc, PoisonError},
    time::Instant,
};

use dockwright_job::FailureReason;
use dockwright_pipeline::{Bridge, ChildInclude, Downstream, Job};
use indexmap::IndexMap;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{Descent, EndedChild, Owner};
use crate::{
    downstream,
    event::{JobEvent, JobStatus, PipelineResult},
    include::Includes,
    payload::PayloadFacts,
    run::{
        REQUEST_QUEUE, Request,
        child::{self, ChildError},
    },
    schedule::{Event, JobIndex, Outcome},
};

impl Owner {
    /// Starts the pipelines of pending bridges.
    pub(super) async fn start_bridges(&mut self) {
        while let Some(job) = self.bridges.pop_front() {
            let id = self.latest[job];
            self.runs[&id].started = Some(Instant::now());
            self.step(Event::Started(job)).await;
            self.emit(JobEvent::Started { job: id }).await;
            let Some(bridge) = self.pipeline.jobs[job].bridge.clone() else { continue };
            let started = match &bridge.downstream {
                Downstream::Project(project) => {
                    self.say(id, &format!("The pipeline of {project} is not started locally.\n")).await;
                    Ok(())
                }
                Downstream::Child(includes) => self.start_child(job, &bridge, includes).await,
            };
            let is_child = matches!(bridge.downstream, Downstream::Child(_));
            match started {
                Ok(()) if is_child && bridge.strategy.is_some() => {}
                Ok(()) => self.step(Event::Ended(job, Outcome::Success)).await,
                Err(error) => {
                    self.say(id, &format!("ERROR: {error}\n")).await;
                    self.fail_bridge(job).await;
                }
            }
        }
    }

    async fn fail_bridge(&mut self, job: JobIndex) {
        let reason = FailureReason::UnknownFailure;
        self.runs[&self.latest[job]].reason = Some(reason);
        self.step(Event::Ended(job, Outcome::Failed { reason, exit_code: None })).await;
    }

    async fn start_child(&mut self, job: JobIndex, bridge: &Bridge, includes: &[ChildInclude]) -> Result<(), ChildError> {
        if self.descent.depth >= child::MAX_DEPTH {
            return Err(ChildError::TooDeep);
        }
        let trigger = downstream::trigger(&self.facts, self.latest[job], &self.pipeline.jobs[job], bridge, "parent_pipeline");
        let sources: Vec<child::Source> =
            includes.iter().map(|include| child::Source { include: include.clone(), archive: self.archive_of(include) }).collect();
        let parent = self.facts.clone();
        let given = trigger.clone();
        let includes = Arc::clone(&self.family.includes);
        let made = tokio::task::spawn_blocking(move || {
            let includes = includes.lock().unwrap_or_else(PoisonError::into_inner);
            let files = Includes::new(&parent.project, includes.options.clone(), &*includes.web)?;
            let made = child::make(&parent.project, &given, parent.registry.as_ref(), &files, &sources);
            files.save()?;
            made
        });
        let pipeline = made.await.expect("making a pipeline does not panic")?;
        let id = self.latest[job];
        let (requests, received) = mpsc::channel(REQUEST_QUEUE);
        let pipeline_id = self.directory.next_pipeline_id()?;
        let facts = PayloadFacts {
            project: self.facts.project.clone(),
            trigger,
            registry: self.facts.registry.clone(),
            is_remote: false,
            pipeline_id,
            pipeline_iid: pipeline_id,
            pipeline_name: pipeline.name.clone(),
            created: Timestamp::now(),
        };
        let descent = Descent {
            depth: self.descent.depth + 1,
            prefix: format!("{} > ", self.shown_name(&self.pipeline.jobs[job])),
            requests: Some(requests),
        };
        let (directory, stops) = (Arc::clone(&self.directory), self.stops.of_child(id));
        let child = Self::with_descent(pipeline, facts, directory, stops, self.events.clone(), self.family.clone(), descent)?;
        let ended = run_child(child, received);
        self.children.spawn(async move { EndedChild { bridge: job, result: ended.await } });
        Ok(())
    }

    /// Returns the variables that a job has before it starts.
    pub(super) fn visible(&self, job: &Job) -> IndexMap<String, String> {
        downstream::visible(&self.facts, job)
    }

    fn archive_of(&self, include: &ChildInclude) -> Option<PathBuf> {
        let ChildInclude::Artifact { job, .. } = include else { return None };
        let index = self.pipeline.jobs.iter().position(|known| known.name == *job)?;
        let id = self.latest[index];
        self.runs[&id].artifacts.contains_key("archive").then(|| self.jobs.artifact(id, "archive"))
    }

    /// Ends the job that waits for a child pipeline, if it does.
    pub(super) async fn end_child(&mut self, ended: EndedChild) {
        let EndedChild { bridge: job, result } = ended;
        self.ended_children.extend(result.jobs);
        let strategy = self.pipeline.jobs[job].bridge.as_ref().and_then(|bridge| bridge.strategy);
        let Some(strategy) = strategy.filter(|_| self.state.status(job) == JobStatus::Running) else { return };
        if downstream::is_success(result.status, strategy) {
            self.step(Event::Ended(job, Outcome::Success)).await;
        } else {
            self.say(self.latest[job], &format!("The child pipeline ended as {}.\n", result.status.as_str())).await;
            self.fail_bridge(job).await;
        }
    }
}

/// Runs a child to its end. The named type keeps the future of an owner from containing itself.
fn run_child(child: Owner, requests: mpsc::Receiver<Request>) -> Pin<Box<dyn Future<Output = PipelineResult> + Send>> {
    Box::pin(child.run(requests))
}
