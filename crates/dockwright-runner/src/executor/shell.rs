//! Jobs without an image: a shell on this machine, with this user's rights.
//!
//! Every script is a new login shell at the head of a process group of its own, as with GitLab's runner. Unlike there, the job gets
//! a Docker engine of its own: `DOCKER_HOST` points at it, and `DOCKER_CONFIG` at a directory that goes with the job, so that
//! `docker login` leaves no secret behind.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{ExecuteError, ExecutorContext, HelperFiles, pump};
use crate::{
    EngineLease,
    helper::{self, HelperRequest},
    trace::{Stream, Trace},
};

/// How long output is waited for after the shell has ended, when a process that it left behind keeps the pipe open.
const LINGER: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(crate) struct ShellExecutor {
    engine: Option<EngineLease>,
    docker_config: Option<TempDir>,
}

impl ShellExecutor {
    pub(super) async fn prepare(&mut self, context: &ExecutorContext, stop: &CancellationToken) -> Result<(), ExecuteError> {
        let shell = shell_program();
        context.trace.line(format!("Using Shell ({shell}) executor...")).await;
        let builds = PathBuf::from(&context.directories.builds);
        tokio::fs::create_dir_all(&builds).await.map_err(ExecuteError::file("create", &builds))?;
        if !context.config.shell.with_engine {
            return Ok(());
        }
        self.docker_config = Some(tempfile::tempdir().map_err(ExecuteError::file("create a directory in", std::env::temp_dir()))?);
        let engine = tokio::select! {
            engine = context.engines.acquire(context.engine_request(vec![builds])) => engine,
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
        let mut command = Command::new(shell_program());
        command.arg("-l").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(engine) = &self.engine {
            command.env("DOCKER_HOST", &engine.endpoint).env_remove("DOCKER_TLS_VERIFY").env_remove("DOCKER_CERT_PATH");
            command.env_remove("DOCKER_CONTEXT");
        }
        if let Some(directory) = &self.docker_config {
            command.env("DOCKER_CONFIG", directory.path());
        }
        let mut child = command.spawn().map_err(ExecuteError::file("run", shell_program()))?;
        let group = Group::of(&child);
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");

        let (ended, output_may_end) = (CancellationToken::new(), CancellationToken::new());
        let follow = |output_ended: CancellationToken| async move {
            output_ended.cancelled().await;
        };
        let input = feed(stdin, script);
        let outputs = async {
            tokio::join!(
                show(stdout, &context.trace, Stream::Stdout, follow(output_may_end.clone())),
                show(stderr, &context.trace, Stream::Stderr, follow(output_may_end.clone())),
            )
        };
        let process = async {
            let status = wait_or_stop(&mut child, &group, context.config.grace_period, stop).await;
            ended.cancel();
            output_may_end.cancel();
            status
        };
        // A shell that ends without reading all of its script must not keep us from noticing.
        let input = async {
            tokio::select! { () = input => {}, () = ended.cancelled() => {} }
        };
        let (status, ..) = tokio::join!(process, input, outputs);
        let status = status.map_err(ExecuteError::file("wait for", shell_program()))?;
        if stop.is_cancelled() {
            return Err(ExecuteError::Stopped);
        }
        result_of(status)
    }

    pub(super) async fn clean_up(self) {
        if let Some(engine) = self.engine {
            engine.release().await;
        }
    }
}

async fn feed(mut stdin: ChildStdin, script: String) {
    // A shell that does not read on has ended; its status says why.
    if stdin.write_all(script.as_bytes()).await.is_ok() {
        let _ = stdin.shutdown().await;
    }
}

/// Shows output to its end, or until the shell has ended and nothing more comes for a moment.
async fn show(output: impl AsyncRead + Unpin, trace: &Trace, stream: Stream, shell_ended: impl Future<Output = ()>) {
    let copy = pump(output, trace, stream);
    tokio::pin!(copy);
    tokio::select! {
        _ = &mut copy => {}
        () = shell_ended => {
            let _ = timeout(LINGER, copy).await;
        }
    }
}

async fn wait_or_stop(child: &mut Child, group: &Group, grace: Duration, stop: &CancellationToken) -> io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        () = stop.cancelled() => {}
    }
    group.signal(Signal::TERM);
    let status = match timeout(grace, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            group.signal(Signal::KILL);
            return child.wait().await;
        }
    };
    // Others of the group may have ignored the first signal.
    group.signal(Signal::KILL);
    status
}

/// The process group of a shell.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // The group may have ended in the meantime.
            let _ = kill_process_group(leader, signal);
        }
    }
}

fn result_of(status: ExitStatus) -> Result<(), ExecuteError> {
    match (status.code(), status.signal()) {
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
        let mut input: Box<dyn Read> = match &files.input {
            Some(path) => Box::new(File::open(path).map_err(ExecuteError::file("open", path))?),
            None => Box::new(io::empty()),
        };
        let mut output: Box<dyn Write> = match &files.output {
            Some(path) => Box::new(File::create(path).map_err(ExecuteError::file("create", path))?),
            None => Box::new(io::sink()),
        };
        Ok(helper::run(&request, &mut input, &mut output, &mut log)?)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| ExecuteError::Helper { reason: error.to_string() })?
}
