//! Running a container once: attach, start, write its input, take its output apart, wait for its exit code.

use std::{io, time::Duration};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    exec::StartExecOptions,
    models::ExecConfig,
    query_parameters::{
        AttachContainerOptionsBuilder, KillContainerOptionsBuilder, StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use futures_util::StreamExt as _;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
};
use tokio_util::sync::CancellationToken;

use crate::{
    executor::ExecuteError,
    trace::{Stream, Trace},
};

/// How long the engine may take to start the processes that ask the job's to end.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks every process of a container to end, children before parents. PID 1 is left to `stop`.
const TERMINATE_SCRIPT: &str = r#"for entry in $(ls /proc 2>/dev/null | sort -rn); do
case $entry in *[!0-9]*|1|$$) ;; *) kill -TERM "$entry" 2>/dev/null || true ;; esac
done"#;

/// Where a container's standard output goes; its standard error always goes to the trace.
pub(super) enum Output<'a> {
    Trace,
    File(&'a mut File),
}

/// One run of a container.
pub(super) struct Run<'a> {
    pub(super) docker: &'a Docker,
    pub(super) container: &'a str,
    /// For error messages: `the job's container`.
    pub(super) what: &'static str,
    pub(super) trace: &'a Trace,
    pub(super) stop: &'a CancellationToken,
    pub(super) grace: Duration,
    /// The container may see processes of others (`pid_mode`), which must not be asked to end.
    pub(super) sees_others: bool,
}

impl Run<'_> {
    /// Runs the container with an input and returns its exit code.
    pub(super) async fn execute(&self, input: impl AsyncRead + Send, output: Output<'_>) -> Result<i64, ExecuteError> {
        let options = AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stderr(true).stream(true).build();
        let attached = self
            .docker
            .attach_container(self.container, Some(options))
            .await
            .map_err(ExecuteError::engine(format!("attach to {}", self.what)))?;
        self.docker.start_container(self.container, None).await.map_err(ExecuteError::engine(format!("start {}", self.what)))?;

        let finish = async {
            self.transfer(input, attached.input, attached.output, output).await?;
            self.wait().await
        };
        tokio::pin!(finish);
        tokio::select! {
            finished = &mut finish => finished,
            () = self.stop.cancelled() => {
                // Output goes on being shown while the processes end.
                let wind_down = async { tokio::join!(self.end(), finish) };
                let _ = tokio::time::timeout(TERMINATE_TIMEOUT + self.grace * 2, wind_down).await;
                Err(ExecuteError::Stopped)
            }
        }
    }

    /// Copies in both directions until the output ends, which is when the container has ended.
    async fn transfer(
        &self,
        input: impl AsyncRead + Send,
        stdin: impl AsyncWrite + Send,
        mut stream: impl futures_util::Stream<Item = Result<LogOutput, Error>> + Unpin,
        mut output: Output<'_>,
    ) -> Result<(), ExecuteError> {
        let write = write_input(input, stdin);
        tokio::pin!(write);
        let mut writing = true;
        loop {
            let item = tokio::select! {
                item = stream.next() => item,
                () = &mut write, if writing => {
                    writing = false;
                    continue;
                }
            };
            match item {
                None => break,
                // An engine that closes the connection of a container that has not read all its input resets it.
                Some(Err(error)) if is_reset(&error) => break,
                Some(Err(error)) => return Err(ExecuteError::engine(format!("read the output of {}", self.what))(error)),
                Some(Ok(LogOutput::StdErr { message })) => self.trace.write(Stream::Stderr, message).await,
                Some(Ok(log)) => match &mut output {
                    Output::Trace => self.trace.write(Stream::Stdout, log.into_bytes()).await,
                    Output::File(file) => {
                        file.write_all(&log.into_bytes()).await.map_err(ExecuteError::file("write", "a temporary file"))?;
                    }
                },
            }
        }
        if let Output::File(file) = output {
            file.flush().await.map_err(ExecuteError::file("write", "a temporary file"))?;
        }
        Ok(())
    }

    async fn wait(&self) -> Result<i64, ExecuteError> {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut answers = self.docker.wait_container(self.container, Some(options)).boxed();
        match answers.next().await {
            Some(Ok(answer)) => Ok(answer.status_code),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(ExecuteError::engine(format!("wait for {}", self.what))(error)),
            None => Err(ExecuteError::engine(format!("wait for {}", self.what))(Error::RequestTimeoutError)),
        }
    }

    /// Ends the container: SIGTERM to its processes, then the engine's own stop, then SIGKILL. What fails here is caught by the
    /// next step, and by the clean-up in the end.
    async fn end(&self) {
        if !self.sees_others {
            let _ = tokio::time::timeout(TERMINATE_TIMEOUT, self.terminate_processes()).await;
        }
        let grace_secs = i32::try_from(self.grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(grace_secs).build();
        if self.docker.stop_container(self.container, Some(options)).await.is_err() {
            let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
            let _ = self.docker.kill_container(self.container, Some(options)).await;
        }
    }

    async fn terminate_processes(&self) -> Result<(), Error> {
        let command = ["sh", "-c", TERMINATE_SCRIPT].map(str::to_owned).to_vec();
        let config = ExecConfig { cmd: Some(command), user: Some("0".to_owned()), ..ExecConfig::default() };
        let exec = self.docker.create_exec(self.container, config).await?;
        self.docker.start_exec(&exec.id, Some(StartExecOptions { detach: true, ..StartExecOptions::default() })).await?;
        Ok(())
    }
}

fn is_reset(error: &Error) -> bool {
    matches!(error, Error::IOError { err } if err.kind() == io::ErrorKind::ConnectionReset)
}

/// A container that ends before it has read everything is no error; its exit code tells.
async fn write_input(input: impl AsyncRead + Send, stdin: impl AsyncWrite + Send) {
    tokio::pin!(input, stdin);
    if tokio::io::copy(&mut input, &mut stdin).await.is_ok() {
        let _ = stdin.shutdown().await;
    }
}
