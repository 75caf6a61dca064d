//! GitLab's predefined variables, as far as a local run can know them.

use std::sync::Arc;

use dockwright_job::JobId;
use dockwright_pipeline::{Job, PipelineContext, When};
use indexmap::IndexMap;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::project::{Base, MergeRequest, NO_COMMIT, Project, ProjectFiles};

/// The GitLab whose behaviour is followed (`CI_SERVER_VERSION`).
const SERVER_VERSION: [&str; 3] = ["19", "3", "0"];
/// Longest commit message in a variable.
const MESSAGE_SIZE_BYTES: usize = 100_000;
/// Time that a job may take when it does not say, as in a new project on GitLab.
pub(crate) const TIMEOUT_SECS: u64 = 3600;
const CONFIG_PATH: &str = ".gitlab-ci.yml";

/// The registry that jobs push to, as they reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryFacts {
    /// `host[:port]`.
    pub host: String,
}

impl RegistryFacts {
    /// User that goes with a job's token.
    pub const USER: &'static str = "gitlab-ci-token";

    /// Returns the name under which a project's images are kept (`CI_REGISTRY_IMAGE`).
    pub fn image(&self, project_path: &str) -> String {
        format!("{}/{}", self.host, project_path.to_lowercase())
    }
}

/// What a pipeline is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// `CI_PIPELINE_SOURCE`: `push`, `web`, `schedule`, …
    pub source: String,
    pub variables: Vec<GivenVariable>,
    /// Values for `spec:inputs` of the configuration, by name.
    pub inputs: Vec<(String, String)>,
    /// What started it, when a job of another pipeline did.
    pub upstream: Option<Upstream>,
}

/// The job that started a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream {
    pub project_id: u64,
    pub pipeline_id: u64,
    pub job: JobId,
}

impl Default for Trigger {
    /// A push without variables.
    fn default() -> Self {
        Self { source: "push".to_owned(), variables: Vec::new(), inputs: Vec::new(), upstream: None }
    }
}

/// A variable that a pipeline is started with. It wins over those of the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenVariable {
    pub key: String,
    pub value: String,
    /// The value is replaced in the trace.
    pub masked: bool,
    /// The job gets the path of a file with the value.
    pub file: bool,
}

/// Masked values do not print.
impl std::fmt::Debug for GivenVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.masked { "[masked]" } else { &self.value };
        write!(f, "{}={value:?}", self.key)
    }
}

/// Returns what a configuration is evaluated for.
pub fn context(project: &Project, trigger: &Trigger, registry: Option<&RegistryFacts>) -> PipelineContext {
    PipelineContext {
        predefined: project_variables(project, trigger, registry),
        variables: trigger.variables.iter().map(|variable| (variable.key.clone(), variable.value.clone())).collect(),
        inputs: trigger.inputs.iter().cloned().collect(),
        repository: Some(Arc::new(ProjectFiles::new(project, Base::of(project, &trigger.source)))),
    }
}

/// Returns the variables that all jobs share and that rules and includes see.
pub(crate) fn project_variables(project: &Project, trigger: &Trigger, registry: Option<&RegistryFacts>) -> IndexMap<String, String> {
    let mut variables = IndexMap::new();
    server(&mut variables, project);
    names(&mut variables, project);
    commit(&mut variables, project);
    if let Some(request) = &project.merge_request {
        merge_request(&mut variables, project, request);
    }
    let mut set = |key: &str, value: String| variables.insert(key.to_owned(), value);
    set("CI_PIPELINE_SOURCE", trigger.source.clone());
    if trigger.source == "trigger" {
        set("CI_PIPELINE_TRIGGERED", "true".to_owned());
    }
    if let Some(upstream) = trigger.upstream {
        set("CI_UPSTREAM_PIPELINE_ID", upstream.pipeline_id.to_string());
        set("CI_UPSTREAM_PROJECT_ID", upstream.project_id.to_string());
        set("CI_UPSTREAM_JOB_ID", upstream.job.to_string());
    }
    set("CI_CONFIG_PATH", CONFIG_PATH.to_owned());
    set("GITLAB_USER_NAME", project.user.name.clone());
    set("GITLAB_USER_EMAIL", project.user.email.clone());
    set("GITLAB_USER_LOGIN", project.user.email.split('@').next().unwrap_or_default().to_owned());
    set("GITLAB_USER_ID", "1".to_owned());
    if let Some(registry) = registry {
        set("CI_REGISTRY", registry.host.clone());
        set("CI_REGISTRY_IMAGE", registry.image(&project.remote.path));
    }
    variables
}

fn server(variables: &mut IndexMap<String, String>, project: &Project) {
    let remote = &project.remote;
    let url = remote.server_url();
    let [major, minor, patch] = SERVER_VERSION;
    let mut set = |key: &str, value: String| variables.insert(key.to_owned(), value);
    set("CI", "true".to_owned());
    set("GITLAB_CI", "true".to_owned());
    // Lets a configuration tell a local run apart.
    set("DOCKWRIGHT", "true".to_owned());
    set("CI_SERVER", "yes".to_owned());
    set("CI_SERVER_NAME", "GitLab".to_owned());
    set("CI_SERVER_URL", url.clone());
    set("CI_SERVER_HOST", remote.host.clone());
    set("CI_SERVER_PORT", remote.port.to_string());
    set("CI_SERVER_PROTOCOL", remote.protocol.clone());
    set("CI_SERVER_FQDN", remote.fqdn());
    set("CI_SERVER_SHELL_SSH_HOST", remote.host.clone());
    set("CI_SERVER_SHELL_SSH_PORT", remote.ssh_port.to_string());
    set("CI_SERVER_VERSION", format!("{major}.{minor}.{patch}"));
    set("CI_SERVER_VERSION_MAJOR", major.to_owned());
    set("CI_SERVER_VERSION_MINOR", minor.to_owned());
    set("CI_SERVER_VERSION_PATCH", patch.to_owned());
    set("CI_API_V4_URL", format!("{url}/api/v4"));
    set("CI_API_GRAPHQL_URL", format!("{url}/api/graphql"));
    set("GITLAB_FEATURES", String::new());
}

fn names(variables: &mut IndexMap<String, String>, project: &Project) {
    let remote = &project.remote;
    let mut set = |key: &str, value: String| variables.insert(key.to_owned(), value);
    set("CI_PROJECT_ID", project.id.to_string());
    set("CI_PROJECT_NAME", remote.name().to_owned());
    set("CI_PROJECT_TITLE", remote.name().to_owned());
    set("CI_PROJECT_DESCRIPTION", String::new());
    set("CI_PROJECT_PATH", remote.path.clone());
    set("CI_PROJECT_PATH_SLUG", slug(&remote.path));
    set("CI_PROJECT_NAMESPACE", remote.namespace().to_owned());
    set("CI_PROJECT_NAMESPACE_SLUG", slug(remote.namespace()));
    set("CI_PROJECT_NAMESPACE_ID", stable_id(remote.namespace()).to_string());
    set("CI_PROJECT_ROOT_NAMESPACE", remote.root_namespace().to_owned());
    set("CI_PROJECT_ROOT_NAMESPACE_SLUG", slug(remote.root_namespace()));
    set("CI_PROJECT_TOPICS", String::new());
    set("CI_PROJECT_REPOSITORY_LANGUAGES", String::new());
    set("CI_PROJECT_URL", format!("{}/{}", remote.server_url(), remote.path));
    set("CI_PROJECT_VISIBILITY", "private".to_owned());
    set("CI_DEFAULT_BRANCH", project.default_branch.clone());
    set("CI_DEFAULT_BRANCH_SLUG", slug(&project.default_branch));
    set("CI_CONFIG_REF_URI", format!("{}/{}//{CONFIG_PATH}@{}", remote.fqdn(), remote.path, project.full_ref()));
}

fn commit(variables: &mut IndexMap<String, String>, project: &Project) {
    let message = truncated(&project.commit.message);
    let mut set = |key: &str, value: String| variables.insert(key.to_owned(), value);
    set("CI_COMMIT_SHA", project.sha.clone());
    set("CI_COMMIT_SHORT_SHA", project.sha.chars().take(8).collect());
    set("CI_COMMIT_BEFORE_SHA", if project.is_tag { NO_COMMIT.to_owned() } else { project.before_sha.clone() });
    set("CI_COMMIT_REF_NAME", project.ref_name.clone());
    set("CI_COMMIT_REF_SLUG", slug(&project.ref_name));
    if project.is_tag {
        set("CI_COMMIT_TAG", project.ref_name.clone());
        set("CI_COMMIT_TAG_MESSAGE", project.commit.tag_message.clone().unwrap_or_default());
    } else if project.merge_request.is_none() {
        set("CI_COMMIT_BRANCH", project.ref_name.clone());
    }
    set("CI_COMMIT_REF_PROTECTED", is_protected(project).to_string());
    set("CI_COMMIT_MESSAGE", message.to_owned());
    set("CI_COMMIT_MESSAGE_IS_TRUNCATED", (message.len() < project.commit.message.len()).to_string());
    set("CI_COMMIT_TITLE", message.lines().next().unwrap_or_default().to_owned());
    set("CI_COMMIT_DESCRIPTION", description(message));
    set("CI_COMMIT_TIMESTAMP", project.commit.timestamp.clone());
    set("CI_COMMIT_AUTHOR", project.commit.author.clone());
    // Nobody has an account here; GitLab leaves it empty for an author whom it does not know.
    set("CI_COMMIT_USER_LOGIN", String::new());
}

/// A merge request that nobody has opened yet: the first of the project, with the commit's message.
fn merge_request(variables: &mut IndexMap<String, String>, project: &Project, request: &MergeRequest) {
    let remote = &project.remote;
    let message = truncated(&project.commit.message);
    let mut set = |key: &str, value: String| variables.insert(format!("CI_MERGE_REQUEST_{key}"), value);
    set("ID", "1".to_owned());
    set("IID", "1".to_owned());
    set("REF_PATH", "refs/merge-requests/1/head".to_owned());
    set("EVENT_TYPE", "detached".to_owned());
    set("TITLE", message.lines().next().unwrap_or_default().to_owned());
    set("DESCRIPTION", description(message).trim().to_owned());
    set("DESCRIPTION_IS_TRUNCATED", "false".to_owned());
    set("DRAFT", "false".to_owned());
    set("SQUASH_ON_MERGE", "false".to_owned());
    set("DIFF_ID", "1".to_owned());
    set("DIFF_BASE_SHA", request.base_sha.clone());
    set("SOURCE_BRANCH_NAME", project.ref_name.clone());
    set("SOURCE_BRANCH_PROTECTED", is_protected(project).to_string());
    set("SOURCE_BRANCH_SHA", String::new());
    set("TARGET_BRANCH_NAME", request.target_branch.clone());
    set("TARGET_BRANCH_PROTECTED", (request.target_branch == project.default_branch).to_string());
    set("TARGET_BRANCH_SHA", String::new());
    for of in ["", "SOURCE_"] {
        set(&format!("{of}PROJECT_ID"), stable_id(&remote.path).to_string());
        set(&format!("{of}PROJECT_PATH"), remote.path.clone());
        set(&format!("{of}PROJECT_URL"), format!("{}/{}", remote.server_url(), remote.path));
    }
    variables.insert("CI_OPEN_MERGE_REQUESTS".to_owned(), format!("{}!1", remote.path));
}

/// The default branch is protected, as in a new project on GitLab.
pub(crate) fn is_protected(project: &Project) -> bool {
    !project.is_tag && project.ref_name == project.default_branch
}

fn truncated(message: &str) -> &str {
    let end = (0..=message.len().min(MESSAGE_SIZE_BYTES)).rev().find(|end| message.is_char_boundary(*end));
    &message[..end.unwrap_or(0)]
}

/// A long title is not a title: then the whole message is the description.
fn description(message: &str) -> String {
    let (title, rest) = message.split_once('\n').unwrap_or((message, ""));
    let description = if title.chars().count() >= 100 { message } else { rest };
    description.strip_suffix('\n').unwrap_or(description).to_owned()
}

/// Returns the variables of a job that rules of other jobs do not see.
pub(crate) fn job_variables(job: &Job) -> IndexMap<String, String> {
    let mut variables = IndexMap::new();
    let mut set = |key: &str, value: String| variables.insert(key.to_owned(), value);
    set("CI_JOB_NAME", job.name.clone());
    set("CI_JOB_NAME_SLUG", slug(&job.name));
    set("CI_JOB_GROUP_NAME", job.group.clone());
    set("CI_JOB_STAGE", job.stage.clone());
    set("CI_JOB_TIMEOUT", job.timeout_secs.unwrap_or(TIMEOUT_SECS).to_string());
    if matches!(job.when, When::Manual | When::Delayed) {
        set("CI_JOB_MANUAL", "true".to_owned());
    }
    if let Some(node) = job.node {
        set("CI_NODE_INDEX", node.index.to_string());
    }
    set("CI_NODE_TOTAL", job.node.map_or(1, |node| node.total).to_string());
    if let Some(image) = &job.image {
        set("CI_JOB_IMAGE", image.name.clone());
    }
    if let Some(environment) = &job.environment {
        set("CI_ENVIRONMENT_NAME", environment.name.clone());
        set("CI_ENVIRONMENT_ID", stable_id(&environment.name).to_string());
        set("CI_ENVIRONMENT_SLUG", environment_slug(&environment.name));
        set("CI_ENVIRONMENT_ACTION", environment.action.clone());
        set("CI_ENVIRONMENT_TIER", environment.tier.clone().unwrap_or_else(|| guessed_tier(&environment.name).to_owned()));
    }
    variables
}

/// Guesses the tier of an environment, by parts of its name and in this order, as GitLab does.
fn guessed_tier(name: &str) -> &'static str {
    const TIERS: [(&str, &[&str]); 4] = [
        ("development", &["dev", "review", "trunk"]),
        ("testing", &["test", "tst", "int", "acpt", "accept", "qa", "qc", "control", "quality"]),
        ("staging", &["stg", "stag", "modl", "model", "pre", "demo", "non"]),
        ("production", &["prd", "prod", "live"]),
    ];
    let name = name.to_lowercase();
    TIERS.iter().find(|(_, parts)| parts.iter().any(|part| name.contains(part))).map_or("other", |(tier, _)| tier)
}

/// Returns a name that fits into host names and paths.
pub(crate) fn slug(name: &str) -> String {
    let slug: String = dashed(name).chars().take(63).collect();
    slug.trim_matches('-').to_owned()
}

/// Lower case, and every character but letters and digits a dash.
fn dashed(name: &str) -> String {
    name.to_lowercase().chars().map(|next| if next.is_ascii_lowercase() || next.is_ascii_digit() { next } else { '-' }).collect()
}

/// Returns `CI_ENVIRONMENT_SLUG`: at most 24 characters, with a digest of the name when something of it was lost.
fn environment_slug(name: &str) -> String {
    const LENGTH: usize = 24;
    let mut slug = dashed(name);
    if !slug.starts_with(|first: char| first.is_ascii_lowercase()) {
        slug.insert_str(0, "env-");
    }
    let mut squeezed = String::new();
    for next in slug.chars() {
        if next != '-' || !squeezed.ends_with('-') {
            squeezed.push(next);
        }
    }
    if squeezed.len() > LENGTH || squeezed != name {
        let mut short: String = squeezed.chars().take(17).collect();
        if !short.ends_with('-') {
            short.push('-');
        }
        return short + &digest_tail(name);
    }
    squeezed.strip_suffix('-').unwrap_or(&squeezed).to_owned()
}

/// Last six digits, in base 36, of the SHA-256 of a name.
fn digest_tail(name: &str) -> String {
    let mut number = Sha256::digest(name.as_bytes()).to_vec();
    let mut digits = Vec::new();
    for _ in 0..6 {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 36).expect("the quotient of a digit fits a digit");
            rest = value % 36;
        }
        digits.push(char::from_digit(rest, 36).expect("a remainder of 36 is a digit"));
    }
    digits.iter().rev().collect()
}

/// Returns a positive number that stays the same for a name.
pub(crate) fn stable_id(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    u64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) >> 1).max(1)
}

/// Returns the hexadecimal digest of several ids, as GitLab makes cache keys of them: SHA-1, with dashes between.
pub(crate) fn cache_digest(ids: &[String]) -> String {
    hex::encode(Sha1::digest(ids.join("-").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        assert_eq!(slug("feature/ABC_1.2--"), "feature-abc-1-2");
        assert_eq!(slug(&"x".repeat(80)).len(), 63);
        assert_eq!(slug("-ä-a"), "a");
    }

    /// By hand: `echo x | git hash-object --stdin`, then `printf 'ID-ID' | sha1sum`.
    #[test]
    fn cache_digests_are_those_of_gitlab() {
        let ids = ["587be6b4c3f93f93c489c0111bba5596147a26cb", "975fbec8256d3e8a3797e7a3611380f27c49f4ac"].map(str::to_owned);
        assert_eq!(cache_digest(&ids[..1]), "5eb2488605c1968bb311876b80e7f7711487f8b9");
        assert_eq!(cache_digest(&ids), "c79c1eb80c772c6529c4f1524209510c0e6ffac8");
    }

    #[test]
    fn environment_slugs_are_those_of_gitlab() {
        assert_eq!(environment_slug("feature/ABC-123"), "feature-abc-123-xnz5v7");
        assert_eq!(environment_slug("production"), "production");
    }

    #[test]
    fn long_titles_are_descriptions() {
        assert_eq!(description("title\n\nbody\n"), "\nbody");
        let long = "x".repeat(100);
        assert_eq!(description(&format!("{long}\nbody\n")), format!("{long}\nbody"));
    }
}
