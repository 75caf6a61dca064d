//! What a job with `trigger` hands to the pipeline that it starts, and what that pipeline's end means for the job.

use dockwright_job::JobId;
use dockwright_pipeline::{Bridge, Job, Strategy, expand_blank};
use indexmap::IndexMap;

use crate::{
    event::PipelineStatus,
    payload::PayloadFacts,
    predefined::{self, GivenVariable, Trigger, Upstream},
};

/// Returns the variables that a job has before it starts.
pub(crate) fn visible(facts: &PayloadFacts, job: &Job) -> IndexMap<String, String> {
    let mut visible = predefined::project_variables(&facts.project, &facts.trigger, facts.registry.as_ref());
    visible.extend(facts.pipeline_variables());
    visible.extend(predefined::job_variables(job));
    visible.extend(job.variables.iter().map(|variable| (variable.key.clone(), variable.value.clone())));
    visible.extend(facts.trigger.variables.iter().map(|given| (given.key.clone(), given.value.clone())));
    visible
}

/// Returns what the pipeline of a bridge is started with.
pub(crate) fn trigger(parent: &PayloadFacts, id: JobId, job: &Job, bridge: &Bridge, source: &str) -> Trigger {
    let given = &parent.trigger.variables;
    let visible = visible(parent, job);
    let of_job = job.variables.iter().filter(|_| bridge.yaml_variables).map(|variable| GivenVariable {
        key: variable.key.clone(),
        value: if variable.raw { variable.value.clone() } else { expand_blank(&variable.value, &visible) },
        masked: false,
        file: false,
    });
    let mut variables: Vec<GivenVariable> = of_job.collect();
    if bridge.pipeline_variables {
        variables.retain(|variable| given.iter().all(|given| given.key != variable.key));
        variables.extend(given.clone());
    }
    let upstream = Upstream { project_id: parent.project.id, pipeline_id: parent.pipeline_id, job: id };
    Trigger { source: source.to_owned(), variables, inputs: Vec::new(), upstream: Some(upstream) }
}

/// Tells whether a job succeeds whose pipeline has ended like this.
pub(crate) fn is_success(status: PipelineStatus, strategy: Strategy) -> bool {
    matches!((status, strategy), (PipelineStatus::Success, _) | (PipelineStatus::Skipped, Strategy::Mirror))
}
