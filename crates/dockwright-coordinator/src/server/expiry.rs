//! How long artifacts are kept: `expire_in`.
//!
//! ```text
//! upload ─► expires_at ─► erased when that has passed, by `tidy`; the row stays
//!               │ keep              └► a job that needs the archive fails with missing_dependency_failure
//!               ▼
//!             never
//! ```
//!
//! Variables of a dotenv report are kept: on GitLab, too, they are the job's and not a file. The artifacts of the latest pipeline of a
//! branch expire like others, as on a GitLab with "Keep artifacts from most recent successful jobs" switched off.

use std::io;

use dockwright_job::JobId;
use dockwright_pipeline::parse_duration;
use jiff::{SignedDuration, Timestamp};
use rusqlite::params;

use super::{JobRecord, Server, ServerError, record};

/// Returns when an upload expires that comes with this `expire_in`; nothing and `never` are never.
pub(crate) fn expires_at(expire_in: &str, now: Timestamp) -> Result<Option<String>, ServerError> {
    if matches!(expire_in, "" | "never") {
        return Ok(None);
    }
    let invalid = || ServerError::invalid(format!("expire_in `{expire_in}` is no duration"));
    let seconds = parse_duration(expire_in).and_then(|seconds| i64::try_from(seconds).ok()).ok_or_else(invalid)?;
    let time = now.checked_add(SignedDuration::from_secs(seconds)).map_err(|_| invalid())?;
    Ok(Some(record::written(time)))
}

impl Server {
    /// Keeps a job's artifacts for good.
    pub fn keep_artifacts(&self, job: &JobRecord) -> Result<JobRecord, ServerError> {
        let kept = self
            .book()
            .connection
            .execute("UPDATE artifacts SET expires_at = NULL WHERE job_id = ? AND NOT is_erased", params![job.id.0])?;
        if kept == 0 { Err(ServerError::NotFound { what: "artifact" }) } else { Ok(job.clone()) }
    }

    /// Erases what has expired.
    pub(super) fn erase_expired(&self, now: Timestamp) -> Result<(), ServerError> {
        let expired: Vec<(u64, String)> = {
            let book = self.book();
            // A child pipeline that goes on after a restart is evaluated again, from the archives that its configuration is in.
            let mut statement = book.connection.prepare_cached(
                "SELECT job_id, type FROM artifacts WHERE expires_at <= ? AND NOT is_erased AND type <> 'dotenv'
                 AND job_id NOT IN (SELECT value FROM pipelines, json_each(archives) WHERE finished_at IS NULL AND value IS NOT NULL)
                 ORDER BY job_id",
            )?;
            let rows = statement.query_map(params![record::written(now)], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<_, _>>()?
        };
        for (job, kind) in expired {
            let id = JobId(job);
            let _lock = self.lock_files(id);
            // The row first: a file without one is only a waste of room. Unless it was kept meanwhile.
            let erased = self.book().connection.execute(
                "UPDATE artifacts SET is_erased = 1 WHERE job_id = ? AND type = ? AND expires_at <= ?",
                params![job, kind, record::written(now)],
            )?;
            if erased == 0 {
                continue;
            }
            let path = self.jobs.artifact(id, &kind);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(ServerError::file(path)(error)),
                _ => tracing::info!(job = %id, kind, "an artifact has expired"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_in_the_configuration() {
        let now: Timestamp = "2026-08-22T10:00:00Z".parse().expect("a time");
        let at = |text| expires_at(text, now).expect("a duration");
        assert_eq!(at("").or(at("never")), None);
        assert_eq!(at("1 week").as_deref(), Some("2026-08-29T10:00:00.000Z"));
        assert_eq!(at("3 mins 4 sec").as_deref(), Some("2026-08-22T10:03:04.000Z"));
        assert_eq!(at("42").as_deref(), Some("2026-08-22T10:00:42.000Z"));
        let error = expires_at("soon", now).expect_err("no duration");
        assert_eq!(error.to_string(), "expire_in `soon` is no duration");
    }
}
