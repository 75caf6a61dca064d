//! The runner's side of the keeper: the process that starts a shell job's scripts, and ends what they leave behind.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::Stdio,
    time::Duration,
};

use rustix::io::Errno;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
    process::{Child, Command},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    executor::{ExecuteError, READ_BUFFER_BYTES},
    helper::keeper::{Order, Report},
    trace::{Stream, Trace},
};

/// Longer than the keeper itself takes before it gives up.
const END_TIMEOUT: Duration = Duration::from_secs(15);

/// A keeper process with its output, which is that of all scripts it starts.
pub(super) struct Keeper {
    process: Child,
    reports: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Keeper {
    /// Starts `program internal helper keep` with further environment for the scripts. The directory `temporary` is removed with the
    /// last of their processes.
    pub(super) fn start(program: &Path, temporary: &str, configure: impl FnOnce(&mut Command)) -> Result<Self, ExecuteError> {
        // A check of its own, since what fails to start would only be "not found".
        fs::metadata(program).map_err(ExecuteError::file("find the program", program))?;
        let start = || -> io::Result<Self> {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
            let (stdout, stdout_writer) = io::pipe()?;
            let (stderr, stderr_writer) = io::pipe()?;
            let mut command = Command::new(program);
            command.args(["internal", "helper", "keep", temporary]);
            // A group of its own: Ctrl-C at the terminal is for the runner, which then stops the job.
            command.process_group(0).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(stdout_writer).stderr(stderr_writer);
            configure(&mut command);
            let process = command.spawn()?;
            ours.set_nonblocking(true)?;
            let (reports, orders) = UnixStream::from_std(ours)?.into_split();
            Ok(Self {
                process,
                reports: BufReader::new(reports).lines(),
                orders,
                stdout: pipe::Receiver::from_owned_fd(stdout.into())?,
                stderr: pipe::Receiver::from_owned_fd(stderr.into())?,
            })
        };
        start().map_err(ExecuteError::file("run", program))
    }

    /// Runs a shell with a script. When `stop` is cancelled, every process of the job is ended.
    pub(super) async fn run(
        &mut self,
        shell: &str,
        script: &str,
        trace: &Trace,
        grace: Duration,
        stop: &CancellationToken,
    ) -> Result<Report, ExecuteError> {
        let arguments = vec!["-l".to_owned()];
        let run = Order::Run { program: shell.to_owned(), arguments, input_bytes: script.len() };
        self.order(&run, script.as_bytes()).await?;
        let (mut out, mut err) = (vec![0; READ_BUFFER_BYTES], vec![0; READ_BUFFER_BYTES]);
        let mut stopping = false;
        let report = loop {
            tokio::select! {
                line = self.reports.next_line() => break line.map_err(lost)?,
                length = self.stdout.read(&mut out) => trace.write(Stream::Stdout, out[..length.map_err(lost)?].to_vec()).await,
                length = self.stderr.read(&mut err) => trace.write(Stream::Stderr, err[..length.map_err(lost)?].to_vec()).await,
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                    self.order(&Order::Stop { grace_ms }, b"").await?;
                }
            }
        };
        // What the shell wrote is in the pipes; what others keep them open for is not waited for.
        drain(&self.stdout, trace, Stream::Stdout).await;
        drain(&self.stderr, trace, Stream::Stderr).await;
        let report = report.ok_or_else(|| lost(io::ErrorKind::UnexpectedEof.into()))?;
        serde_json::from_str(&report).map_err(|error| lost(error.into()))
    }

    async fn order(&mut self, order: &Order, input: &[u8]) -> Result<(), ExecuteError> {
        let mut bytes = serde_json::to_vec(order).expect("orders are plain data");
        bytes.push(b'\n');
        bytes.extend_from_slice(input);
        self.orders.write_all(&bytes).await.map_err(lost)
    }

    /// Ends whatever still runs and waits for it.
    pub(super) async fn end(self) {
        let Self { mut process, reports, orders, stdout, stderr } = self;
        drop((reports, orders));
        // Nobody may block on a full pipe while it is asked to end.
        drop((stdout, stderr));
        if timeout(END_TIMEOUT, process.wait()).await.is_err() {
            tracing::warn!("processes of a shell job do not end");
            let _ = process.kill().await;
        }
    }
}

fn lost(error: io::Error) -> ExecuteError {
    ExecuteError::Keeper(error)
}

/// Shows what a pipe holds now.
async fn drain(pipe: &impl AsFd, trace: &Trace, stream: Stream) {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        match rustix::io::read(pipe, buffer.as_mut_slice()) {
            Ok(length) if length > 0 => trace.write(stream, buffer[..length].to_vec()).await,
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}
