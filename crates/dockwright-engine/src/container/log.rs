//! A container's log: one JSON object per line, in a file, as Docker's `json-file` driver writes it.
//!
//! Output arrives in chunks and is cut at line ends; a line longer than [`LINE_BYTES`] is written in parts that lack the line end.
//! So memory stays bounded whatever a container prints. Readers share the file with the writer and are told how far it is written.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::api::hijack::Stream;

/// Longest piece of a line in one entry, as in Docker.
const LINE_BYTES: usize = 16 * 1024;
/// Bytes read at a time when looking for the last lines.
const TAIL_BLOCK_BYTES: u64 = 64 * 1024;

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stream: Stream,
    pub(crate) time: Timestamp,
    /// With its line end, unless it is a part of a longer line or the last one.
    pub(crate) text: String,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    log: std::borrow::Cow<'a, str>,
    stream: std::borrow::Cow<'a, str>,
    time: std::borrow::Cow<'a, str>,
}

/// Progress of a log's writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Bytes of the file that are complete entries.
    pub(crate) bytes: u64,
    /// Whether the container is stopped, so that nothing follows for now.
    pub(crate) idle: bool,
}

/// The log of one container.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    path: Arc<Path>,
    writer: Arc<Mutex<Writer>>,
    written: watch::Sender<Written>,
}

#[derive(Debug, Default)]
struct Writer {
    file: Option<File>,
    /// Begun lines of standard output and standard error.
    pending: [Vec<u8>; 2],
}

impl Log {
    /// Makes a log that will be written to `path`; the file appears with the first entry.
    pub(crate) fn new(path: PathBuf) -> Self {
        let written = watch::Sender::new(Written { bytes: 0, idle: true });
        Self { path: path.into(), writer: Arc::default(), written }
    }

    /// Returns where the log is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says that output may come (again).
    pub(crate) fn open(&self) {
        self.written.send_modify(|written| written.idle = false);
    }

    /// Writes output as it arrives.
    pub(crate) fn write(&self, stream: Stream, mut chunk: &[u8]) -> io::Result<()> {
        let mut writer = self.lock();
        let now = Timestamp::now();
        let mut entries = Vec::new();
        while !chunk.is_empty() {
            let pending = writer.pending_line(stream);
            let room = LINE_BYTES - pending.len();
            let end = chunk.iter().position(|byte| *byte == b'\n').map_or(chunk.len(), |at| at + 1);
            let taken = end.min(room);
            pending.extend_from_slice(&chunk[..taken]);
            chunk = &chunk[taken..];
            if pending.ends_with(b"\n") || pending.len() == LINE_BYTES {
                encode(&mut entries, stream, now, &std::mem::take(pending));
            }
        }
        self.append(&mut writer, &entries)
    }

    /// Writes what is left of begun lines: the process has ended.
    pub(crate) fn close(&self) -> io::Result<()> {
        let mut writer = self.lock();
        let mut entries = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(writer.pending_line(stream));
            if !rest.is_empty() {
                encode(&mut entries, stream, Timestamp::now(), &rest);
            }
        }
        let result = self.append(&mut writer, &entries);
        writer.file = None;
        self.written.send_modify(|written| written.idle = true);
        result
    }

    fn append(&self, writer: &mut Writer, entries: &[u8]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if writer.file.is_none() {
            writer.file = Some(OpenOptions::new().create(true).append(true).open(&self.path)?);
        }
        let file = writer.file.as_mut().expect("opened above");
        file.write_all(entries)?;
        self.written.send_modify(|written| written.bytes += entries.len() as u64);
        Ok(())
    }

    /// Opens the log at its last `tail` entries, or at its beginning.
    pub(crate) fn read(&self, tail: Option<usize>) -> io::Result<Reader> {
        let written = self.written.subscribe();
        let end = written.borrow().bytes;
        let file = match File::open(&self.path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut reader = Reader { path: Arc::clone(&self.path), file: None, at: 0, written };
        if let Some(mut file) = file {
            if let Some(lines) = tail {
                reader.at = tail_offset(&mut file, end, lines)?;
            }
            file.seek(SeekFrom::Start(reader.at))?;
            reader.file = Some(BufReader::new(file));
        }
        Ok(reader)
    }

    /// Opens the log from its beginning to what is written now; later entries are not read.
    pub(crate) fn read_until_now(&self) -> io::Result<Reader> {
        let mut reader = self.read(None)?;
        let now = *reader.written.borrow();
        reader.written = watch::Sender::new(Written { idle: true, ..now }).subscribe();
        Ok(reader)
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn pending_line(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.pending[0],
            Stream::Stderr => &mut self.pending[1],
        }
    }
}

fn encode(entries: &mut Vec<u8>, stream: Stream, time: Timestamp, text: &[u8]) {
    let line = Line { log: String::from_utf8_lossy(text), stream: stream.name().into(), time: crate::time::nanoseconds(time).into() };
    serde_json::to_writer(&mut *entries, &line).expect("strings always serialize");
    entries.push(b'\n');
}

/// Finds where the last `lines` lines of the first `end` bytes begin.
fn tail_offset(file: &mut File, end: u64, lines: usize) -> io::Result<u64> {
    let mut found = 0;
    let mut block_end = end;
    if lines == 0 {
        return Ok(end);
    }
    let mut block = Vec::new();
    while block_end > 0 {
        let start = block_end.saturating_sub(TAIL_BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&*file).take(block_end - start).read_to_end(&mut block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let position = start + at as u64;
            // The newline at the very end closes the last line rather than beginning another.
            if *byte == b'\n' && position + 1 < end {
                found += 1;
                if found == lines {
                    return Ok(position + 1);
                }
            }
        }
        block_end = start;
    }
    Ok(0)
}

/// Reads a log from some entry on. Reading blocks only as long as the disk does.
#[derive(Debug)]
pub(crate) struct Reader {
    path: Arc<Path>,
    file: Option<BufReader<File>>,
    at: u64,
    written: watch::Receiver<Written>,
}

impl Reader {
    /// Returns the next entry that is completely written, or `None` when there is none yet.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        while self.at < self.written.borrow_and_update().bytes {
            if self.file.is_none() {
                self.file = Some(BufReader::new(File::open(&self.path)?));
            }
            let mut line = Vec::new();
            let file = self.file.as_mut().expect("opened above");
            let length = file.read_until(b'\n', &mut line)?;
            if length == 0 {
                return Ok(None);
            }
            self.at += length as u64;
            if let Some(entry) = decode(&line) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Waits for more entries; false when the container is stopped and all is read.
    pub(crate) async fn more(&mut self) -> bool {
        let at = self.at;
        let state = self.written.wait_for(|written| written.bytes > at || written.idle).await;
        state.is_ok_and(|written| written.bytes > at)
    }
}

fn decode(line: &[u8]) -> Option<Entry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let stream = if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    Some(Entry { stream, time: line.time.parse().ok()?, text: line.log.into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, Log) {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(dir.path().join("log"));
        log.open();
        (dir, log)
    }

    fn texts(log: &Log, tail: Option<usize>) -> Vec<String> {
        let mut reader = log.read(tail).unwrap();
        std::iter::from_fn(|| reader.next().unwrap()).map(|entry| entry.text).collect()
    }

    #[test]
    fn chunks_become_lines() {
        let (_dir, log) = log();
        log.write(Stream::Stdout, b"on").unwrap();
        log.write(Stream::Stderr, b"error\n").unwrap();
        log.write(Stream::Stdout, b"e\ntwo\nrest").unwrap();
        assert_eq!(texts(&log, None), ["error\n", "one\n", "two\n"]);
        log.close().unwrap();
        assert_eq!(texts(&log, Some(2)), ["two\n", "rest"]);
        assert_eq!(texts(&log, Some(0)), [""; 0]);
        assert_eq!(texts(&log, Some(99)).len(), 4);
    }

    #[test]
    fn long_lines_are_cut() {
        let (_dir, log) = log();
        let line = "x".repeat(LINE_BYTES + 5) + "\n";
        log.write(Stream::Stdout, line.as_bytes()).unwrap();
        let parts = texts(&log, None);
        assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES, 6]);
        assert_eq!(parts.concat(), line);
    }

    #[test]
    fn the_tail_of_a_long_log_is_found() {
        let (_dir, log) = log();
        for number in 0..5000 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
        }
        let last = texts(&log, Some(3000));
        assert_eq!((last.len(), last[0].as_str()), (3000, "line 2000\n"));
    }

    #[tokio::test]
    async fn a_reader_follows_until_the_end() {
        let (_dir, log) = log();
        let mut reader = log.read(None).unwrap();
        assert_eq!(reader.next().unwrap(), None);
        log.write(Stream::Stdout, b"late\n").unwrap();
        assert!(reader.more().await);
        assert_eq!(reader.next().unwrap().unwrap().text, "late\n");
        log.close().unwrap();
        assert!(!reader.more().await);
    }
}
