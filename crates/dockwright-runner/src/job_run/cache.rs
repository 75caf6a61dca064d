//! `cache:`: archives on this machine, kept between jobs. A cache never fails a job.

use std::{
    io,
    path::{Path, PathBuf},
};

use dockwright_job::{ArtifactFormat, ArtifactWhen, Cache, CachePolicy};
use tokio::fs;

use super::Work;
use crate::{
    Phase,
    executor::{ExecuteError, Executor, HelperFiles},
    helper::{HelperRequest, Selection},
    outcome,
    sources::project_slug,
};

impl Work<'_> {
    pub(super) async fn restore_caches(&mut self) {
        let caches = self.context.payload.cache.clone();
        if caches.is_empty() {
            return;
        }
        self.start(&Phase::RestoreCache).await;
        if let Executor::Custom(_) = self.executor {
            self.restore_caches_remotely(&caches).await;
            return self.end(&Phase::RestoreCache).await;
        }
        for cache in &caches {
            let keys = self.keys(cache).await;
            let Some(key) = keys.first() else { continue };
            if cache.policy == CachePolicy::Push {
                self.context.trace.info(format!("Not downloading cache {key} due to policy")).await;
                continue;
            }
            for key in &keys {
                if self.restore(key).await {
                    break;
                }
            }
        }
        self.end(&Phase::RestoreCache).await;
    }

    /// Tells whether there was anything to restore.
    async fn restore(&mut self, key: &str) -> bool {
        self.context.trace.info(format!("Checking cache for {key}...")).await;
        let archive = self.archive_path(key);
        if !archive.is_file() {
            self.context.trace.warning("Cache file does not exist").await;
            self.context.trace.warning("Failed to extract cache").await;
            return false;
        }
        let request = HelperRequest::ExtractZip { directory: self.context.directories.project.clone().into() };
        let files = HelperFiles { input: Some(archive), output: None };
        match self.executor.run_helper(&self.context, request, files, &self.stops.job).await {
            Ok(()) => {
                self.context.trace.info("Successfully extracted cache").await;
                true
            }
            Err(error) => {
                self.context.trace.warning(outcome::chain(&error)).await;
                self.context.trace.warning("Failed to extract cache").await;
                false
            }
        }
    }

    pub(super) async fn archive_caches(&mut self, success: bool) {
        let caches: Vec<Cache> = self.context.payload.cache.iter().filter(|cache| applies(cache.when, success)).cloned().collect();
        if caches.is_empty() {
            return;
        }
        let phase = if success { Phase::ArchiveCache } else { Phase::ArchiveCacheOnFailure };
        self.start(&phase).await;
        if let Executor::Custom(_) = self.executor {
            self.archive_caches_remotely(&phase, &caches).await;
            return self.end(&phase).await;
        }
        for cache in &caches {
            let Some(key) = self.keys(cache).await.into_iter().next() else { continue };
            if cache.policy == CachePolicy::Pull {
                self.context.trace.info(format!("Not uploading cache {key} due to policy")).await;
                continue;
            }
            self.context.trace.info(format!("Creating cache {key}...")).await;
            match self.archive(cache, &key).await {
                Ok(true) => self.context.trace.info("Created cache").await,
                Ok(false) => self.context.trace.line("No files to archive").await,
                Err(error) => {
                    self.context.trace.warning(outcome::chain(&error)).await;
                    self.context.trace.warning("Failed to create cache").await;
                }
            }
        }
        self.end(&phase).await;
    }

    /// Writes an archive elsewhere, then moves it to its place: readers see the old one or the new one. Tells whether it holds anything.
    async fn archive(&mut self, cache: &Cache, key: &str) -> Result<bool, ExecuteError> {
        let archive = self.archive_path(key);
        let directory = archive.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory).await.map_err(ExecuteError::file("create", directory))?;
        let scratch = self.context.config.scratch_dir.clone();
        let temporary = tempfile::tempdir_in(&scratch).map_err(ExecuteError::file("create a directory in", scratch))?;
        let new = temporary.path().join("cache.zip");
        let selection = Selection {
            directory: self.context.directories.project.clone().into(),
            paths: cache.paths.iter().map(|path| self.context.variables.expand(path)).collect(),
            exclude: Vec::new(),
            untracked: cache.untracked,
        };
        let request = HelperRequest::Archive { selection, format: ArtifactFormat::Zip };
        let files = HelperFiles { input: None, output: Some(new.clone()) };
        self.executor.run_helper(&self.context, request, files, &self.stops.job).await?;
        if fs::metadata(&new).await.map_err(ExecuteError::file("read", &new))?.len() == 0 {
            return Ok(false);
        }
        move_file(&new, &archive).await.map_err(ExecuteError::file("write", archive))?;
        Ok(true)
    }

    /// The cache's key and its fallbacks, ready to be used as a path.
    pub(super) async fn keys(&self, cache: &Cache) -> Vec<String> {
        let variables = &self.context.variables;
        let default = || format!("{}/{}", self.context.payload.job_info.name, self.context.payload.git_info.ref_name);
        let own = if cache.key.is_empty() { default() } else { variables.expand(&cache.key) };
        let mut wanted = vec![own];
        wanted.extend(cache.fallback_keys.iter().map(|key| variables.expand(key)));
        let global = variables.text("CACHE_FALLBACK_KEY");
        if global.ends_with("-protected") {
            self.context.trace.warning(format!("CACHE_FALLBACK_KEY {global} not allowed to end in -protected")).await;
        } else if !global.is_empty() {
            wanted.push(global.to_owned());
        }
        let mut keys = Vec::new();
        for key in wanted {
            match sanitize(&key) {
                Some(clean) => {
                    if clean != key {
                        self.context.trace.warning(format!("cache key \"{key}\" sanitized to \"{clean}\"")).await;
                    }
                    keys.push(clean);
                }
                None => self.context.trace.warning(format!("cache key \"{key}\" could not be sanitized")).await,
            }
        }
        keys
    }

    fn archive_path(&self, key: &str) -> PathBuf {
        let payload = &self.context.payload;
        let slug = project_slug(&payload.git_info, &payload.job_info.project_full_path, payload.job_info.project_id);
        self.context.config.cache_dir.join(slug).join(key).join("cache.zip")
    }
}

async fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to).await {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            // One name per process: jobs that write the same key at once do not write the same file.
            let beside = to.with_extension(format!("{}.new", std::process::id()));
            fs::copy(from, &beside).await?;
            fs::rename(&beside, to).await
        }
        moved => moved,
    }
}

/// Tells whether something that is kept `when` is kept now.
pub(super) fn applies(when: ArtifactWhen, success: bool) -> bool {
    match when {
        ArtifactWhen::Always => true,
        ArtifactWhen::OnSuccess => success,
        ArtifactWhen::OnFailure => !success,
    }
}

/// Makes a key safe as a relative path: `None` when nothing is left of it.
fn sanitize(key: &str) -> Option<String> {
    let decoded = key.replace("%2f", "/").replace("%2F", "/").replace("%2e", ".").replace("%2E", ".").replace('\\', "/");
    let mut parts: Vec<&str> = Vec::new();
    for part in decoded.trim_end().split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let clean = parts.join("/").trim_end().replace('\0', "");
    (!clean.is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_the_cache_directory() {
        for (key, expected) in [
            ("main", Some("main")),
            ("job/main", Some("job/main")),
            ("../../etc", Some("etc")),
            ("a/../../b", Some("b")),
            ("%2e%2e%2Fx", Some("x")),
            (r"a\b", Some("a/b")),
            ("key  ", Some("key")),
            ("..", None),
            ("", None),
        ] {
            assert_eq!(sanitize(key).as_deref(), expected, "{key}");
        }
    }
}
