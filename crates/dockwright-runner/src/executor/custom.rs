//! Jobs in an environment that programs of the runner's owner make: a driver.
//!
//! ```text
//! config_exec ─► prepare_exec ─► run_exec SCRIPT PHASE, once for each phase ─► cleanup_exec
//! ```
//!
//! The programs run here, with the runner's rights. What they do with a script is theirs: they may carry it into a virtual machine, a
//! chroot or another host. So the runner cannot reach the job's files; whatever it does with them elsewhere by itself is a script
//! here, too, which needs `git` and `gitlab-runner` in the environment (see `job_run::remote`). The protocol is GitLab Runner's:
//! <https://docs.gitlab.com/runner/executors/custom/>.

mod driver;
mod process;

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path, process::ExitStatus, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

pub(crate) use self::driver::Place;
use self::{
    driver::{Answer, BUILD_FAILURE_EXIT_CODE, SYSTEM_FAILURE_EXIT_CODE},
    process::{End, Limits, Sink},
};
use super::{ExecuteError, ExecutorContext, runner_host_name};
use crate::{
    Phase,
    config::{CustomConfig, CustomProgram},
    trace::Stream,
};

pub(crate) struct CustomExecutor {
    config: Arc<CustomConfig>,
    /// Scripts and other files of this job, for the driver alone.
    directory: Option<TempDir>,
    answer: Answer,
    place: Place,
    scripts: usize,
}

impl CustomExecutor {
    pub(crate) fn new(config: Arc<CustomConfig>) -> Self {
        let place = Place::configured(&config);
        Self { config, directory: None, answer: Answer::default(), place, scripts: 0 }
    }

    /// Asks the driver what the job's environment is like. What follows has to go by the [`Place`] that is returned.
    pub(crate) async fn configure(&mut self, context: &ExecutorContext, stop: &CancellationToken) -> Result<Place, ExecuteError> {
        let scratch = context.config.scratch_dir.clone();
        let private = Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().permissions(private).tempdir_in(&scratch);
        let directory = directory.map_err(ExecuteError::file("create a directory in", scratch))?;
        driver::write_payload(context, directory.path()).map_err(ExecuteError::file("write the job's payload in", directory.path()))?;
        self.directory = Some(directory);
        if let Some(program) = &self.config.config {
            let mut stdout = Sink::Keep(Vec::new());
            let mut stderr = Sink::Trace(&context.trace, Stream::Stderr);
            self.call(context, "config_exec", program, &[], (&mut stdout, &mut stderr), stop).await?;
            self.answer = Answer::parse(stdout.kept()).map_err(|error| ExecuteError::Driver {
                program: "config_exec",
                problem: format!("printed what is no JSON object as it should be: {error}"),
            })?;
        }
        if let Some(shell) = self.answer.shell.as_deref().filter(|shell| !matches!(*shell, "" | "bash" | "sh")) {
            let problem = format!("asks for the shell `{shell}`; scripts are written for `bash` and `sh`");
            return Err(ExecuteError::Driver { program: "config_exec", problem });
        }
        self.place = self.place.clone().changed_by(&self.answer);
        for (key, directory) in [("builds_dir", &self.place.builds_dir), ("cache_dir", &self.place.cache_dir)] {
            if directory.is_empty() {
                return Err(ExecuteError::NoDirectory { key });
            }
        }
        Ok(self.place.clone())
    }

    /// Lets the driver make the environment.
    pub(super) async fn prepare(&mut self, context: &ExecutorContext, stop: &CancellationToken) -> Result<(), ExecuteError> {
        context.trace.line(self.answer.title()).await;
        let Some(program) = &self.config.prepare else { return Ok(()) };
        let (mut stdout, mut stderr) = to_trace(context);
        self.call(context, "prepare_exec", program, &[], (&mut stdout, &mut stderr), stop).await
    }

    /// Name of the machine that the environment is on.
    pub(crate) fn host_name(&self) -> String {
        self.answer.hostname.clone().unwrap_or_else(runner_host_name)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) async fn run_script(
        &mut self,
        context: &ExecutorContext,
        phase: &Phase,
        script: &str,
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        self.scripts += 1;
        let directory = self.directory.as_ref().expect("a job is configured before its phases run").path();
        let path = directory.join(format!("script.{}", self.scripts));
        driver::write_private(&path, script.as_bytes()).map_err(ExecuteError::file("write", &path))?;
        let (path, phase) = (path.to_string_lossy().into_owned(), stage_name(phase));
        let (mut stdout, mut stderr) = to_trace(context);
        self.call(context, "run_exec", &self.config.run, &[&path, &phase], (&mut stdout, &mut stderr), stop).await
    }

    /// Lets the driver remove the environment, whatever came of the job. What it prints is for the runner's log.
    pub(super) async fn clean_up(self, context: &ExecutorContext) {
        if let (Some(program), Some(_)) = (&self.config.cleanup, &self.directory) {
            let (mut stdout, mut stderr) = (Sink::Keep(Vec::new()), Sink::Keep(Vec::new()));
            let outputs = (&mut stdout, &mut stderr);
            let result = self.call(context, "cleanup_exec", program, &[], outputs, &CancellationToken::new()).await;
            let job = context.payload.id;
            for line in lines(context, stdout.kept()) {
                tracing::debug!(%job, "cleanup_exec: {line}");
            }
            for line in lines(context, stderr.kept()) {
                tracing::warn!(%job, "cleanup_exec: {line}");
            }
            if let Err(error) = result {
                context.trace.warning(format!("clean-up: {}", crate::outcome::chain(&error))).await;
            }
        }
    }

    async fn call(
        &self,
        context: &ExecutorContext,
        name: &'static str,
        program: &CustomProgram,
        arguments: &[&str],
        (stdout, stderr): (&mut Sink<'_>, &mut Sink<'_>),
        stop: &CancellationToken,
    ) -> Result<(), ExecuteError> {
        if stop.is_cancelled() {
            return Err(ExecuteError::Stopped);
        }
        let directory = self.directory.as_ref().expect("a job is configured before its programs run").path();
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).args(arguments).envs(driver::environment(context, directory));
        let of_driver = self.answer.job_env.iter().flatten().filter(|(key, _)| driver::is_environment_name(key));
        command.envs(of_driver);
        let limits =
            Limits { run: program.timeout, graceful_kill: self.config.graceful_kill_timeout, force_kill: self.config.force_kill_timeout };
        let end = process::run(command, stdout, stderr, limits, stop).await.map_err(ExecuteError::file("run", &program.path))?;
        match end {
            End::Exited(status) => result_of(name, status, directory),
            End::Stopped => Err(ExecuteError::Stopped),
            End::TimedOut(limit) => Err(timed_out(name, limit)),
        }
    }
}

fn to_trace(context: &ExecutorContext) -> (Sink<'_>, Sink<'_>) {
    (Sink::Trace(&context.trace, Stream::Stdout), Sink::Trace(&context.trace, Stream::Stderr))
}

/// What drivers know a phase by. The name of the user's script is the one that it had before there were steps.
fn stage_name(phase: &Phase) -> String {
    match phase {
        Phase::Step(name) if name == "script" => "build_script".to_owned(),
        phase => phase.section().into_owned(),
    }
}

/// Only the two agreed codes say whose failure it is; any other is the driver's own.
fn result_of(program: &'static str, status: ExitStatus, directory: &Path) -> Result<(), ExecuteError> {
    match status.code() {
        Some(0) => Ok(()),
        Some(BUILD_FAILURE_EXIT_CODE) => {
            let code = driver::take_exit_code(directory).unwrap_or(BUILD_FAILURE_EXIT_CODE);
            Err(ExecuteError::Exit { code, text: format!("exit status {code}") })
        }
        Some(SYSTEM_FAILURE_EXIT_CODE) => Err(ExecuteError::Driver { program, problem: format!("failed: {}", process::describe(status)) }),
        _ => {
            let problem = format!(
                "ended with {}, which is neither BUILD_FAILURE_EXIT_CODE ({BUILD_FAILURE_EXIT_CODE}) nor SYSTEM_FAILURE_EXIT_CODE \
                 ({SYSTEM_FAILURE_EXIT_CODE})",
                process::describe(status)
            );
            Err(ExecuteError::Driver { program, problem })
        }
    }
}

fn timed_out(program: &'static str, limit: Duration) -> ExecuteError {
    ExecuteError::Driver { program, problem: format!("took longer than {}", crate::outcome::go_duration(limit)) }
}

/// Lines for the runner's log, without the job's secrets.
fn lines(context: &ExecutorContext, output: &[u8]) -> Vec<String> {
    let mut text = String::from_utf8_lossy(output).into_owned();
    let secrets = context.variables.masked_values().chain([context.payload.token.expose()]);
    for secret in secrets.filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "[MASKED]");
    }
    text.lines().map(str::to_owned).collect()
}
