//! The evaluated pipeline: which jobs run for one ref and event, and everything that is known about them before they run.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::{keyword::coverage::Coverage, repository::Repository, source::Span};

/// What a pipeline is evaluated for.
#[derive(Debug, Clone, Default)]
pub struct PipelineContext {
    /// Predefined variables of the project and the pipeline (`CI_COMMIT_BRANCH`, `CI_PIPELINE_SOURCE`, …).
    pub predefined: IndexMap<String, String>,
    /// Variables given when the pipeline was started; they win over all of the configuration's.
    pub variables: IndexMap<String, String>,
    /// Inputs given when the pipeline was started, for `spec:inputs` of the configuration.
    pub inputs: IndexMap<String, String>,
    /// What `changes` and `exists` look at. Without it, everything changed and no file exists.
    pub repository: Option<Arc<dyn Repository>>,
}

/// Jobs that run, in the order of their stages and then of the configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pipeline {
    /// `workflow:name`, expanded.
    pub name: Option<String>,
    /// Stages that have jobs, in order.
    pub stages: Vec<String>,
    pub jobs: Vec<Job>,
    /// A failed job cancels the others (`workflow:auto_cancel:on_job_failure: all`).
    pub cancel_on_failure: bool,
}

impl Pipeline {
    /// Returns the job of this name.
    pub fn job(&self, name: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.name == name)
    }
}

/// One entry of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub name: String,
    /// The entry of the configuration that it is made of: its name, unless that has `parallel`.
    pub group: String,
    /// Its place among the jobs of `parallel`.
    pub node: Option<Node>,
    pub stage: String,
    /// The job's name in the configuration.
    pub span: Span,
    pub image: Option<Image>,
    pub services: Vec<Image>,
    /// Variables of the configuration that apply, unexpanded, in precedence order without duplicates.
    pub variables: Vec<Variable>,
    /// `before_script` and `script`, which share one shell.
    pub script: Vec<String>,
    pub after_script: Vec<String>,
    /// `hooks:pre_get_sources_script`.
    pub pre_get_sources_script: Vec<String>,
    /// Absent: the job waits for all earlier stages.
    pub needs: Option<Vec<Need>>,
    /// Jobs elsewhere whose artifacts it gets; it waits for none of them.
    pub other_needs: Vec<OtherNeed>,
    /// Absent: artifacts of all jobs that it waits for.
    pub dependencies: Option<Vec<String>>,
    pub when: When,
    /// How long a delayed job waits.
    pub start_in_secs: Option<u64>,
    pub allow_failure: AllowFailure,
    pub artifacts: Option<Artifacts>,
    pub cache: Vec<Cache>,
    pub timeout_secs: Option<u64>,
    pub retry: Retry,
    pub tags: Vec<String>,
    pub interruptible: bool,
    pub environment: Option<Environment>,
    /// Finds the percentage of covered code in the trace.
    pub coverage: Option<Coverage>,
    /// It has the steps of `run` instead of a script.
    pub has_steps: bool,
    /// It starts another pipeline instead of a script.
    pub bridge: Option<Bridge>,
    /// What is made of the tag when the job has succeeded.
    pub release: Option<Release>,
    /// At most one job of a group runs at a time. Expanded.
    pub resource_group: Option<String>,
}

/// `release`. Its texts may hold variables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Release {
    pub tag_name: String,
    pub tag_message: Option<String>,
    pub name: Option<String>,
    /// A text, or the path of a file.
    pub description: String,
    /// What the tag is made from; the commit of the pipeline when absent.
    pub ref_name: Option<String>,
    pub released_at: Option<String>,
    pub milestones: Vec<String>,
    pub links: Vec<ReleaseLink>,
}

/// An entry of `release:assets:links`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReleaseLink {
    pub name: String,
    pub url: String,
    pub filepath: Option<String>,
    pub link_type: Option<String>,
}

/// `trigger`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    pub downstream: Downstream,
    /// Branch or tag of another project; absent: its default branch. Expanded.
    pub branch: Option<String>,
    /// Absent: the job succeeds when the pipeline is made.
    pub strategy: Option<Strategy>,
    /// The variables of the job are those that the pipeline is started with.
    pub yaml_variables: bool,
    /// So are those that this pipeline was started with.
    pub pipeline_variables: bool,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { downstream: Downstream::Child(Vec::new()), branch: None, strategy: None, yaml_variables: true, pipeline_variables: false }
    }
}

/// The pipeline that a bridge starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Downstream {
    /// Of the same project and commit, from other files.
    Child(Vec<ChildInclude>),
    /// Of another project, by its path.
    Project(String),
}

/// A part of a child pipeline's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildInclude {
    /// An entry of `include`, in JSON.
    Entry(String),
    /// A file among the artifacts of an earlier job.
    Artifact {
        path: String,
        job: String,
        /// Values for its `spec:inputs`, as an object in JSON.
        inputs: Option<String>,
    },
}

/// What becomes of the job, given what becomes of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// It waits; whatever is no success fails it.
    Depend,
    /// It waits, and ends as the pipeline does.
    Mirror,
}

/// The place of a job among those made by `parallel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// From 1 (`CI_NODE_INDEX`).
    pub index: u32,
    /// `CI_NODE_TOTAL`.
    pub total: u32,
}

/// An image of a job or of a service. Names hold variables that the runner expands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    pub name: String,
    /// Services only: names separated by commas or spaces.
    pub alias: Option<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub pull_policy: Vec<String>,
    pub variables: Vec<Variable>,
    pub platform: Option<String>,
    pub user: Option<String>,
}

/// A variable of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub key: String,
    pub value: String,
    /// `expand: false`.
    pub raw: bool,
}

/// An entry of `needs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub job: String,
    pub artifacts: bool,
    pub optional: bool,
    pub span: Span,
}

/// An entry of `needs` about a job elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherNeed {
    /// Of a pipeline of the same family.
    Pipeline {
        /// Its number, usually by a variable.
        pipeline: String,
        job: String,
        artifacts: bool,
    },
    /// The latest of another project.
    Project { project: String, job: String, artifacts: bool },
}

/// When a job runs, given how the jobs before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum When {
    #[default]
    OnSuccess,
    OnFailure,
    Always,
    Manual,
    /// As `OnSuccess`, after a time.
    Delayed,
}

impl When {
    /// Returns GitLab's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnSuccess => "on_success",
            Self::OnFailure => "on_failure",
            Self::Always => "always",
            Self::Manual => "manual",
            Self::Delayed => "delayed",
        }
    }
}

/// Which failures of a job do not fail the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AllowFailure {
    #[default]
    Never,
    Always,
    ExitCodes(Vec<i32>),
}

impl AllowFailure {
    /// Tells whether a failure is allowed; `exit_code` is absent when the script did not get to exit.
    pub fn allows(&self, exit_code: Option<i32>) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::ExitCodes(codes) => exit_code.is_some_and(|code| codes.contains(&code)),
        }
    }
}

/// When a job's artifacts or cache are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeepWhen {
    #[default]
    OnSuccess,
    OnFailure,
    Always,
}

/// `artifacts`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Artifacts {
    pub name: Option<String>,
    pub untracked: bool,
    pub paths: Vec<String>,
    pub exclude: Vec<String>,
    pub when: KeepWhen,
    pub expire_in: Option<String>,
    pub reports: Vec<Report>,
}

/// A report, sent apart from the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// `dotenv`, `junit`, …; for `coverage_report` its format.
    pub kind: String,
    pub paths: Vec<String>,
}

/// An entry of `cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    pub key: CacheKey,
    pub untracked: bool,
    pub paths: Vec<String>,
    pub when: KeepWhen,
    /// `pull-push`, `pull`, `push` or a variable.
    pub policy: String,
    pub fallback_keys: Vec<String>,
}

/// How a cache is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheKey {
    /// May hold variables; `default` when nothing was written.
    Text(String),
    /// A digest of the files' Git blobs; computing it needs the repository.
    Files { files: Vec<String>, prefix: Option<String> },
    /// A digest of the last commits that touched the files.
    FilesCommits { files: Vec<String>, prefix: Option<String> },
}

/// `retry`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retry {
    pub max: u8,
    /// Failure reasons in GitLab's words; holds `always` for all.
    pub when: Vec<String>,
    pub exit_codes: Vec<i32>,
}

/// `environment`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Expanded.
    pub name: String,
    /// Unexpanded: it may use variables of the job.
    pub url: Option<String>,
    pub action: String,
    pub tier: Option<String>,
}
