//! From the bytes of `.gitlab-ci.yml` to a pipeline, and to everything that is wrong with it.
//!
//! Plain functions over values: no files, network, clock, environment or async. Files come through a loader that the caller gives.
//! User input is never an `Err`: what was understood is returned together with [`Diagnostic`]s.

mod diagnostic;
mod pipeline;
mod source;

pub use diagnostic::{Diagnostic, Note, Severity, has_errors};
pub use pipeline::{
    AllowFailure, Artifacts, Cache, CacheKey, Environment, Image, Job, KeepWhen, Need, Pipeline, PipelineContext, Report, Retry, Variable,
    When,
};
pub use source::{Position, Source, SourceId, Sources, Span};
