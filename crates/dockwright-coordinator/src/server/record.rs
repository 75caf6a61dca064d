//! Rows of the database as the rest sees them.

use dockwright_job::JobId;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql};

use super::ServerError;
use crate::event::JobStatus;

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRecord {
    pub id: u64,
    /// `group/name`.
    pub path: String,
    pub repository: std::path::PathBuf,
    pub created_at: String,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineRecord {
    pub id: u64,
    pub iid: u64,
    pub project_id: u64,
    pub ref_name: String,
    pub is_tag: bool,
    pub sha: String,
    pub before_sha: Option<String>,
    pub default_branch: String,
    pub source: String,
    pub variables: String,
    pub status: String,
    pub created_at: String,
    pub finished_at: Option<String>,
    /// The job of another pipeline that started this one.
    pub bridge_id: Option<JobId>,
    pub(crate) archives: Option<String>,
}

impl PipelineRecord {
    /// Tells whether its configuration is `trigger:include` of a job of the same project.
    pub fn is_child(&self) -> bool {
        self.archives.is_some()
    }
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    pub id: JobId,
    pub pipeline_id: u64,
    pub position: usize,
    pub name: String,
    pub stage: String,
    pub tags: Vec<String>,
    pub status: JobStatus,
    pub is_latest: bool,
    /// It starts another pipeline; no runner gets it.
    pub is_bridge: bool,
    pub tries: u8,
    pub is_allowed_to_fail: bool,
    pub is_canceling: bool,
    pub(crate) token: String,
    pub runner_id: Option<u64>,
    pub is_acknowledged: bool,
    pub cancels_gracefully: bool,
    pub created_at: String,
    pub queued_at: Option<String>,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    pub failure_reason: Option<String>,
    pub exit_code: Option<i32>,
}

/// A runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerRecord {
    pub id: u64,
    pub description: String,
    pub tags: Vec<String>,
    pub run_untagged: bool,
    pub locked: bool,
    pub paused: bool,
    pub ref_protected: bool,
    pub created_at: String,
    pub contacted_at: Option<String>,
}

impl RunnerRecord {
    /// Tells whether the runner takes jobs with these tags, for a ref that is protected or not.
    pub(crate) fn takes(&self, tags: &[String], is_protected: bool) -> bool {
        let fits = if tags.is_empty() { self.run_untagged } else { tags.iter().all(|tag| self.tags.contains(tag)) };
        fits && !self.paused && (is_protected || !self.ref_protected)
    }
}

/// A file that a job left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactRecord {
    pub kind: String,
    pub filename: String,
    pub format: String,
    pub size: u64,
    /// When it is erased; `None` for never.
    pub expires_at: Option<String>,
    /// The file is gone.
    pub is_erased: bool,
}

/// Tags and the like, which hold no line ends.
pub(super) fn joined(list: &[String]) -> String {
    list.join("\n")
}

fn split(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// The time as it is kept: sortable, in UTC.
pub(super) fn now() -> String {
    written(Timestamp::now())
}

/// Renders a time as GitLab does; in this form, earlier times sort first.
pub(super) fn written(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Seconds from a time that was kept to now.
pub(crate) fn seconds_since(time: &str) -> f64 {
    time.parse::<Timestamp>().map_or(0.0, |time| Timestamp::now().duration_since(time).as_secs_f64().max(0.0))
}

pub(super) fn parse_status(text: &str) -> JobStatus {
    use JobStatus::{Canceled, Created, Failed, Manual, Pending, Running, Scheduled, Skipped, Success, WaitingForResource};
    [Created, Pending, Running, Manual, Scheduled, WaitingForResource, Success, Failed, Canceled, Skipped]
        .into_iter()
        .find(|status| status.as_str() == text)
        .unwrap_or(Created)
}

fn project(row: &Row<'_>) -> rusqlite::Result<ProjectRecord> {
    let repository: String = row.get("repository")?;
    Ok(ProjectRecord { id: row.get("id")?, path: row.get("path")?, repository: repository.into(), created_at: row.get("created_at")? })
}

fn pipeline(row: &Row<'_>) -> rusqlite::Result<PipelineRecord> {
    Ok(PipelineRecord {
        id: row.get("id")?,
        iid: row.get("iid")?,
        project_id: row.get("project_id")?,
        ref_name: row.get("ref")?,
        is_tag: row.get("is_tag")?,
        sha: row.get("sha")?,
        before_sha: row.get("before_sha")?,
        default_branch: row.get("default_branch")?,
        source: row.get("source")?,
        variables: row.get("variables")?,
        status: row.get("status")?,
        created_at: row.get("created_at")?,
        finished_at: row.get("finished_at")?,
        bridge_id: row.get::<_, Option<u64>>("bridge_id")?.map(JobId),
        archives: row.get("archives")?,
    })
}

fn job(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    let (status, tags): (String, String) = (row.get("status")?, row.get("tags")?);
    Ok(JobRecord {
        id: JobId(row.get("id")?),
        pipeline_id: row.get("pipeline_id")?,
        position: row.get("position")?,
        name: row.get("name")?,
        stage: row.get("stage")?,
        tags: split(&tags),
        status: parse_status(&status),
        is_latest: row.get("is_latest")?,
        is_bridge: row.get("is_bridge")?,
        tries: row.get("tries")?,
        is_allowed_to_fail: row.get("is_allowed_to_fail")?,
        is_canceling: row.get("is_canceling")?,
        token: row.get("token")?,
        runner_id: row.get("runner_id")?,
        is_acknowledged: row.get("is_acknowledged")?,
        cancels_gracefully: row.get("cancels_gracefully")?,
        created_at: row.get("created_at")?,
        queued_at: row.get("queued_at")?,
        started_at: row.get("started_at")?,
        finished_at: row.get("finished_at")?,
        failure_reason: row.get("failure_reason")?,
        exit_code: row.get("exit_code")?,
    })
}

fn runner(row: &Row<'_>) -> rusqlite::Result<RunnerRecord> {
    let tags: String = row.get("tags")?;
    Ok(RunnerRecord {
        id: row.get("id")?,
        description: row.get("description")?,
        tags: split(&tags),
        run_untagged: row.get("run_untagged")?,
        locked: row.get("locked")?,
        paused: row.get("paused")?,
        ref_protected: row.get("ref_protected")?,
        created_at: row.get("created_at")?,
        contacted_at: row.get("contacted_at")?,
    })
}

fn artifact(row: &Row<'_>) -> rusqlite::Result<ArtifactRecord> {
    Ok(ArtifactRecord {
        kind: row.get("type")?,
        filename: row.get("filename")?,
        format: row.get("format")?,
        size: row.get("size")?,
        expires_at: row.get("expires_at")?,
        is_erased: row.get("is_erased")?,
    })
}

/// A table whose rows are read the same way everywhere.
pub(super) trait Record: Sized {
    const TABLE: &'static str;

    fn read(row: &Row<'_>) -> rusqlite::Result<Self>;

    /// Returns the rows that fit what follows `SELECT * FROM <table>`.
    fn list(connection: &Connection, rest: &str, values: &[&dyn ToSql]) -> Result<Vec<Self>, ServerError> {
        let mut statement = connection.prepare_cached(&format!("SELECT * FROM {} {rest}", Self::TABLE))?;
        let rows = statement.query_map(values, Self::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns the first row that fits.
    fn find(connection: &Connection, rest: &str, values: &[&dyn ToSql]) -> Result<Option<Self>, ServerError> {
        let mut statement = connection.prepare_cached(&format!("SELECT * FROM {} {rest}", Self::TABLE))?;
        Ok(statement.query_row(values, Self::read).optional()?)
    }
}

macro_rules! records {
    ($($record:ty, $table:literal, $read:ident;)*) => {
        $(impl Record for $record {
            const TABLE: &'static str = $table;

            fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
                $read(row)
            }
        })*
    };
}

records! {
    ProjectRecord, "projects", project;
    PipelineRecord, "pipelines", pipeline;
    JobRecord, "jobs", job;
    RunnerRecord, "runners", runner;
    ArtifactRecord, "artifacts", artifact;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_take_what_their_tags_allow() {
        let runner = |tags: &[&str], run_untagged, ref_protected| RunnerRecord {
            id: 1,
            description: String::new(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            run_untagged,
            locked: false,
            paused: false,
            ref_protected,
            created_at: now(),
            contacted_at: None,
        };
        let docker = ["docker".to_owned()];
        assert!(runner(&["docker", "linux"], false, false).takes(&docker, false));
        assert!(!runner(&["linux"], true, false).takes(&docker, false));
        assert!(!runner(&["linux"], false, false).takes(&[], false));
        assert!(runner(&[], true, false).takes(&[], false));
        assert!(!runner(&[], true, true).takes(&[], false));
        assert!(runner(&[], true, true).takes(&[], true));
        assert!(!RunnerRecord { paused: true, ..runner(&[], true, false) }.takes(&[], true));
    }
}
