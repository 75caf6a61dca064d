//! From parsed configuration to a pipeline and everything that is wrong with either.

use dockwright_pipeline::{Diagnostic, Parsed, Pipeline, PipelineContext, evaluate, has_errors};

/// Evaluates what was parsed. After errors in the text there is nothing to evaluate, and the pipeline is empty.
pub(crate) fn evaluated(parsed: &Parsed, context: &PipelineContext) -> (Pipeline, Vec<Diagnostic>) {
    let mut problems = parsed.problems.clone();
    if has_errors(&problems) {
        return (Pipeline::default(), problems);
    }
    let (pipeline, more) = evaluate(&parsed.config, context);
    problems.extend(more);
    (pipeline, problems)
}
