//! One call of a program of the driver: its output, its time, its end.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    process::Command,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    executor::READ_BUFFER_BYTES,
    trace::{Stream, Trace},
};

/// Output that is kept is cut after so many bytes.
const KEPT_OUTPUT_LIMIT_BYTES: usize = 1024 * 1024;

/// Where output goes.
pub(super) enum Sink<'a> {
    Trace(&'a Trace, Stream),
    Keep(Vec<u8>),
}

impl Sink<'_> {
    async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Trace(trace, stream) => trace.write(*stream, bytes.to_vec()).await,
            Self::Keep(kept) => {
                let free = KEPT_OUTPUT_LIMIT_BYTES.saturating_sub(kept.len());
                kept.extend_from_slice(&bytes[..bytes.len().min(free)]);
            }
        }
    }

    pub(super) fn kept(&self) -> &[u8] {
        match self {
            Self::Trace(..) => &[],
            Self::Keep(kept) => kept,
        }
    }
}

/// How long a program may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) run: Option<Duration>,
    pub(super) graceful_kill: Duration,
    pub(super) force_kill: Duration,
}

/// How a program ended that was not lost.
#[derive(Debug)]
pub(super) enum End {
    Exited(ExitStatus),
    /// It was told to end.
    Stopped,
    TimedOut(Duration),
}

/// Why a program is being ended.
#[derive(Clone, Copy)]
enum Reason {
    Stopped,
    TimedOut(Duration),
}

/// Runs a program at the head of a process group of its own. When `stop` is cancelled or its time is over, the group gets SIGTERM,
/// and later SIGKILL. What a program leaves running is not waited for: a driver may start the job's machine that way.
pub(super) async fn run(
    mut command: Command,
    stdout: &mut Sink<'_>,
    stderr: &mut Sink<'_>,
    limits: Limits,
    stop: &CancellationToken,
) -> io::Result<End> {
    let (mut out_pipe, out_writer) = output_pipe()?;
    let (mut err_pipe, err_writer) = output_pipe()?;
    command.process_group(0).stdin(Stdio::null()).stdout(out_writer).stderr(err_writer).kill_on_drop(true);
    let mut child = command.spawn()?;
    // The command holds the ends that the program writes to.
    drop(command);
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let (mut out_buffer, mut err_buffer) = (vec![0; READ_BUFFER_BYTES], vec![0; READ_BUFFER_BYTES]);
    let (mut out_open, mut err_open) = (true, true);
    let mut ending: Option<(Reason, Signal)> = None;
    let mut deadline = limits.run.map(|limit| Instant::now() + limit);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            length = out_pipe.read(&mut out_buffer), if out_open => {
                let length = length?;
                out_open = length > 0;
                stdout.write(&out_buffer[..length]).await;
            }
            length = err_pipe.read(&mut err_buffer), if err_open => {
                let length = length?;
                err_open = length > 0;
                stderr.write(&err_buffer[..length]).await;
            }
            () = stop.cancelled(), if ending.is_none() => {
                ending = Some((Reason::Stopped, Signal::TERM));
                deadline = Some(Instant::now() + limits.graceful_kill);
                signal(group, Signal::TERM);
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                let (reason, next) = match ending {
                    None => (Reason::TimedOut(limits.run.unwrap_or_default()), Signal::TERM),
                    Some((reason, Signal::TERM)) => (reason, Signal::KILL),
                    Some(_) => return Err(io::Error::other("the program does not even end on SIGKILL")),
                };
                let time = if next == Signal::TERM { limits.graceful_kill } else { limits.force_kill };
                ending = Some((reason, next));
                deadline = Some(Instant::now() + time);
                signal(group, next);
            }
        }
    };
    drain(&out_pipe, stdout).await;
    drain(&err_pipe, stderr).await;
    Ok(match ending {
        None => End::Exited(status),
        Some((Reason::Stopped, _)) => End::Stopped,
        Some((Reason::TimedOut(limit), _)) => End::TimedOut(limit),
    })
}

fn output_pipe() -> io::Result<(pipe::Receiver, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer))
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // The group may be gone already.
        let _ = kill_process_group(group, signal);
    }
}

/// Takes what the program wrote before its end; what others keep the pipe open for is not waited for.
async fn drain(pipe: &pipe::Receiver, sink: &mut Sink<'_>) {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    while let Ok(length) = pipe.try_read(&mut buffer)
        && length > 0
    {
        sink.write(&buffer[..length]).await;
    }
}

/// Words for an exit status: `exit status 3`, `signal: 9`.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal: {}", signal.unwrap_or_default()),
    }
}
