//! The standard streams of a process: pipes or a terminal at one end, a log and any number of attached clients at the other.
//!
//! Every chunk goes to the log first and then to each client in turn. A client that does not read holds the process back, as with
//! Docker; a client that has gone is dropped. A client may attach before the process starts and misses nothing.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use dockwright_container::{process::TerminalSize, spawner::Stdio};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, unix::AsyncFd},
    net::unix::pipe,
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::log::{Log, Reader};
use crate::api::hijack::Stream;

/// Bytes read from a process at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks that wait for a slow client.
const CLIENT_CHUNKS: usize = 16;

/// A piece of output.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) stream: Stream,
    pub(crate) bytes: Bytes,
}

/// The output of a container or an executed process, over all of its runs.
#[derive(Debug)]
pub(crate) struct Output {
    log: Option<Log>,
    clients: Mutex<Vec<mpsc::Sender<Chunk>>>,
}

impl Output {
    pub(crate) fn new(log: Option<Log>) -> Self {
        Self { log, clients: Mutex::default() }
    }

    /// Returns the log, unless the log driver keeps none.
    pub(crate) fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// Attaches a client; it sees everything from now on until the process ends.
    pub(crate) fn attach(&self) -> mpsc::Receiver<Chunk> {
        let (sender, receiver) = mpsc::channel(CLIENT_CHUNKS);
        self.clients().push(sender);
        receiver
    }

    /// Attaches a client and opens the log, so that what is in the log already and what arrives later fit together without a gap.
    pub(crate) fn attach_with_log(&self) -> io::Result<(Option<Reader>, mpsc::Receiver<Chunk>)> {
        let (sender, receiver) = mpsc::channel(CLIENT_CHUNKS);
        let mut clients = self.clients();
        let reader = self.log.as_ref().map(|log| log.read_until_now()).transpose()?;
        clients.push(sender);
        Ok((reader, receiver))
    }

    async fn publish(&self, stream: Stream, bytes: Bytes) {
        let clients: Vec<_> = {
            let mut clients = self.clients();
            // Under the lock, see `attach_with_log`.
            if let Some(Err(error)) = self.log.as_ref().map(|log| log.write(stream, &bytes)) {
                tracing::warn!(%error, "write a container's log");
            }
            clients.retain(|client| !client.is_closed());
            clients.clone()
        };
        for client in clients {
            // A client that has gone is dropped at the next chunk.
            let _ = client.send(Chunk { stream, bytes: bytes.clone() }).await;
        }
    }

    /// Says that the process has ended: the log is completed and clients see the end.
    pub(crate) fn close(&self) {
        if let Some(Err(error)) = self.log.as_ref().map(Log::close) {
            tracing::warn!(%error, "complete a container's log");
        }
        self.clients().clear();
    }

    /// Says that a process starts.
    pub(crate) fn open(&self) {
        if let Some(log) = &self.log {
            log.open();
        }
    }

    fn clients(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Chunk>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The input of a process, over all of its runs: closed, or not there yet, or open.
#[derive(Debug)]
pub(crate) struct Input {
    current: watch::Sender<Option<Arc<tokio::sync::Mutex<Option<InputEnd>>>>>,
}

impl Default for Input {
    fn default() -> Self {
        Self { current: watch::Sender::new(None) }
    }
}

#[derive(Debug)]
enum InputEnd {
    Pipe(pipe::Sender),
    Terminal(Arc<Terminal>),
}

impl Input {
    fn open(&self, end: InputEnd) {
        self.current.send_replace(Some(Arc::new(tokio::sync::Mutex::new(Some(end)))));
    }

    /// Says that the process has ended.
    pub(crate) fn close(&self) {
        self.current.send_replace(None);
    }

    /// Waits for the process to start and returns a writer to it.
    pub(crate) async fn writer(&self) -> Option<InputWriter> {
        let mut current = self.current.subscribe();
        let open = current.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(InputWriter { open })
    }
}

/// Writes to the input of one run of a process.
#[derive(Debug)]
pub(crate) struct InputWriter {
    open: Arc<tokio::sync::Mutex<Option<InputEnd>>>,
}

impl InputWriter {
    /// Writes all bytes; fails once the process does not read any more.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.open.lock().await.as_mut() {
            Some(InputEnd::Pipe(pipe)) => pipe.write_all(bytes).await,
            Some(InputEnd::Terminal(terminal)) => terminal.write_all(bytes).await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Ends the input. On a terminal that is a character which only the user can send.
    pub(crate) async fn close(&self) {
        let mut open = self.open.lock().await;
        if matches!(&*open, Some(InputEnd::Pipe(_))) {
            *open = None;
        }
    }
}

/// The engine's end of a terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    descriptor: AsyncFd<OwnedFd>,
}

impl Terminal {
    fn new(descriptor: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        #[expect(deprecated, reason = "its successor is unsafe; what could go wrong with other types cannot with an `OwnedFd`")]
        let descriptor = AsyncFd::new(descriptor)?;
        Ok(Self { descriptor })
    }

    /// Sets the size.
    pub(crate) fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.descriptor.get_ref(), size)?)
    }

    /// Reads some bytes; zero at the end.
    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.descriptor.readable().await?;
            match ready.try_io(|inner| Ok(rustix::io::read(inner.get_ref(), &mut *buffer)?)) {
                // The last process on the terminal has closed it.
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(0),
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.descriptor.writable().await?;
            if let Ok(written) = ready.try_io(|inner| Ok(rustix::io::write(inner.get_ref(), bytes)?)) {
                bytes = &bytes[written?..];
            }
        }
        Ok(())
    }
}

/// The process's ends of its pipes, until it is started.
#[derive(Debug)]
pub(crate) struct ProcessEnds {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl ProcessEnds {
    /// Borrows the ends for a start.
    pub(crate) fn stdio(&self) -> Stdio<'_> {
        Stdio { stdin: self.stdin.as_fd(), stdout: self.stdout.as_fd(), stderr: self.stderr.as_fd() }
    }
}

/// The engine's ends of a process's pipes, until it is started.
#[derive(Debug)]
pub(crate) struct Pipes {
    stdin: Option<io::PipeWriter>,
    stdout: io::PipeReader,
    stderr: io::PipeReader,
}

impl Pipes {
    /// Makes the pipes of a process. Without input it reads from `/dev/null`.
    pub(crate) fn new(with_input: bool) -> io::Result<(Self, ProcessEnds)> {
        let (stdout, stdout_end) = io::pipe()?;
        let (stderr, stderr_end) = io::pipe()?;
        let (stdin, stdin_end) = if with_input {
            let (reader, writer) = io::pipe()?;
            (Some(writer), OwnedFd::from(reader))
        } else {
            (None, File::open("/dev/null")?.into())
        };
        let ends = ProcessEnds { stdin: stdin_end, stdout: stdout_end.into(), stderr: stderr_end.into() };
        Ok((Self { stdin, stdout, stderr }, ends))
    }

    /// Begins to carry bytes; the tasks end when the process (and what it started) has closed its ends.
    pub(crate) fn carry(self, input: &Input, output: &Arc<Output>) -> io::Result<JoinSet<()>> {
        if let Some(stdin) = self.stdin {
            input.open(InputEnd::Pipe(pipe::Sender::from_owned_fd(stdin.into())?));
        }
        let mut tasks = JoinSet::new();
        for (stream, end) in [(Stream::Stdout, self.stdout), (Stream::Stderr, self.stderr)] {
            let mut end = pipe::Receiver::from_owned_fd(end.into())?;
            let output = Arc::clone(output);
            tasks.spawn(async move {
                let mut buffer = vec![0; CHUNK_BYTES];
                while let Ok(length @ 1..) = end.read(&mut buffer).await {
                    output.publish(stream, Bytes::copy_from_slice(&buffer[..length])).await;
                }
            });
        }
        Ok(tasks)
    }
}

/// Begins to carry the bytes of a terminal, and returns it for resizing.
pub(crate) fn carry_terminal(descriptor: OwnedFd, input: Option<&Input>, output: &Arc<Output>) -> io::Result<(Arc<Terminal>, JoinSet<()>)> {
    let terminal = Arc::new(Terminal::new(descriptor)?);
    if let Some(input) = input {
        input.open(InputEnd::Terminal(Arc::clone(&terminal)));
    }
    let (reading, output) = (Arc::clone(&terminal), Arc::clone(output));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(length @ 1..) = reading.read(&mut buffer).await {
            output.publish(Stream::Stdout, Bytes::copy_from_slice(&buffer[..length])).await;
        }
    });
    Ok((terminal, tasks))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[tokio::test]
    async fn bytes_flow_in_both_directions() {
        let (pipes, ends) = Pipes::new(true).unwrap();
        let (input, output) = (Input::default(), Arc::new(Output::new(None)));
        let mut client = output.attach();
        let mut tasks = pipes.carry(&input, &output).unwrap();
        let writer = input.writer().await.unwrap();
        writer.write(b"question").await.unwrap();
        writer.close().await;
        let echo = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            File::from(ends.stdin).read_to_string(&mut text).unwrap();
            File::from(ends.stderr).write_all(text.as_bytes()).unwrap();
        });
        let chunk = client.recv().await.unwrap();
        assert_eq!((chunk.stream, &chunk.bytes[..]), (Stream::Stderr, &b"question"[..]));
        echo.await.unwrap();
        drop(ends.stdout);
        while tasks.join_next().await.is_some() {}
        output.close();
        assert!(client.recv().await.is_none());
        assert!(writer.write(b"more").await.is_err());
    }

    #[tokio::test]
    async fn log_and_client_together_miss_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::new(Some(Log::new(dir.path().join("log"))));
        output.open();
        output.publish(Stream::Stdout, Bytes::from_static(b"before\n")).await;
        let (reader, mut client) = output.attach_with_log().unwrap();
        output.publish(Stream::Stdout, Bytes::from_static(b"after\n")).await;
        let mut reader = reader.unwrap();
        assert_eq!(reader.next().unwrap().unwrap().text, "before\n");
        assert_eq!(reader.next().unwrap(), None);
        assert_eq!(&client.recv().await.unwrap().bytes[..], b"after\n");
    }
}
