//! Phases of a job whose files the runner cannot reach, as scripts that run in its environment.
//!
//! Sources need `git` there; caches and artifacts need `gitlab-runner`, which is called as GitLab Runner calls it. An environment
//! without it loses caches and artifacts, with a warning, as it does there.

use std::path::Path;

use dockwright_job::{Artifact, ArtifactFormat, Cache, CachePolicy, Dependency, GitInfo};

use super::Work;
use crate::{
    Phase,
    executor::{ExecuteError, Executor},
    outcome::{self, Failure},
    script::{helper_script, notice, phase_script, quote},
    sources::{Strategy, project_slug, script::checkout_script},
};

/// The program that moves files between an environment and the coordinator.
const HELPER: &str = "gitlab-runner";
/// Minutes that a cache may take on its way.
const DEFAULT_CACHE_TIMEOUT_MINUTES: &str = "10";

impl Work<'_> {
    /// Shows where the job runs, and makes sure that nothing of an earlier one is left.
    pub(super) async fn prepare_remotely(&mut self, host: &str) -> Result<(), Failure> {
        let script = format!("printf '%s\\n' \"Running on $(hostname) via \"{}\n{}", quote(&format!("{host}...")), self.removal());
        let result = self.run_remotely(&Phase::PrepareScript, helper_script(&script)).await;
        result.map_err(|error| match error {
            ExecuteError::Exit { code, text } => ExecuteError::Exit { code, text: format!("prepare environment: {text}") }.into(),
            error => error.into(),
        })
    }

    pub(super) async fn remove_temporary_files_remotely(&mut self) -> Result<(), Failure> {
        let script = helper_script(&self.removal());
        Ok(self.run_remotely(&Phase::CleanupFileVariables, script).await?)
    }

    fn removal(&self) -> String {
        format!("rm -rf {}\n", quote(&self.context.directories.temp))
    }

    pub(super) async fn get_sources_remotely(&mut self, info: &GitInfo, strategy: Strategy) -> Result<(), ExecuteError> {
        let body = checkout_script(info, &self.context.variables, strategy, &self.context.directories.project)?;
        self.run_remotely(&Phase::GetSources, phase_script(self.script_context(), &body)).await
    }

    /// The first key that has an archive counts.
    pub(super) async fn restore_caches_remotely(&mut self, caches: &[Cache]) {
        let mut body = String::new();
        for cache in caches {
            let keys = self.keys(cache).await;
            let Some(first) = keys.first() else { continue };
            if cache.policy == CachePolicy::Push {
                body.push_str(&notice(&format!("Not downloading cache {first} due to policy")));
                continue;
            }
            let mut attempts = String::new();
            for key in &keys {
                let (checking, done) = (notice(&format!("Checking cache for {key}...")), notice("Successfully extracted cache"));
                let command = self.cache_command("cache-extractor", key);
                // The `for` around all keys of a cache is what `break` leaves.
                attempts.push_str(&format!("{checking}if {command}; then\n{done}break\nelse\n{}fi\n", notice("Failed to extract cache")));
            }
            body.push_str(&format!("for dockwright_once in 1; do\n{attempts}done\n"));
        }
        self.run_cache_script(&Phase::RestoreCache, "Extracting cache", &body).await;
    }

    pub(super) async fn archive_caches_remotely(&mut self, phase: &Phase, caches: &[Cache]) {
        let mut body = String::new();
        for cache in caches {
            let Some(key) = self.keys(cache).await.into_iter().next() else { continue };
            if cache.policy == CachePolicy::Pull {
                body.push_str(&notice(&format!("Not uploading cache {key} due to policy")));
                continue;
            }
            let mut command = self.cache_command("cache-archiver", &key);
            self.append_selection(&mut command, &cache.paths, &[], cache.untracked);
            let (done, failed) = (notice("Created cache"), notice("Failed to create cache"));
            body.push_str(&format!("{}if {command}; then\n{done}else\n{failed}fi\n", notice(&format!("Creating cache {key}..."))));
        }
        self.run_cache_script(phase, "Creating cache", &body).await;
    }

    /// A cache never fails a job.
    async fn run_cache_script(&mut self, phase: &Phase, what: &str, body: &str) {
        if let Err(error) = self.run_in_project(phase, what, body).await {
            self.context.trace.warning(outcome::chain(&error)).await;
        }
    }

    fn cache_command(&self, command: &str, key: &str) -> String {
        let payload = &self.context.payload;
        let slug = project_slug(&payload.git_info, &payload.job_info.project_full_path, payload.job_info.project_id);
        let cache_dir = match &self.executor {
            Executor::Custom(custom) => Path::new(&custom.place().cache_dir).join(slug),
            Executor::Shell(_) | Executor::Docker(_) => self.context.config.cache_dir.join(slug),
        };
        let timeout = match self.context.variables.text("CACHE_REQUEST_TIMEOUT") {
            "" => DEFAULT_CACHE_TIMEOUT_MINUTES,
            minutes => minutes,
        };
        let file = cache_dir.join(key).join("cache.zip");
        format!("{HELPER} {command} --file {} --timeout {}", quote(&file.to_string_lossy()), quote(timeout))
    }

    pub(super) async fn download_artifacts_remotely(&mut self, dependencies: &[Dependency]) -> Result<(), Failure> {
        let mut body = String::new();
        for dependency in dependencies {
            let title = notice(&format!("Downloading artifacts for {} ({})...", dependency.name, dependency.id));
            let access = self.access("artifacts-downloader", dependency.token.expose(), dependency.id);
            body.push_str(&format!("{title}{access}\n"));
        }
        let attempts = self.attempts("ARTIFACT_DOWNLOAD_ATTEMPTS");
        let mut attempt = 1;
        loop {
            match self.run_in_project(&Phase::DownloadArtifacts, "Artifacts downloading", &body).await {
                Err(error) if attempt < attempts && !self.stops.job.is_cancelled() => self.wait_before_retry(&error, attempt).await,
                result => return Ok(result?),
            }
            attempt += 1;
        }
    }

    pub(super) async fn upload_artifacts_remotely(&mut self, phase: &Phase, artifacts: &[Artifact]) -> Result<(), Failure> {
        let mut body = String::new();
        for artifact in artifacts {
            let mut command = self.access("artifacts-uploader", self.job.access.token.expose(), self.job.access.id);
            self.append_selection(&mut command, &artifact.paths, &artifact.exclude, artifact.untracked);
            let format = match artifact.artifact_format {
                ArtifactFormat::Zip => "zip",
                ArtifactFormat::Gzip => "gzip",
                ArtifactFormat::Raw => "raw",
            };
            let name = self.context.variables.expand(&artifact.name);
            for (flag, value) in [
                ("--name", name.as_str()),
                ("--expire-in", artifact.expire_in.as_str()),
                ("--artifact-format", format),
                ("--artifact-type", artifact.artifact_type.as_str()),
            ] {
                if !value.is_empty() {
                    command.push_str(&format!(" {flag} {}", quote(value)));
                }
            }
            body.push_str(&format!("{}{command}\n", notice("Uploading artifacts...")));
        }
        Ok(self.run_in_project(phase, "Uploading artifacts", &body).await?)
    }

    /// A command with the address and the token of a job at the coordinator.
    fn access(&self, command: &str, token: &str, job: impl std::fmt::Display) -> String {
        let url = self.context.config.custom.as_ref().map(|custom| custom.coordinator_url.as_str()).unwrap_or_default();
        format!("{HELPER} {command} --url {} --token {} --id {job}", quote(url), quote(token))
    }

    fn append_selection(&self, command: &mut String, paths: &[String], exclude: &[String], untracked: bool) {
        for (flag, patterns) in [("--path", paths), ("--exclude", exclude)] {
            for pattern in patterns {
                command.push_str(&format!(" {flag} {}", quote(&self.context.variables.expand(pattern))));
            }
        }
        if untracked {
            command.push_str(" --untracked");
        }
    }

    /// Runs commands that need the helper program; without it there is a warning.
    async fn run_in_project(&mut self, phase: &Phase, what: &str, body: &str) -> Result<(), ExecuteError> {
        let project = quote(&self.context.directories.project);
        let missing = notice(&format!("Missing {HELPER}. {what} is disabled."));
        let body = format!("cd {project}\nif command -v {HELPER} > /dev/null 2>&1; then\n{body}:\nelse\n{missing}fi\n");
        let script = phase_script(self.script_context(), &body);
        self.run_remotely(phase, script).await
    }

    async fn run_remotely(&mut self, phase: &Phase, script: String) -> Result<(), ExecuteError> {
        self.executor.run_script(&self.context, phase, script, &self.stops.job).await
    }
}
