//! A job's trace: what the runner and the job printed, on its way to the coordinator.
//!
//! ```text
//! writers ──bounded channel──► masker per stream ─► timestamps ─► limit, CRC ─► pending bytes ──► Coordinator::append_trace
//! ```
//!
//! One task owns everything right of the channel. While the coordinator does not take what is pending, the channel fills and the
//! job's output waits: a trace never grows in memory beyond [`PENDING_LIMIT_BYTES`] and the channel.
//!
//! A trace that this machine cannot keep, because the disk is full, ends the job. What was kept is delivered, and the runner's words on
//! the job's end behind it.

mod mask;
mod timestamp;

pub(crate) use self::mask::FURTHER_TOKEN_PREFIXES;

use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use dockwright_job::TraceChecksum;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

use self::{
    mask::{MaskRules, Masker},
    timestamp::Timestamper,
};
use crate::{
    Coordinator, CoordinatorError, Phase,
    coordinator::JobAccess,
    hint::{Observation, Watcher},
    outcome::chain,
    variables::JobVariables,
};

/// Writes that wait for the trace's task.
const CHANNEL_LENGTH: usize = 64;
/// Larger writes are cut, so that the channel's length bounds its bytes.
const WRITE_LIMIT_BYTES: usize = 32 * 1024;
/// Handed on at once when so much is pending.
const PENDING_LIMIT_BYTES: usize = 1024 * 1024;
/// What is kept or lost as a whole when a disk fills.
const PIECE_MAX_BYTES: usize = 128 * 1024;
/// Attempts to deliver the end of a trace.
const FINAL_ATTEMPTS: u32 = 10;

/// Attempts to keep a piece of a trace on this machine. What comes after that are the last words.
pub(crate) const STORE_ATTEMPTS: u32 = 5;

/// Who printed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Runner,
    Stdout,
    Stderr,
}

impl Stream {
    const COUNT: usize = 3;
    const ALL: [Self; Self::COUNT] = [Self::Runner, Self::Stdout, Self::Stderr];

    fn index(self) -> usize {
        match self {
            Self::Runner => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// Number and letter in the head of a line.
    fn code(self) -> &'static str {
        match self {
            Self::Runner => "00O",
            Self::Stdout => "01O",
            Self::Stderr => "01E",
        }
    }
}

enum Command {
    Write(Stream, Bytes),
    /// The process behind the script's streams has ended.
    EndScriptStreams(oneshot::Sender<()>),
    Observations(oneshot::Sender<BTreeSet<Observation>>),
    Finish,
}

/// Writes to a job's trace. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    sender: mpsc::Sender<Command>,
    sections: bool,
}

/// How a trace is kept.
pub(crate) struct TraceOptions {
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) access: JobAccess,
    pub(crate) timestamps: bool,
    /// Section markers are written.
    pub(crate) sections: bool,
    pub(crate) limit_bytes: u64,
    pub(crate) interval: Duration,
    /// How long to wait for a coordinator that does not answer; at the end it doubles with each attempt.
    pub(crate) retry_delay: Duration,
    /// Cancelled when the trace cannot be kept.
    pub(crate) lost: CancellationToken,
}

impl Trace {
    /// Starts the trace's task, which ends after [`Trace::finish`] with the checksum of all that was delivered.
    pub(crate) fn start(
        options: TraceOptions,
        variables: &JobVariables,
        further_secrets: &[&str],
        token_prefixes: &[String],
    ) -> (Self, JoinHandle<Result<TraceChecksum, CoordinatorError>>) {
        let (sender, receiver) = mpsc::channel(CHANNEL_LENGTH);
        let secrets = variables.masked_values().chain([options.access.token.expose()]).chain(further_secrets.iter().copied());
        let rules = MaskRules::new(secrets, token_prefixes);
        let trace = Self { sender, sections: options.sections };
        let task = TraceTask {
            maskers: Stream::ALL.map(|_| Masker::new(&rules)),
            rules,
            timestamper: options.timestamps.then(Timestamper::default),
            watcher: Watcher::default(),
            checksum: crc32fast::Hasher::new(),
            size: 0,
            limited: false,
            pending: BytesMut::new(),
            delivered: 0,
            refused: None,
            failures: 0,
            lost: None,
            options,
        };
        (trace, tokio::spawn(task.run(receiver)))
    }

    /// Writes raw output. After the trace has ended this does nothing.
    pub(crate) async fn write(&self, stream: Stream, bytes: impl Into<Bytes>) {
        let mut bytes = bytes.into();
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(WRITE_LIMIT_BYTES));
            if self.sender.send(Command::Write(stream, piece)).await.is_err() {
                return;
            }
        }
    }

    /// A line of the runner's.
    pub(crate) async fn line(&self, text: impl AsRef<str>) {
        self.colored("\x1b[0K", text.as_ref()).await;
    }

    /// A line of good news.
    pub(crate) async fn info(&self, text: impl AsRef<str>) {
        self.colored("\x1b[32;1m", text.as_ref()).await;
    }

    pub(crate) async fn warning(&self, text: impl AsRef<str>) {
        self.colored("\x1b[0;33m", &format!("WARNING: {}", text.as_ref())).await;
    }

    pub(crate) async fn error(&self, text: impl AsRef<str>) {
        self.colored("\x1b[31;1m", &format!("ERROR: {}", text.as_ref())).await;
    }

    /// Further help, line by line.
    pub(crate) async fn hint(&self, text: impl AsRef<str>) {
        for line in text.as_ref().lines() {
            self.colored("\x1b[33;1m", line).await;
        }
    }

    async fn colored(&self, color: &str, text: &str) {
        self.write(Stream::Runner, format!("{color}{text}\x1b[0;m\n")).await;
    }

    /// Opens a phase: marker and title.
    pub(crate) async fn start_section(&self, phase: &Phase, executor: &str) {
        if self.sections {
            self.write(Stream::Runner, format!("section_start:{}:{}\r\x1b[0K", unix_time(), phase.section())).await;
        }
        self.line(format!("\x1b[36;1m{}\x1b[0;m", phase.title(executor))).await;
    }

    /// Closes a phase; what its processes left unfinished is shown first.
    pub(crate) async fn end_section(&self, phase: &Phase) {
        let (done, wait) = oneshot::channel();
        if self.sender.send(Command::EndScriptStreams(done)).await.is_ok() {
            let _ = wait.await;
        }
        if self.sections {
            self.write(Stream::Runner, format!("section_end:{}:{}\r\x1b[0K", unix_time(), phase.section())).await;
        }
    }

    /// Returns what the hints are made of, as far as it was printed before this call.
    pub(crate) async fn observations(&self) -> BTreeSet<Observation> {
        let (answer, wait) = oneshot::channel();
        if self.sender.send(Command::Observations(answer)).await.is_err() {
            return BTreeSet::new();
        }
        wait.await.unwrap_or_default()
    }

    /// Ends the trace.
    pub(crate) async fn finish(self) {
        let _ = self.sender.send(Command::Finish).await;
    }

    /// Returns a blocking writer, for work on other threads.
    pub(crate) fn blocking_writer(&self, stream: Stream) -> BlockingWriter {
        BlockingWriter { trace: self.clone(), stream }
    }
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Writes to a trace from a thread that may block.
#[derive(Debug)]
pub(crate) struct BlockingWriter {
    trace: Trace,
    stream: Stream,
}

impl io::Write for BlockingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(WRITE_LIMIT_BYTES)];
        let command = Command::Write(self.stream, Bytes::copy_from_slice(piece));
        self.trace.sender.blocking_send(command).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct TraceTask {
    options: TraceOptions,
    rules: MaskRules,
    maskers: [Masker; Stream::COUNT],
    timestamper: Option<Timestamper>,
    watcher: Watcher,
    checksum: crc32fast::Hasher,
    size: u64,
    limited: bool,
    pending: BytesMut,
    delivered: u64,
    /// The coordinator does not want this trace; the rest is dropped.
    refused: Option<CoordinatorError>,
    /// Attempts in a row to keep a piece here.
    failures: u32,
    /// Why the trace could not be kept. What the job prints is dropped from then on.
    lost: Option<CoordinatorError>,
}

impl TraceTask {
    async fn run(mut self, mut receiver: mpsc::Receiver<Command>) -> Result<TraceChecksum, CoordinatorError> {
        let mut deadline = Instant::now();
        loop {
            let command = tokio::select! {
                command = receiver.recv(), if self.pending.len() < PENDING_LIMIT_BYTES => command,
                () = tokio::time::sleep_until(deadline), if !self.pending.is_empty() => {
                    let delay = if self.deliver().await.is_ok() { self.options.interval } else { self.options.retry_delay };
                    deadline = Instant::now() + delay;
                    continue;
                }
            };
            match command {
                Some(Command::Write(stream, bytes)) => self.take(stream, &bytes),
                Some(Command::EndScriptStreams(done)) => {
                    self.end_stream(Stream::Stdout);
                    self.end_stream(Stream::Stderr);
                    let _ = done.send(());
                }
                Some(Command::Observations(answer)) => {
                    let _ = answer.send(self.watcher.observations().clone());
                }
                Some(Command::Finish) | None => break,
            }
        }
        Stream::ALL.into_iter().for_each(|stream| self.end_stream(stream));
        self.deliver_rest().await
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let masked = self.maskers[stream.index()].push(bytes);
        self.store(stream, &masked);
    }

    fn end_stream(&mut self, stream: Stream) {
        let masked = self.maskers[stream.index()].finish();
        self.maskers[stream.index()] = Masker::new(&self.rules);
        self.store(stream, &masked);
        if let Some(timestamper) = &mut self.timestamper {
            let rest = timestamper.finish(stream, Timestamp::now());
            self.append(&rest);
        }
    }

    fn store(&mut self, stream: Stream, masked: &[u8]) {
        if self.lost.is_some() && stream != Stream::Runner {
            return;
        }
        if stream != Stream::Runner {
            self.watcher.push(masked);
        }
        match &mut self.timestamper {
            Some(timestamper) => {
                let stamped = timestamper.push(stream, masked, Timestamp::now());
                self.append(&stamped);
            }
            None => self.append(masked),
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.limited {
            return;
        }
        let room = usize::try_from(self.options.limit_bytes.saturating_sub(self.size)).unwrap_or(usize::MAX);
        if bytes.len() <= room {
            self.count(bytes);
            return;
        }
        self.limited = true;
        let cut = (0..=room).rev().find(|&at| at == 0 || (bytes[at] & 0b1100_0000) != 0b1000_0000).unwrap_or(0);
        self.count(&bytes[..cut]);
        let notice = format!(
            "\n\x1b[33;1mJob's log exceeded limit of {} bytes.\nJob execution will continue but no more output will be collected.\x1b[0;m\n",
            self.options.limit_bytes
        );
        self.count(notice.as_bytes());
    }

    fn count(&mut self, bytes: &[u8]) {
        self.checksum.update(bytes);
        self.size += bytes.len() as u64;
        if self.refused.is_none() {
            self.pending.extend_from_slice(bytes);
        }
    }

    /// Sends what is pending, in pieces. `Err` means that it is worth trying again.
    async fn deliver(&mut self) -> Result<(), CoordinatorError> {
        while !self.pending.is_empty() {
            let piece = self.pending.split_to(self.pending.len().min(PIECE_MAX_BYTES)).freeze();
            match self.options.coordinator.append_trace(&self.options.access, self.delivered, piece.clone()).await {
                Ok(()) => {
                    self.delivered += piece.len() as u64;
                    self.failures = 0;
                }
                Err(refusal @ CoordinatorError::Refused { .. }) => {
                    self.refused = Some(refusal);
                    self.pending.clear();
                }
                Err(error) => {
                    let rest = std::mem::replace(&mut self.pending, BytesMut::from(piece));
                    self.pending.unsplit(rest);
                    return self.not_delivered(error);
                }
            }
        }
        Ok(())
    }

    fn not_delivered(&mut self, error: CoordinatorError) -> Result<(), CoordinatorError> {
        if !matches!(error, CoordinatorError::File { .. }) {
            return Err(error);
        }
        self.failures += 1;
        if self.failures < STORE_ATTEMPTS {
            return Err(error);
        }
        tracing::error!(job = %self.options.access.id, error = chain(&error), "the trace cannot be kept; the job ends");
        self.pending.clear();
        self.lost.get_or_insert(error);
        self.options.lost.cancel();
        Ok(())
    }

    async fn deliver_rest(mut self) -> Result<TraceChecksum, CoordinatorError> {
        let mut delay = self.options.retry_delay;
        for attempt in 1.. {
            match self.deliver().await {
                Ok(()) => break,
                Err(error) if attempt == FINAL_ATTEMPTS => return Err(error),
                Err(_) => tokio::time::sleep(delay).await,
            }
            delay *= 2;
        }
        match self.refused.or(self.lost) {
            Some(error) => Err(error),
            None => Ok(TraceChecksum { checksum: Some(format!("crc32:{:08x}", self.checksum.finalize())), bytesize: Some(self.size) }),
        }
    }
}

#[cfg(test)]
mod tests;
