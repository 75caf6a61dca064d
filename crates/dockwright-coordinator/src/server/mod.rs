//! A coordinator for several projects and any runners, which survives its own end.
//!
//! ```text
//! people ──► control (projects, pipelines, cancel, retry, play) ─┐
//!                                                                ├─► Book: database + live pipelines ──► queue version ─► who waits
//! runners ─► queue (take, update) and files (trace, artifacts) ──┘
//! ```
//!
//! Everything here blocks and is called from threads that may. Whatever is answered is in the database or in a synced file before; after a
//! crash a pipeline goes on from its rows ([`live`]). A job that was handed out is the runner's once the runner has confirmed it; until
//! then it goes back to the queue after [`ACKNOWLEDGE_WITHIN`].

mod bridges;
mod control;
mod database;
mod draft;
mod error;
mod expiry;
mod files;
mod live;
mod queue;
mod record;
mod runners;
mod secret;

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dockwright_job::JobId;
use rusqlite::{Connection, params};
use tokio::sync::watch;

pub use control::{NewPipeline, PipelineFilter, Push};
pub use error::ServerError;
pub(crate) use expiry::expires_at;
pub use queue::{JobUpdateRequest, Standing};
pub(crate) use record::seconds_since;
pub use record::{ArtifactRecord, JobRecord, PipelineRecord, ProjectRecord, RunnerRecord};
pub use runners::NewRunner;

use crate::{
    directory::JobsDirectory,
    predefined::{RegistryFacts, Upstream},
    project::{Mirror, ProjectPlace, Remote},
};
use live::Live;
use record::Record as _;

/// How long a runner may take to confirm a job that it was given.
pub const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);
/// A running job whose runner says nothing for so long has failed.
pub const SILENCE_MAX: Duration = Duration::from_secs(600);
/// Locks for the files of jobs.
const FILE_LOCKS: usize = 16;

/// Where a coordinator keeps its things, and how it is reached.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub directory: PathBuf,
    /// Address that runners and jobs use, such as `http://ci.example:8080`.
    pub url: String,
    /// The registry that jobs push to with their tokens.
    pub registry: Option<RegistryFacts>,
}

/// The coordinator.
pub struct Server {
    options: ServerOptions,
    base: Remote,
    jobs: JobsDirectory,
    book: Mutex<Book>,
    /// Counts whenever a job may have become free, for those who wait for one.
    queue: watch::Sender<u64>,
    file_locks: [Mutex<()>; FILE_LOCKS],
    personal_token: String,
    registration_token: String,
}

struct Book {
    connection: Connection,
    live: HashMap<u64, Live>,
    /// When the runner of a job was last heard of. Empty after a start: then everybody gets the whole time once more.
    heard: HashMap<JobId, Instant>,
}

impl Server {
    /// Opens or makes a coordinator's directory.
    pub fn open(options: ServerOptions) -> Result<Self, ServerError> {
        let directory = &options.directory;
        fs::create_dir_all(directory.join("jobs")).map_err(ServerError::file(directory))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(ServerError::file(directory))?;
        let base = Remote::parse(&format!("{}/x/x", options.url.trim_end_matches('/')))
            .ok_or_else(|| ServerError::invalid(format!("`{}` is no address: http://host:port is expected", options.url)))?;
        let connection = database::open(&directory.join("coordinator.sqlite"))?;
        // Long pollers hold the version they know across a restart; it must not come again.
        let version = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
        Ok(Self {
            jobs: JobsDirectory::new(directory.join("jobs")),
            base,
            book: Mutex::new(Book { connection, live: HashMap::new(), heard: HashMap::new() }),
            queue: watch::Sender::new(version),
            file_locks: std::array::from_fn(|_| Mutex::new(())),
            personal_token: secret::kept(&directory.join("personal-token"), "glpat-")?,
            registration_token: secret::kept(&directory.join("registration-token"), "GR1348941")?,
            options,
        })
    }

    /// Returns what the coordinator was opened with.
    pub fn options(&self) -> &ServerOptions {
        &self.options
    }

    /// Returns where the personal access token is kept.
    pub fn personal_token_file(&self) -> PathBuf {
        self.options.directory.join("personal-token")
    }

    /// Returns where the registration token is kept.
    pub fn registration_token_file(&self) -> PathBuf {
        self.options.directory.join("registration-token")
    }

    /// Tells whether this is the token of the person who runs the coordinator.
    pub fn is_personal_token(&self, token: &str) -> bool {
        secret::is_same(&self.personal_token, token)
    }

    /// Watches the queue: a change means that asking for a job again makes sense.
    pub fn watch_queue(&self) -> watch::Receiver<u64> {
        self.queue.subscribe()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_has_changed(&self) {
        self.queue.send_modify(|version| *version += 1);
    }

    fn lock_files(&self, job: JobId) -> MutexGuard<'_, ()> {
        let index = usize::try_from(job.0 % FILE_LOCKS as u64).unwrap_or_default();
        self.file_locks[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mirror(&self, project: &ProjectRecord) -> Result<Mirror, ServerError> {
        Ok(Mirror::create(&self.options.directory.join(format!("projects/{}.git", project.id)), &project.repository)?)
    }

    fn place(&self, project: &ProjectRecord, default_branch: String) -> ProjectPlace {
        ProjectPlace { id: project.id, remote: Remote { path: project.path.clone(), ..self.base.clone() }, default_branch }
    }
}

impl Book {
    fn project(&self, id: u64) -> Result<ProjectRecord, ServerError> {
        ProjectRecord::find(&self.connection, "WHERE id = ?", params![id])?.ok_or(ServerError::NotFound { what: "project" })
    }

    fn pipeline(&self, id: u64) -> Result<PipelineRecord, ServerError> {
        PipelineRecord::find(&self.connection, "WHERE id = ?", params![id])?.ok_or(ServerError::NotFound { what: "pipeline" })
    }

    /// Returns what is known of a job that started a pipeline.
    fn upstream(&self, bridge: JobId) -> Result<Upstream, ServerError> {
        let pipeline = self.pipeline(self.job(bridge)?.pipeline_id)?;
        Ok(Upstream { project_id: pipeline.project_id, pipeline_id: pipeline.id, job: bridge })
    }

    fn job(&self, id: JobId) -> Result<JobRecord, ServerError> {
        JobRecord::find(&self.connection, "WHERE id = ?", params![id.0])?.ok_or(ServerError::NotFound { what: "job" })
    }
}
