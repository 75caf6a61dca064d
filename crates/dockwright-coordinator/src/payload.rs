//! From a job of the pipeline to the payload that a runner gets.

use dockwright_job::{
    Artifact, ArtifactFormat, ArtifactWhen, Cache, CachePolicy, Credentials, Dependency, DockerOptions, Features, GitInfo, Hook, HookName,
    Image, ImageOptions, JobId, JobInfo, JobPayload, JobToken, RefType, RunnerInfo, Step, Variable,
};
use dockwright_pipeline::{CacheKey, ExpandableVariable, Job, KeepWhen, Pipeline, expand_blank, sort_and_expand};
use indexmap::IndexMap;
use jiff::Timestamp;

use crate::{
    predefined::{self, RegistryFacts, TIMEOUT_SECS, Trigger},
    project::{GitError, Project},
};

/// History that a job sees when `GIT_DEPTH` does not say, as in a new project on GitLab.
const GIT_DEPTH: u32 = 20;

/// What the payloads of all jobs share.
pub(crate) struct PayloadFacts {
    pub(crate) project: Project,
    pub(crate) trigger: Trigger,
    pub(crate) registry: Option<RegistryFacts>,
    /// Jobs fetch over HTTP from the project's address, rather than from a directory of this machine.
    pub(crate) is_remote: bool,
    pub(crate) pipeline_id: u64,
    /// The pipeline's number within its project.
    pub(crate) pipeline_iid: u64,
    pub(crate) pipeline_name: Option<String>,
    pub(crate) created: Timestamp,
}

/// What is known of one run of a job.
pub(crate) struct RunOfJob {
    pub(crate) id: JobId,
    pub(crate) token: JobToken,
    pub(crate) retries: u8,
    pub(crate) started: Timestamp,
    pub(crate) queued_secs: f64,
    pub(crate) dependencies: Vec<Dependency>,
    /// Variables from the dotenv reports of dependencies.
    pub(crate) dotenv: IndexMap<String, String>,
}

impl PayloadFacts {
    /// Makes the payload.
    pub(crate) fn payload(&self, job: &Job, run: &RunOfJob) -> Result<JobPayload, GitError> {
        let variables = self.variables(job, run);
        let lookup: IndexMap<String, String> = variables.iter().map(|variable| (variable.key.clone(), variable.value.clone())).collect();
        let timeout = i64::try_from(job.timeout_secs.unwrap_or(TIMEOUT_SECS)).unwrap_or(i64::MAX);
        Ok(JobPayload {
            id: run.id,
            token: run.token.clone(),
            allow_git_fetch: true,
            job_info: JobInfo {
                name: job.name.clone(),
                stage: job.stage.clone(),
                pipeline_id: self.pipeline_id,
                project_id: self.project.id,
                project_name: self.project.remote.name().to_owned(),
                project_full_path: self.project.remote.path.clone(),
                time_in_queue_seconds: run.queued_secs,
            },
            git_info: self.git_info(&lookup, &run.token),
            runner_info: RunnerInfo { timeout },
            steps: steps(job, timeout),
            image: job.image.as_ref().map(image),
            services: job.services.iter().map(image).collect(),
            artifacts: artifacts(job),
            cache: self.caches(job, &lookup)?,
            credentials: self.credentials(&run.token),
            dependencies: run.dependencies.clone(),
            features: Features { trace_sections: true, token_mask_prefixes: Vec::new(), failure_reasons: failure_reasons() },
            hooks: hooks(job),
            variables,
        })
    }

    fn git_info(&self, variables: &IndexMap<String, String>, token: &JobToken) -> GitInfo {
        let project = &self.project;
        let full_ref = project.full_ref();
        let target = if project.is_tag { full_ref.clone() } else { format!("refs/remotes/origin/{}", project.ref_name) };
        GitInfo {
            repo_url: self.repository_url(token),
            repo_object_format: if project.sha.len() == 64 { "sha256" } else { "sha1" }.to_owned(),
            ref_name: project.ref_name.clone(),
            sha: project.sha.clone(),
            before_sha: project.before_sha.clone(),
            ref_type: if project.is_tag { RefType::Tag } else { RefType::Branch },
            refspecs: vec![format!("+{full_ref}:{target}")],
            depth: variables.get("GIT_DEPTH").and_then(|depth| depth.trim().parse().ok()).unwrap_or(GIT_DEPTH),
            protected: Some(predefined::is_protected(project)),
        }
    }

    /// With the job's token in it, where it is an address.
    fn repository_url(&self, token: &JobToken) -> String {
        if !self.is_remote {
            return self.project.sources.display().to_string();
        }
        let remote = &self.project.remote;
        format!("{}://{}:{}@{}/{}.git", remote.protocol, RegistryFacts::USER, token.expose(), remote.fqdn(), remote.path)
    }

    fn credentials(&self, token: &JobToken) -> Vec<Credentials> {
        let credentials = |registry: &RegistryFacts| Credentials {
            kind: "registry".to_owned(),
            url: registry.host.clone(),
            username: RegistryFacts::USER.to_owned(),
            password: token.expose().to_owned(),
        };
        self.registry.iter().map(credentials).collect()
    }

    /// All variables in GitLab's order of precedence, the last definition of a name wins, with references among them expanded.
    fn variables(&self, job: &Job, run: &RunOfJob) -> Vec<Variable> {
        let mut list = List::default();
        self.persisted(run, &mut list);
        list.public(predefined::job_variables(job));
        list.public(predefined::project_variables(&self.project, &self.trigger, self.registry.as_ref()));
        list.public(self.pipeline_variables());
        list.variables.extend(job.variables.iter().map(|variable| Variable {
            key: variable.key.clone(),
            value: variable.value.clone(),
            public: true,
            raw: variable.raw,
            ..Variable::default()
        }));
        list.variables.extend(run.dotenv.iter().map(|(key, value)| Variable {
            key: key.clone(),
            value: value.clone(),
            ..Variable::default()
        }));
        list.variables.extend(self.trigger.variables.iter().map(|given| Variable {
            key: given.key.clone(),
            value: given.value.clone(),
            masked: given.masked,
            file: given.file,
            ..Variable::default()
        }));
        if let Some(url) = job.environment.as_ref().and_then(|environment| environment.url.as_ref()) {
            list.add("CI_ENVIRONMENT_URL", url);
        }
        expanded(list.variables)
    }

    /// Returns the variables of the pipeline itself, which jobs that start others see, too.
    pub(crate) fn pipeline_variables(&self) -> IndexMap<String, String> {
        let project_url = format!("{}/{}", self.project.remote.server_url(), self.project.remote.path);
        let mut variables = IndexMap::new();
        let mut set = |key: &str, value: String| variables.insert(key.to_owned(), value);
        set("CI_PIPELINE_ID", self.pipeline_id.to_string());
        set("CI_PIPELINE_IID", self.pipeline_iid.to_string());
        set("CI_PIPELINE_URL", format!("{project_url}/-/pipelines/{}", self.pipeline_id));
        set("CI_PIPELINE_CREATED_AT", seconds(self.created));
        if let Some(name) = &self.pipeline_name {
            set("CI_PIPELINE_NAME", name.clone());
        }
        variables
    }

    fn persisted(&self, run: &RunOfJob, list: &mut List) {
        let project_url = format!("{}/{}", self.project.remote.server_url(), self.project.remote.path);
        let started = seconds(run.started);
        list.add("CI_JOB_ID", &run.id.to_string());
        list.add("CI_JOB_URL", &format!("{project_url}/-/jobs/{}", run.id));
        list.secret("CI_JOB_TOKEN", run.token.expose());
        list.add("CI_JOB_STARTED_AT", &started);
        list.add("CI_JOB_STARTED_AT_SLUG", &predefined::slug(&started));
        list.add("CI_JOB_RETRY_COUNT", &run.retries.to_string());
        list.private("CI_REPOSITORY_URL", &self.repository_url(&run.token));
        if self.registry.is_some() {
            list.add("CI_REGISTRY_USER", RegistryFacts::USER);
            list.secret("CI_REGISTRY_PASSWORD", run.token.expose());
        }
    }

    fn caches(&self, job: &Job, variables: &IndexMap<String, String>) -> Result<Vec<Cache>, GitError> {
        let kept = job.cache.iter().enumerate().filter(|(_, cache)| cache.untracked || !cache.paths.is_empty());
        kept.map(|(index, cache)| {
            Ok(Cache {
                key: self.cache_key(&cache.key, index)?,
                untracked: cache.untracked,
                policy: match expand_blank(&cache.policy, variables).as_str() {
                    "pull" => CachePolicy::Pull,
                    "push" => CachePolicy::Push,
                    _ => CachePolicy::PullPush,
                },
                paths: cache.paths.clone(),
                when: keep_when(cache.when),
                fallback_keys: cache.fallback_keys.clone(),
            })
        })
        .collect()
    }

    fn cache_key(&self, key: &CacheKey, index: usize) -> Result<String, GitError> {
        let (mut ids, prefix) = match key {
            CacheKey::Text(text) => return Ok(text.clone()),
            CacheKey::Files { files, prefix } => {
                let stems: Vec<&str> = files.iter().map(|file| file.split('.').next().unwrap_or_default()).collect();
                (self.project.blob_ids(files)?, prefix.clone().unwrap_or_else(|| format!("{index}_{}", stems.join("_"))))
            }
            CacheKey::FilesCommits { files, prefix } => {
                (self.project.last_commits(files)?, prefix.clone().unwrap_or_else(|| index.to_string()))
            }
        };
        ids.sort();
        ids.dedup();
        let digest = if ids.is_empty() { "default".to_owned() } else { predefined::cache_digest(&ids) };
        Ok(format!("{prefix}-{digest}"))
    }
}

/// Returns the runs whose artifacts a job receives, oldest first: later ones overwrite files of earlier ones. `latest` holds the latest
/// run of each job of the pipeline.
pub(crate) fn artifact_sources(pipeline: &Pipeline, latest: &[JobId], job: &Job) -> Vec<JobId> {
    let stage = |job: &Job| pipeline.stages.iter().position(|stage| *stage == job.stage);
    let is_source = |other: &Job| match &job.needs {
        Some(needs) => needs.iter().any(|need| need.artifacts && need.job == other.name),
        None => stage(other) < stage(job),
    };
    let is_wanted = |other: &Job| job.dependencies.as_ref().is_none_or(|names| names.contains(&other.name));
    let others = pipeline.jobs.iter().zip(latest);
    let mut sources: Vec<JobId> = others.filter(|(other, _)| is_source(other) && is_wanted(other)).map(|(_, id)| *id).collect();
    sources.sort();
    sources
}

#[derive(Default)]
struct List {
    variables: Vec<Variable>,
}

impl List {
    fn add(&mut self, key: &str, value: &str) {
        self.variables.push(Variable { key: key.to_owned(), value: value.to_owned(), public: true, ..Variable::default() });
    }

    fn secret(&mut self, key: &str, value: &str) {
        self.variables.push(Variable { key: key.to_owned(), value: value.to_owned(), masked: true, ..Variable::default() });
    }

    /// Not for services.
    fn private(&mut self, key: &str, value: &str) {
        self.variables.push(Variable { key: key.to_owned(), value: value.to_owned(), ..Variable::default() });
    }

    fn public(&mut self, variables: IndexMap<String, String>) {
        for (key, value) in variables {
            self.add(&key, &value);
        }
    }
}

/// Expands references. A circle, which only given variables can close here, leaves all as they are.
fn expanded(variables: Vec<Variable>) -> Vec<Variable> {
    let expandable = variables.iter().map(|variable| ExpandableVariable {
        key: variable.key.clone(),
        value: variable.value.clone(),
        raw: variable.raw,
        file: variable.file,
    });
    match sort_and_expand(expandable.collect()) {
        Ok(values) => {
            variables.into_iter().zip(values).map(|(variable, expanded)| Variable { value: expanded.value, ..variable }).collect()
        }
        Err(_) => variables,
    }
}

/// Second precision, in UTC.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn steps(job: &Job, timeout: i64) -> Vec<Step> {
    let step = |name: &str, script: &[String], when: &str, allow_failure| Step {
        name: name.to_owned(),
        script: script.to_vec(),
        timeout,
        when: when.to_owned(),
        allow_failure,
    };
    let mut steps = vec![step("script", &job.script, "on_success", false)];
    if !job.after_script.is_empty() {
        steps.push(step("after_script", &job.after_script, "always", true));
    }
    steps
}

fn hooks(job: &Job) -> Vec<Hook> {
    let script = &job.pre_get_sources_script;
    if script.is_empty() { Vec::new() } else { vec![Hook { name: HookName::PreGetSourcesScript, script: script.clone() }] }
}

fn image(image: &dockwright_pipeline::Image) -> Image {
    let variable = |variable: &dockwright_pipeline::Variable| Variable {
        key: variable.key.clone(),
        value: variable.value.clone(),
        public: true,
        raw: variable.raw,
        ..Variable::default()
    };
    Image {
        name: image.name.clone(),
        alias: image.alias.clone().unwrap_or_default(),
        command: image.command.clone(),
        entrypoint: image.entrypoint.clone(),
        pull_policy: image.pull_policy.clone(),
        variables: image.variables.iter().map(variable).collect(),
        executor_opts: ImageOptions { docker: DockerOptions { platform: image.platform.clone(), user: image.user.clone() } },
    }
}

fn keep_when(when: KeepWhen) -> ArtifactWhen {
    match when {
        KeepWhen::OnSuccess => ArtifactWhen::OnSuccess,
        KeepWhen::OnFailure => ArtifactWhen::OnFailure,
        KeepWhen::Always => ArtifactWhen::Always,
    }
}

/// One archive, and each report for itself. Reports are sent whatever becomes of the job.
fn artifacts(job: &Job) -> Vec<Artifact> {
    let Some(artifacts) = &job.artifacts else { return Vec::new() };
    let expire_in = artifacts.expire_in.clone().unwrap_or_default();
    let mut list = Vec::new();
    if artifacts.untracked || !artifacts.paths.is_empty() {
        list.push(Artifact {
            name: artifacts.name.clone().unwrap_or_default(),
            untracked: artifacts.untracked,
            paths: artifacts.paths.clone(),
            exclude: artifacts.exclude.clone(),
            when: keep_when(artifacts.when),
            artifact_type: "archive".to_owned(),
            artifact_format: ArtifactFormat::Zip,
            expire_in: expire_in.clone(),
        });
    }
    list.extend(artifacts.reports.iter().map(|report| Artifact {
        name: report_name(&report.kind),
        paths: report.paths.clone(),
        when: ArtifactWhen::Always,
        artifact_type: report.kind.clone(),
        artifact_format: ArtifactFormat::Gzip,
        expire_in: expire_in.clone(),
        ..Artifact::default()
    }));
    list
}

fn report_name(kind: &str) -> String {
    match kind {
        "dotenv" => ".env".to_owned(),
        "junit" => "junit.xml".to_owned(),
        "cobertura" => "cobertura-coverage.xml".to_owned(),
        "jacoco" => "jacoco-coverage.xml".to_owned(),
        kind => format!("gl-{}.json", kind.replace('_', "-")),
    }
}

/// All reasons are understood here, so a runner need not translate any.
fn failure_reasons() -> Vec<String> {
    [
        "script_failure",
        "runner_system_failure",
        "job_execution_timeout",
        "image_pull_failure",
        "unknown_failure",
        "runner_configuration_error",
        "runner_external_dependency_failure",
        "runner_interrupted",
    ]
    .map(str::to_owned)
    .to_vec()
}
