//! `cache:`: archives that are kept between jobs, on this machine and, where the runner has one, in a bucket. A cache never fails a job.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use dockwright_job::{ArtifactWhen, Cache, CachePolicy};
use tokio::fs;

use super::Work;
use crate::{
    Phase,
    cache::{Fetched, ObjectName, RemoteCache, TransferError},
    executor::{ExecuteError, Executor, HelperFiles},
    helper::{ArchiveOptions, Format, HelperRequest, Selection, UNCHANGED, fingerprint},
    outcome,
    sources::project_slug,
};

/// `CACHE_REQUEST_TIMEOUT`.
const DEFAULT_REQUEST_TIMEOUT_MINUTES: u64 = 10;

/// What came of making an archive.
enum Archived {
    Created,
    /// The archive that is there holds the same files.
    UpToDate,
    NothingToKeep,
}

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
        let restored = match self.find_archive(key).await {
            Ok(Some(archive)) => {
                let request = HelperRequest::Extract { directory: self.context.directories.project.clone().into() };
                let files = HelperFiles { input: Some(archive), output: None };
                self.executor.run_helper(&self.context, request, files, &self.stops.job).await.map_err(|error| outcome::chain(&error))
            }
            Ok(None) => Err("Cache file does not exist".to_owned()),
            Err(reason) => Err(reason),
        };
        match restored {
            Ok(()) => {
                self.context.trace.info("Successfully extracted cache").await;
                true
            }
            Err(reason) => {
                self.context.trace.warning(reason).await;
                self.context.trace.warning("Failed to extract cache").await;
                false
            }
        }
    }

    /// Returns the archive of a key, fetched if need be. What the bucket does not have is not taken from this machine either: it may be
    /// what somebody has removed there.
    async fn find_archive(&self, key: &str) -> Result<Option<PathBuf>, String> {
        let archive = self.archive_path(key);
        let Some((remote, name)) = self.remote(key) else { return Ok(archive.is_file().then_some(archive)) };
        let directory = archive.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory).await.map_err(|error| format!("create `{}`: {error}", directory.display()))?;
        let trace = &self.context.trace;
        match self.transfer(remote.fetch(&name, &archive)).await? {
            Fetched::Missing => Ok(None),
            Fetched::Unchanged => {
                trace.line(format!("Cache on this machine is that of {}", name.address)).await;
                Ok(Some(archive))
            }
            Fetched::Downloaded { bytes } => {
                trace.line(format!("Downloading cache from {} ({bytes} bytes)", name.address)).await;
                Ok(Some(archive))
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
            let archived = self.archive(cache, &key).await.map_err(|error| outcome::chain(&error));
            let stored = match archived {
                Ok(Archived::Created) => self.upload_cache(&key).await,
                Ok(Archived::UpToDate) => Ok(()),
                Ok(Archived::NothingToKeep) => {
                    self.context.trace.line("No files to archive").await;
                    continue;
                }
                Err(reason) => Err(reason),
            };
            match stored {
                Ok(()) => self.context.trace.info("Created cache").await,
                Err(reason) => {
                    self.context.trace.warning(reason).await;
                    self.context.trace.warning("Failed to create cache").await;
                }
            }
        }
        self.end(&phase).await;
    }

    /// Writes an archive elsewhere, then moves it to its place: readers see the old one or the new one.
    async fn archive(&mut self, cache: &Cache, key: &str) -> Result<Archived, ExecuteError> {
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
        let options = ArchiveOptions {
            format: self.cache_format().await,
            level: self.level("CACHE_COMPRESSION_LEVEL").await,
            fingerprint: true,
            unless: self.known_fingerprint(key, &archive).await,
            statement: None,
        };
        let request = HelperRequest::Archive { selection, options };
        let files = HelperFiles { input: None, output: Some(new.clone()) };
        self.executor.run_helper(&self.context, request, files, &self.stops.job).await?;
        match fs::metadata(&new).await.map_err(ExecuteError::file("read", &new))?.len() {
            0 => Ok(Archived::NothingToKeep),
            length if length == UNCHANGED.len() as u64 => Ok(Archived::UpToDate),
            _ => {
                move_file(&new, &archive).await.map_err(ExecuteError::file("write", archive))?;
                Ok(Archived::Created)
            }
        }
    }

    /// Returns what the archive on this machine is of, if that is all there is to keep: the bucket, too, must have it.
    async fn known_fingerprint(&self, key: &str, archive: &Path) -> Option<String> {
        if let Some((remote, name)) = self.remote(key) {
            let is_stored = self.transfer(async { Ok(remote.is_stored(&name, archive).await) }).await;
            if !is_stored.unwrap_or(false) {
                return None;
            }
        }
        fingerprint::read(archive).ok().flatten()
    }

    async fn upload_cache(&self, key: &str) -> Result<(), String> {
        let Some((remote, name)) = self.remote(key) else { return Ok(()) };
        let archive = self.archive_path(key);
        let size = fs::metadata(&archive).await.map_err(|error| format!("read `{}`: {error}", archive.display()))?.len();
        if let Some(limit) = remote.max_archive_bytes()
            && size > limit
        {
            return Err(format!("cache archive size ({size} bytes) exceeds MaxUploadedArchiveSize ({limit} bytes); it is not uploaded"));
        }
        self.context.trace.line(format!("Uploading {} to {}", archive.file_name().unwrap_or_default().display(), name.address)).await;
        self.transfer(remote.store(&name, &archive)).await
    }

    /// Where a key's archive is in the runner's bucket.
    fn remote(&self, key: &str) -> Option<(&RemoteCache, ObjectName)> {
        let remote = self.context.config.remote_cache.as_deref()?;
        let name = remote.name(&self.context.config.short_token, self.context.payload.job_info.project_id, key);
        Some((remote, name))
    }

    /// Waits for a transfer, as long as the job allows it.
    async fn transfer<T>(&self, transfer: impl Future<Output = Result<T, TransferError>>) -> Result<T, String> {
        let minutes = self.context.variables.text("CACHE_REQUEST_TIMEOUT").parse().ok().filter(|&minutes| minutes > 0);
        let minutes = minutes.unwrap_or(DEFAULT_REQUEST_TIMEOUT_MINUTES);
        tokio::select! {
            ended = tokio::time::timeout(Duration::from_secs(minutes.saturating_mul(60)), transfer) => match ended {
                Ok(result) => result.map_err(|error| outcome::chain(&error)),
                Err(_) => Err(format!("the cache was not transferred within CACHE_REQUEST_TIMEOUT ({minutes} minutes)")),
            },
            () = self.stops.job.cancelled() => Err("stopped".to_owned()),
        }
    }

    /// Reads how caches are archived.
    async fn cache_format(&self) -> Format {
        let word = self.context.variables.text("CACHE_COMPRESSION_FORMAT");
        match word {
            "" | "zip" => Format::Zip,
            "tarzstd" => Format::TarZstd,
            _ => {
                let text = format!("CACHE_COMPRESSION_FORMAT \"{word}\" is unknown (there are zip and tarzstd); zip is used");
                self.context.trace.warning(text).await;
                Format::Zip
            }
        }
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
