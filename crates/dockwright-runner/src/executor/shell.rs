//! Jobs without an image: a shell on this machine, with this user's rights.
//!
//! Every script is a new login shell at the head of a process group of its own, as with GitLab's runner. Unlike there, nothing that
//! a job starts outlives it (see [`keeper`]), and the job gets a Docker engine of its own: `DOCKER_HOST` points at it, and
//! `DOCKER_CONFIG` at a directory that goes with the job, so that `docker login` leaves no secret behind.

mod keeper;

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
};

use tempfile::TempDir;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use self::keeper::Keeper;
use super::{ExecuteError, ExecutorContext, HelperFiles};
use crate::{
    EngineLease,
    helper::{self, HelperRequest, Input, keeper::Report},
    trace::Stream,
};

#[derive(Default)]
pub(crate) struct ShellExecutor {
    engine: Option<EngineLease>,
    docker_config: Option<TempDir>,
    keeper: Option<Keeper>,
}

impl ShellExecutor {
    pub(super) async fn prepare(&mut self, context: &ExecutorContext, stop: &CancellationToken) -> Result<(), ExecuteError> {
        let shell = shell_program();
        context.trace.line(format!("Using Shell ({shell}) executor...")).await;
        let own = PathBuf::from(&context.directories.own);
        tokio::fs::create_dir_all(&own).await.map_err(ExecuteError::file("create", &own))?;
        if !context.config.shell.with_engine {
            return Ok(());
        }
        let scratch = context.config.scratch_dir.clone();
        self.docker_config = Some(tempfile::tempdir_in(&scratch).map_err(ExecuteError::file("create a directory in", scratch))?);
        let engine = tokio::select! {
            engine = context.engines.acquire(context.engine_request(vec![own])) => engine,
            () = stop.cancelled() => return Err(ExecuteError::Stopped),
        };
        match engine {
            Ok(engine) => self.engine = Some(engine),
            // Most shell jobs need no containers; those that do fail with the client's own message right after this line.
            Err(error) => context.trace.warning(format!("this job has no Docker engine: {}", crate::outcome::chain(&error))).await,
        }
        Ok(())
    }

    pub(super) fn engine_endpoint(&self) -> Option<String> {
        self.engine.as_ref().map(|engine| engine.endpoint.clone())
    }

    pub(super) async fn run_script(
        &mut self,
        context: &ExecutorContext,
        script: String,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        let mut keeper = match self.keeper.take() {
            Some(keeper) => keeper,
            None => {
                Keeper::start(&context.config.docker.helper_binary, &context.directories.temp, |command| self.set_environment(command))?
            }
        };
        let report = keeper.run(shell_program(), &script, &context.trace, context.config.grace_period, stop).await;
        self.keeper = Some(keeper);
        let report = report?;
        if stop.is_cancelled() {
            return Err(ExecuteError::Stopped);
        }
        result_of(report)
    }

    fn set_environment(&self, command: &mut Command) {
        if let Some(engine) = &self.engine {
            command.env("DOCKER_HOST", &engine.endpoint);
            for foreign in ["DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT"] {
                command.env_remove(foreign);
            }
        }
        if let Some(directory) = &self.docker_config {
            command.env("DOCKER_CONFIG", directory.path());
        }
    }

    pub(super) async fn clean_up(self, context: &ExecutorContext) {
        if let Some(keeper) = self.keeper {
            keeper.end().await;
        }
        // A job that was stopped did not come to its last phase, which removes file variables.
        if let Err(error) = tokio::fs::remove_dir_all(&context.directories.temp).await
            && error.kind() != io::ErrorKind::NotFound
        {
            context.trace.warning(format!("clean-up: remove `{}`: {error}", context.directories.temp)).await;
        }
        if let Some(engine) = self.engine {
            engine.release().await;
        }
    }
}

fn result_of(report: Report) -> Result<(), ExecuteError> {
    let (code, signal) = match report {
        Report::Ended { code, signal } => (code, signal),
        Report::NotStarted { reason } => return Err(ExecuteError::Helper { reason }),
    };
    match (code, signal) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(ExecuteError::Exit { code, text: format!("exit status {code}") }),
        (None, signal) => {
            let name = match signal {
                Some(9) => "killed".to_owned(),
                Some(15) => "terminated".to_owned(),
                Some(number) => number.to_string(),
                None => "unknown".to_owned(),
            };
            Err(ExecuteError::Exit { code: -1, text: format!("signal: {name}") })
        }
    }
}

fn shell_program() -> &'static str {
    let has_bash = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("bash").is_file()));
    if has_bash { "bash" } else { "sh" }
}

/// Runs a helper operation in this process: the files are this user's.
pub(super) async fn run_helper(context: &ExecutorContext, request: HelperRequest, files: HelperFiles) -> Result<(), ExecuteError> {
    let mut log = context.trace.blocking_writer(Stream::Stderr);
    let work = move || -> Result<(), ExecuteError> {
        let input = match &files.input {
            Some(path) => Input::File(File::open(path).map_err(ExecuteError::file("open", path))?),
            None => Input::Nothing,
        };
        let mut output: Box<dyn Write> = match &files.output {
            Some(path) => Box::new(File::create(path).map_err(ExecuteError::file("create", path))?),
            None => Box::new(io::sink()),
        };
        Ok(helper::run(&request, input, &mut output, &mut log)?)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| ExecuteError::Helper { reason: error.to_string() })?
}
