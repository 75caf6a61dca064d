//! Traces and artifacts. What was answered is on the disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use dockwright_job::{JobId, TraceChecksum};
use rusqlite::params;

use super::{ArtifactRecord, JobRecord, ProjectRecord, Server, ServerError, Standing, database, record::Record as _, secret};
use crate::dotenv;

const BUFFER_BYTES: usize = 256 * 1024;
const ARCHIVED_FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;

impl Server {
    /// Writes a piece of a trace, and returns how long the trace is then. What was there from `offset` on is replaced, as on GitLab: a
    /// runner that missed an answer, or that was asked for everything again, sends it again.
    pub fn append_trace(&self, id: JobId, token: &str, offset: u64, bytes: &[u8]) -> Result<(u64, Standing), ServerError> {
        let (_, standing) = self.running_job(id, token)?;
        let _lock = self.lock_files(id);
        self.jobs.create(id)?;
        let path = self.jobs.trace(id);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(ServerError::file(&path))?;
        let stored = file.metadata().map_err(ServerError::file(&path))?.len();
        if offset > stored {
            return Err(ServerError::TraceGap { stored });
        }
        let mut write = || {
            if offset < stored {
                file.set_len(offset)?;
            }
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(bytes)?;
            file.sync_data()
        };
        write().map_err(ServerError::file(&path))?;
        Ok((offset + bytes.len() as u64, standing))
    }

    /// Returns where a job's trace is; the file is missing until something was printed.
    pub fn trace_path(&self, id: JobId) -> PathBuf {
        self.jobs.trace(id)
    }

    /// Compares the stored trace with what its runner says of it.
    pub(super) fn check_trace(&self, id: JobId, expected: Option<&TraceChecksum>) -> Result<(), ServerError> {
        let Some(expected) = expected else { return Ok(()) };
        let _lock = self.lock_files(id);
        let path = self.jobs.trace(id);
        let (length, checksum) = match File::open(&path) {
            Ok(file) => checksum(file).map_err(ServerError::file(&path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, 0),
            Err(error) => return Err(ServerError::file(&path)(error)),
        };
        let is_long = expected.bytesize.is_none_or(|expected| expected == length);
        let is_same = expected.checksum.as_deref().is_none_or(|expected| expected == format!("crc32:{checksum:08x}"));
        if is_long && is_same { Ok(()) } else { Err(ServerError::TraceDiffers) }
    }

    /// Makes a place for an upload on the disk of the artifacts.
    pub fn upload_file(&self, id: JobId) -> Result<PathBuf, ServerError> {
        self.jobs.create(id)?;
        Ok(self.jobs.artifact(id, &secret::new(".upload-")))
    }

    /// Keeps an upload as an artifact of its job.
    pub fn store_artifact(&self, job: &JobRecord, file: &Path, artifact: &ArtifactRecord) -> Result<(), ServerError> {
        let is_name = !artifact.kind.is_empty() && artifact.kind.chars().all(|next| next.is_ascii_alphanumeric() || next == '_');
        if !is_name {
            return Err(ServerError::invalid("artifact_type is not valid"));
        }
        let uploaded = File::open(file).map_err(ServerError::file(file))?;
        uploaded.sync_all().map_err(ServerError::file(file))?;
        if artifact.kind == "dotenv" {
            dotenv::read(uploaded)?;
        }
        let target = self.jobs.artifact(job.id, &artifact.kind);
        let sync_directory = || File::open(target.parent().expect("below a directory"))?.sync_all();
        std::fs::rename(file, &target).and_then(|()| sync_directory()).map_err(ServerError::file(&target))?;
        let mut book = self.book();
        let transaction = database::begin(&mut book.connection)?;
        transaction.execute(
            "INSERT OR REPLACE INTO artifacts (job_id, type, filename, format, size, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
            params![job.id.0, artifact.kind, artifact.filename, artifact.format, artifact.size, artifact.expires_at],
        )?;
        Ok(transaction.commit()?)
    }

    /// Returns the files that a job left.
    pub fn artifacts(&self, id: JobId) -> Result<Vec<ArtifactRecord>, ServerError> {
        ArtifactRecord::list(&self.book().connection, "WHERE job_id = ? AND NOT is_erased ORDER BY type", params![id.0])
    }

    /// Returns a job's archive and where it is.
    pub fn archive(&self, id: JobId) -> Result<(ArtifactRecord, PathBuf), ServerError> {
        let archive = self.artifacts(id)?.into_iter().find(|artifact| artifact.kind == "archive");
        let archive = archive.ok_or(ServerError::NotFound { what: "artifact" })?;
        Ok((archive, self.jobs.artifact(id, "archive")))
    }

    /// Returns one file of a job's archive. It is read into memory, so it is limited.
    pub fn archived_file(&self, id: JobId, path: &str) -> Result<Vec<u8>, ServerError> {
        let (_, archive) = self.archive(id)?;
        let file = File::open(&archive).map_err(ServerError::file(&archive))?;
        let mut zip =
            zip::ZipArchive::new(file).map_err(|error| ServerError::invalid(format!("the artifacts are no zip archive: {error}")))?;
        let entry = zip.by_name(path).map_err(|_| ServerError::NotFound { what: "file" })?;
        if entry.size() > ARCHIVED_FILE_MAX_BYTES {
            return Err(ServerError::invalid(format!("files over {ARCHIVED_FILE_MAX_BYTES} bytes come only with the whole archive")));
        }
        let mut content = Vec::new();
        entry.take(ARCHIVED_FILE_MAX_BYTES).read_to_end(&mut content).map_err(ServerError::file(archive))?;
        Ok(content)
    }

    /// Removes the artifacts of a job that has ended and, on request, its trace.
    pub fn erase(&self, id: JobId, with_trace: bool) -> Result<(), ServerError> {
        let mut book = self.book();
        if !book.job(id)?.status.is_completed() {
            return Err(ServerError::invalid("the job has not ended"));
        }
        let transaction = database::begin(&mut book.connection)?;
        // A pipeline that goes on after a restart is evaluated again.
        let is_configuration = "SELECT EXISTS (SELECT 1 FROM pipelines, json_each(pipelines.archives) WHERE json_each.value = ?)";
        if transaction.query_row(is_configuration, params![id.0], |row| row.get(0))? {
            return Err(ServerError::invalid("the configuration of a child pipeline is in the artifacts of this job"));
        }
        let removed = ArtifactRecord::list(&transaction, "WHERE job_id = ?", params![id.0])?;
        transaction.execute("DELETE FROM artifacts WHERE job_id = ?", params![id.0])?;
        transaction.commit()?;
        let artifacts = removed.iter().map(|artifact| self.jobs.artifact(id, &artifact.kind));
        for path in artifacts.chain(with_trace.then(|| self.jobs.trace(id))) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(ServerError::file(path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells whether a token may read a job's artifacts: the job's own, or that of a running job of the same project.
    pub fn may_read_artifacts(&self, id: JobId, token: &str) -> Result<bool, ServerError> {
        let book = self.book();
        let job = book.job(id)?;
        if secret::is_same(&job.token, token) {
            return Ok(true);
        }
        let project = book.pipeline(job.pipeline_id)?.project_id;
        Ok(reader(&book.connection, token)?.is_some_and(|of_reader| of_reader == project))
    }

    /// Returns the project of the running job that has a token.
    pub fn project_of_job_token(&self, token: &str) -> Result<Option<ProjectRecord>, ServerError> {
        let book = self.book();
        reader(&book.connection, token)?.map(|project| book.project(project)).transpose()
    }

    /// Returns the project that a repository of images belongs to: the one with the longest path that it begins with.
    pub fn project_of_images(&self, repository: &str) -> Result<Option<ProjectRecord>, ServerError> {
        let is_of = |project: &ProjectRecord| {
            let rest = repository.strip_prefix(&project.path.to_lowercase());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        Ok(self.projects()?.into_iter().filter(is_of).max_by_key(|project| project.path.len()))
    }

    /// Returns the mirror of the project that a token of a running job may fetch.
    pub fn repository(&self, path: &str, token: &str) -> Result<PathBuf, ServerError> {
        let project = self.project(path)?;
        let reader = reader(&self.book().connection, token)?;
        if reader != Some(project.id) && !self.is_personal_token(token) {
            return Err(ServerError::Forbidden);
        }
        Ok(self.mirror(&project)?.path)
    }
}

/// Returns the project of the running job that has a token.
fn reader(connection: &rusqlite::Connection, token: &str) -> Result<Option<u64>, ServerError> {
    if token.is_empty() {
        return Ok(None);
    }
    let Some(job) = JobRecord::find(connection, "WHERE token = ? AND status = 'running'", params![token])? else { return Ok(None) };
    let project = connection.query_row("SELECT project_id FROM pipelines WHERE id = ?", params![job.pipeline_id], |row| row.get(0))?;
    Ok(Some(project))
}

fn checksum(mut file: File) -> io::Result<(u64, u32)> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut length = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((length, hasher.finalize())),
            count => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
        }
    }
}
