//! What a job with `trigger` hands to the pipeline that it starts, and what that pipeline's end means for the job.

use dockwright_pipeline::{Bridge, Job, Strategy, expand_blank};

use crate::{
    event::PipelineStatus,
    payload::PayloadFacts,
    predefined::{self, GivenVariable, Trigger},
};

/// Returns what the pipeline of a bridge is started with.
pub(crate) fn trigger(parent: &PayloadFacts, job: &Job, bridge: &Bridge, source: &str) -> Trigger {
    let given = &parent.trigger.variables;
    let mut visible = predefined::project_variables(&parent.project, &parent.trigger, parent.registry.as_ref());
    visible.extend(job.variables.iter().map(|variable| (variable.key.clone(), variable.value.clone())));
    visible.extend(given.iter().map(|given| (given.key.clone(), given.value.clone())));
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
    Trigger { source: source.to_owned(), variables, inputs: Vec::new() }
}

/// Tells whether a job succeeds whose pipeline has ended like this.
pub(crate) fn is_success(status: PipelineStatus, strategy: Strategy) -> bool {
    matches!((status, strategy), (PipelineStatus::Success, _) | (PipelineStatus::Skipped, Strategy::Mirror))
}
