//! Where a pipeline run keeps its sources, traces and artifacts.
//!
//! ```text
//! <state>/counters/{pipeline,job}          the last number given out
//! <state>/pipelines/<id>/lock              held while the pipeline runs
//! <state>/pipelines/<id>/sources.git       what jobs fetch from
//! <state>/pipelines/<id>/jobs/<id>/trace.log
//! <state>/pipelines/<id>/jobs/<id>/artifacts/<type>
//! ```
//!
//! The directories of the latest pipelines are kept; older ones are removed when a new pipeline starts, unless they are still running.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use dockwright_job::JobId;

/// Finished pipelines whose files are kept.
const KEPT_PIPELINES: usize = 20;

/// The directory of one pipeline run. It belongs to this value until it is dropped.
#[derive(Debug)]
pub struct RunDirectory {
    state: PathBuf,
    path: PathBuf,
    pipeline_id: u64,
    /// Held, never read: the lock is the point.
    _lock: File,
}

/// A state directory that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{action} `{path}`")]
pub struct DirectoryError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl DirectoryError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }
}

impl RunDirectory {
    /// Makes the directory of a new pipeline.
    pub fn create(state: &Path) -> Result<Self, DirectoryError> {
        let state = std::path::absolute(state).map_err(|source| DirectoryError::new("resolve", state, source))?;
        let pipeline_id = take_number(&state, "pipeline")?;
        let pipelines = state.join("pipelines");
        let path = pipelines.join(pipeline_id.to_string());
        fs::create_dir_all(path.join("jobs")).map_err(|source| DirectoryError::new("create", &path, source))?;
        let lock = lock_file(&path.join("lock"))?;
        lock.lock().map_err(|source| DirectoryError::new("lock", &path, source))?;
        remove_old(&pipelines);
        Ok(Self { state, path, pipeline_id, _lock: lock })
    }

    /// Returns the pipeline's number (`CI_PIPELINE_ID`).
    pub fn pipeline_id(&self) -> u64 {
        self.pipeline_id
    }

    /// Takes a number for a child pipeline; its files are kept beside those of this one.
    pub(crate) fn next_pipeline_id(&self) -> Result<u64, DirectoryError> {
        take_number(&self.state, "pipeline")
    }

    /// Returns where [`Project::open`](crate::Project::open) is to put the sources.
    pub fn sources(&self) -> PathBuf {
        self.path.join("sources.git")
    }

    pub(crate) fn jobs(&self) -> JobsDirectory {
        JobsDirectory { path: self.path.join("jobs") }
    }

    pub(crate) fn next_job_id(&self) -> Result<JobId, DirectoryError> {
        take_number(&self.state, "job").map(JobId)
    }
}

/// The directory of the jobs of one pipeline.
#[derive(Debug, Clone)]
pub(crate) struct JobsDirectory {
    path: PathBuf,
}

impl JobsDirectory {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn create(&self, job: JobId) -> Result<(), DirectoryError> {
        let path = self.path.join(job.to_string()).join("artifacts");
        fs::create_dir_all(&path).map_err(|source| DirectoryError::new("create", &path, source))
    }

    pub(crate) fn trace(&self, job: JobId) -> PathBuf {
        self.path.join(job.to_string()).join("trace.log")
    }

    /// The type is one of GitLab's names, which hold no slashes.
    pub(crate) fn artifact(&self, job: JobId, artifact_type: &str) -> PathBuf {
        self.path.join(job.to_string()).join("artifacts").join(artifact_type)
    }
}

fn lock_file(path: &Path) -> Result<File, DirectoryError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.map_err(|source| DirectoryError::new("open", path, source))
}

/// Counts up, also across processes.
fn take_number(state: &Path, name: &str) -> Result<u64, DirectoryError> {
    let counters = state.join("counters");
    fs::create_dir_all(&counters).map_err(|source| DirectoryError::new("create", &counters, source))?;
    let path = counters.join(name);
    let mut file = lock_file(&path)?;
    count(&mut file).map_err(|source| DirectoryError::new("count in", &path, source))
}

fn count(file: &mut File) -> io::Result<u64> {
    file.lock()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // A counter that was cut off by a crash starts again above what its digits say.
    let number = text.trim().parse::<u64>().unwrap_or(0) + 1;
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(number.to_string().as_bytes())?;
    Ok(number)
}

/// Removes the directories of old pipelines. What cannot be removed now is tried again next time.
fn remove_old(pipelines: &Path) {
    let Ok(entries) = fs::read_dir(pipelines) else { return };
    let mut numbers: Vec<u64> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable_by(|left, right| right.cmp(left));
    for number in numbers.into_iter().skip(KEPT_PIPELINES) {
        let path = pipelines.join(number.to_string());
        let is_running = lock_file(&path.join("lock")).is_ok_and(|lock| lock.try_lock().is_err());
        if !is_running && let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove the directory of an old pipeline");
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn numbers_count_up_and_old_pipelines_go_unless_they_run() {
        let state = TempDir::new().expect("a temporary directory");
        let running = RunDirectory::create(state.path()).expect("directory is made");
        for number in 2..KEPT_PIPELINES as u64 + 7 {
            assert_eq!(RunDirectory::create(state.path()).expect("directory is made").pipeline_id(), number);
        }
        let left = fs::read_dir(state.path().join("pipelines")).expect("directory is there").count();
        assert_eq!(left, KEPT_PIPELINES + 1);
        assert!(running.path.exists());
        assert_eq!(running.next_job_id().expect("a number"), JobId(1));
        assert_eq!(running.next_job_id().expect("a number"), JobId(2));
    }
}
