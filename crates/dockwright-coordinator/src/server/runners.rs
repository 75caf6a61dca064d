//! Runners and their tokens.

use dockwright_job::{RegisteredRunner, Registration, RunnerToken};
use rusqlite::params;

use super::{
    RunnerRecord, Server, ServerError, database,
    record::{self, Record as _},
    secret,
};

/// A runner to make.
#[derive(Debug, Clone, Default)]
pub struct NewRunner {
    pub description: String,
    pub tags: Vec<String>,
    pub run_untagged: bool,
    pub locked: bool,
    pub paused: bool,
    /// Takes only jobs of protected branches.
    pub ref_protected: bool,
}

impl NewRunner {
    /// Reads tags separated by commas.
    pub fn tags(list: &str) -> Vec<String> {
        list.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
    }
}

impl Server {
    /// Makes a runner with a token of the new kind (`glrt-`).
    pub fn create_runner(&self, runner: &NewRunner) -> Result<RegisteredRunner, ServerError> {
        self.insert_runner(runner, "glrt-")
    }

    /// Exchanges the registration token for a runner.
    pub fn register(&self, registration: &Registration) -> Result<RegisteredRunner, ServerError> {
        if !secret::is_same(&self.registration_token, registration.token.expose()) {
            return Err(ServerError::Forbidden);
        }
        let tags = NewRunner::tags(&registration.tag_list);
        let runner = NewRunner {
            description: registration.description.clone(),
            run_untagged: registration.run_untagged || tags.is_empty(),
            tags,
            locked: registration.locked,
            paused: registration.paused,
            ref_protected: registration.access_level == "ref_protected",
        };
        self.insert_runner(&runner, "glrtr-")
    }

    fn insert_runner(&self, runner: &NewRunner, prefix: &str) -> Result<RegisteredRunner, ServerError> {
        if runner.tags.is_empty() && !runner.run_untagged {
            return Err(ServerError::invalid("a runner without tags has to run untagged jobs"));
        }
        let token = secret::new(prefix);
        let mut book = self.book();
        let transaction = database::begin(&mut book.connection)?;
        transaction.execute(
            "INSERT INTO runners (token_digest, description, tags, run_untagged, locked, paused, ref_protected, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                secret::digest(&token),
                runner.description,
                record::joined(&runner.tags),
                runner.run_untagged,
                runner.locked,
                runner.paused,
                runner.ref_protected,
                record::now()
            ],
        )?;
        let id = u64::try_from(transaction.last_insert_rowid()).unwrap_or_default();
        transaction.commit()?;
        Ok(RegisteredRunner { id, token: RunnerToken::new(token), token_expires_at: None })
    }

    /// Returns the runner of a token.
    pub fn runner(&self, token: &str) -> Result<RunnerRecord, ServerError> {
        let found = RunnerRecord::find(&self.book().connection, "WHERE token_digest = ?", params![secret::digest(token)])?;
        found.ok_or(ServerError::Forbidden)
    }

    /// Returns all runners.
    pub fn runners(&self) -> Result<Vec<RunnerRecord>, ServerError> {
        RunnerRecord::list(&self.book().connection, "ORDER BY id", params![])
    }

    /// Removes a runner. Jobs that it runs go on being reported.
    pub fn delete_runner(&self, id: u64) -> Result<(), ServerError> {
        match self.book().connection.execute("DELETE FROM runners WHERE id = ?", params![id])? {
            0 => Err(ServerError::NotFound { what: "runner" }),
            _ => Ok(()),
        }
    }

    /// Replaces a runner's token.
    pub fn reset_runner_token(&self, id: u64) -> Result<RegisteredRunner, ServerError> {
        let token = secret::new("glrt-");
        let changed =
            self.book().connection.execute("UPDATE runners SET token_digest = ? WHERE id = ?", params![secret::digest(&token), id])?;
        if changed == 0 {
            return Err(ServerError::NotFound { what: "runner" });
        }
        Ok(RegisteredRunner { id, token: RunnerToken::new(token), token_expires_at: None })
    }
}
