//! The types that a coordinator and a runner exchange: GitLab's runner API v4.
//!
//! Source: `docs.gitlab.com/runner/` and the API's request and response bodies as GitLab 19 sends them. Unknown fields are ignored on
//! reading, and absent ones take the defaults that GitLab's own runner takes, so that payloads of older and newer servers are accepted.
//! There is no behaviour here beyond parsing and validation.

mod payload;
mod runner;
mod secret;
mod update;

pub use payload::{
    Artifact, ArtifactFormat, ArtifactWhen, Cache, CachePolicy, Credentials, Dependency, DependencyFile, DockerOptions, Features, GitInfo,
    Hook, HookName, Image, ImageOptions, JobId, JobInfo, JobPayload, RefType, RunnerInfo, Step, Variable,
};
pub use runner::{JobRequest, RegisteredRunner, Registration, RunnerCredentials, RunnerDetails, RunnerDetailsConfig, RunnerFeatures};
pub use secret::{JobToken, RunnerToken};
pub use update::{FailureReason, JobState, JobUpdate, TraceChecksum};
