//! From the bytes of `.gitlab-ci.yml` to a pipeline, and to everything that is wrong with it.
//!
//! Plain functions over values: no files, network, clock, environment or async. Files come through a [`Loader`] that the caller gives.
//! User input is never an `Err`: what was understood is returned together with [`Diagnostic`]s.
//!
//! ```
//! use dockwright_pipeline::{PipelineContext, evaluate, has_errors, parse};
//! use indexmap::IndexMap;
//!
//! let files = IndexMap::from([(".gitlab-ci.yml".to_owned(), "test:\n  script: [make]\n".to_owned())]);
//! let context = PipelineContext::default();
//! let parsed = parse(".gitlab-ci.yml", &files, &context);
//! assert!(!has_errors(&parsed.problems));
//! let (pipeline, problems) = evaluate(&parsed.config, &context);
//! assert!(problems.is_empty());
//! assert_eq!(pipeline.jobs[0].script, ["make"]);
//! ```

mod source;

mod diagnostic;
mod render;
mod suggestion;

mod loader;
mod repository;
mod yaml;

mod compose;
mod fnmatch;
mod glob;

mod config;
mod expression;
mod keyword;
mod merged;
mod outline;
mod schema;

mod assertion;
mod evaluate;
mod explain;
mod pipeline;
mod variables;

pub use assertion::{Case, Situation, read_cases};
pub use config::{Config, Parsed, parse};
pub use diagnostic::{Diagnostic, Note, Severity, has_errors};
pub use evaluate::evaluate;
pub use explain::{ClauseTrace, Explanation, Origin, PolicyTrace, RuleTrace, VariableOrigin, explain, variables_of};
pub use glob::matching_paths;
pub use keyword::{
    coverage::Coverage,
    duration::parse as parse_duration,
    shape::{Key, Keys, Name, Shape, Step, language},
};
pub use loader::{Component, ComponentAddress, LoadError, LoadErrorKind, Loaded, Loader, Place, Request};
pub use merged::Merged;
pub use outline::{Cursor, Mark, Outline};
pub use pipeline::{
    AllowFailure, Artifacts, Bridge, Cache, CacheKey, ChildInclude, Downstream, Environment, Image, Job, KeepWhen, Need, Node, OtherNeed,
    Pipeline, PipelineContext, Release, ReleaseLink, Report, Retry, Strategy, Variable, When,
};
pub use render::{Style, render, render_line};
pub use repository::Repository;
pub use schema::json_schema;
pub use source::{Position, Source, SourceId, Sources, Span};
pub use variables::{CircularReference, ExpandableVariable, expand_blank, expand_existing, sort_and_expand};
