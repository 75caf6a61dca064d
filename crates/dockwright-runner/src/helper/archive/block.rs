//! Compressing files on all processors.
//!
//! Small files are put together and large ones cut into blocks, so that a task is about [`BLOCK_BYTES`] in any case. Workers read and
//! deflate; what they return is written in the order of the tasks. Every block of a file but the last ends at a byte boundary, so that
//! the blocks in a row are one deflate stream: zlib-rs can do that. Whole files go through libdeflate, which is faster.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    num::NonZeroUsize,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use crc32fast::Hasher;
use flate2::{Compress, FlushCompress, Status};
use libdeflater::Compressor;

use super::{super::HelperError, level::Level};

const BLOCK_BYTES: u64 = 1024 * 1024;
/// Files up to here are not cut.
const WHOLE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const WORKERS_MAX: usize = 16;
/// Tasks under way for each worker: the next ones are ready when the writer is slow for a moment. Bounds the memory.
const TASKS_PER_WORKER: usize = 2;
/// What does not shrink in its first bytes is not compressed at all.
const SAMPLE_BYTES: usize = 32 * 1024;
/// A stored block of deflate holds no more.
const STORED_BYTES_MAX: usize = 0xffff;

/// A piece of a file.
pub(super) struct Piece<'a> {
    pub(super) path: &'a Path,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) place: Place,
}

/// Where in its file a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the file.
    Whole,
    /// More follow.
    Inner,
    Last,
}

/// Returns the number of pieces of a file.
pub(super) fn count(size: u64) -> u64 {
    if size <= WHOLE_BYTES_MAX { 1 } else { size.div_ceil(BLOCK_BYTES) }
}

/// Cuts a file.
pub(super) fn pieces(path: &Path, size: u64) -> impl Iterator<Item = Piece<'_>> {
    let count = count(size);
    (0..count).map(move |index| {
        let offset = index * BLOCK_BYTES;
        let (size, place) = match index + 1 == count {
            _ if count == 1 => (size, Place::Whole),
            true => (size - offset, Place::Last),
            false => (BLOCK_BYTES, Place::Inner),
        };
        Piece { path, offset, size, place }
    })
}

/// A piece as it goes into the archive.
pub(super) struct Packed {
    pub(super) checksum: Hasher,
    /// Bytes that were read. Fewer than planned if the file has shrunk meanwhile.
    pub(super) size: u64,
    pub(super) bytes: Vec<u8>,
    /// Deflated; a whole file that does not get smaller is not.
    pub(super) is_deflated: bool,
}

/// `None`: the file is gone.
pub(super) type PackResult = Result<Option<Packed>, HelperError>;

/// Compresses pieces and calls `write` with the results, in order.
pub(super) fn compress<'a>(
    pieces: impl Iterator<Item = Piece<'a>>,
    level: Level,
    mut write: impl FnMut(Option<Packed>) -> Result<(), HelperError>,
) -> Result<(), HelperError> {
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX);
    let (tasks, queue) = channel::<Task<'a>>();
    let queue = Arc::new(Mutex::new(queue));
    thread::scope(|scope| {
        for _ in 0..workers {
            let queue = Arc::clone(&queue);
            scope.spawn(move || work(&queue, level));
        }
        // Dropped at the end of this closure, also after an error: the workers end then.
        let tasks: Sender<Task<'a>> = tasks;
        let mut waiting = VecDeque::new();
        let mut finish = |results: Receiver<Vec<PackResult>>| {
            let results = results.recv().expect("a worker answers every task");
            results.into_iter().try_for_each(|result| write(result?))
        };
        let mut pieces = pieces.peekable();
        while pieces.peek().is_some() {
            let mut batch = Vec::new();
            let mut size = 0;
            while let Some(piece) = pieces.next_if(|piece| batch.is_empty() || size + piece.size <= BLOCK_BYTES) {
                size += piece.size;
                batch.push(piece);
            }
            let (reply, results) = sync_channel(1);
            tasks.send(Task { pieces: batch, reply }).expect("the workers wait for tasks");
            waiting.push_back(results);
            if waiting.len() >= workers * TASKS_PER_WORKER
                && let Some(oldest) = waiting.pop_front()
            {
                finish(oldest)?;
            }
        }
        waiting.into_iter().try_for_each(finish)
    })
}

struct Task<'a> {
    pieces: Vec<Piece<'a>>,
    reply: SyncSender<Vec<PackResult>>,
}

fn work(queue: &Mutex<Receiver<Task<'_>>>, level: Level) {
    let mut packer = Packer::new(level);
    loop {
        let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else { return };
        let results = task.pieces.iter().map(|piece| packer.pack(piece)).collect();
        // After an error nobody waits any more.
        let _ = task.reply.send(results);
    }
}

/// Memory of a worker, used again for each piece.
struct Packer {
    whole: Compressor,
    blocks: Compress,
    is_stored: bool,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Packer {
    fn new(level: Level) -> Self {
        Self {
            whole: Compressor::new(level.libdeflate()),
            blocks: Compress::new(level.zlib(), false),
            is_stored: level == Level::Fastest,
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    fn pack(&mut self, piece: &Piece<'_>) -> PackResult {
        match self.read(piece) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && piece.place == Place::Whole => return Ok(None),
            Err(error) => return Err(HelperError::file("read", piece.path)(error)),
        }
        let mut checksum = Hasher::new();
        checksum.update(&self.input);
        let size = self.input.len() as u64;
        let shrinks = !self.is_stored && self.seems_to_shrink();
        let (bytes, is_deflated) = match piece.place {
            Place::Whole => match shrinks.then(|| self.deflate_whole(self.input.len())).flatten() {
                Some(length) => (self.output[..length].to_vec(), true),
                None => (std::mem::take(&mut self.input), false),
            },
            Place::Inner if shrinks => (self.deflate_block(FlushCompress::Sync), true),
            Place::Last if shrinks => (self.deflate_block(FlushCompress::Finish), true),
            Place::Inner => (stored(&self.input, false), true),
            Place::Last => (stored(&self.input, true), true),
        };
        Ok(Some(Packed { checksum, size, bytes, is_deflated }))
    }

    fn read(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        let size = usize::try_from(piece.size).map_err(io::Error::other)?;
        self.input.clear();
        self.input.resize(size, 0);
        let file = File::open(piece.path)?;
        let mut filled = 0;
        while filled < size {
            match file.read_at(&mut self.input[filled..], piece.offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.input.truncate(filled);
        Ok(())
    }

    /// Pictures, archives and the like are recognised by a quick try at their beginning.
    fn seems_to_shrink(&mut self) -> bool {
        self.input.len() <= SAMPLE_BYTES || self.deflate_whole(SAMPLE_BYTES).is_some_and(|length| length < SAMPLE_BYTES - SAMPLE_BYTES / 32)
    }

    /// Compresses the first bytes of the input and returns how many they are then, if they are fewer.
    fn deflate_whole(&mut self, length: usize) -> Option<usize> {
        if self.output.len() < length {
            self.output.resize(length, 0);
        }
        self.whole.deflate_compress(&self.input[..length], &mut self.output[..length]).ok().filter(|&packed| packed < length)
    }

    fn deflate_block(&mut self, flush: FlushCompress) -> Vec<u8> {
        let mut output = Vec::with_capacity(self.input.len() / 2 + 256);
        self.blocks.reset();
        loop {
            let consumed = usize::try_from(self.blocks.total_in()).unwrap_or(usize::MAX);
            let status = self.blocks.compress_vec(&self.input[consumed..], &mut output, flush);
            // Output that exactly fills its room may not be all.
            let is_complete = match flush {
                FlushCompress::Finish => matches!(status, Ok(Status::StreamEnd)),
                _ => self.blocks.total_in() == self.input.len() as u64 && output.len() < output.capacity(),
            };
            if is_complete {
                return output;
            }
            output.reserve(output.capacity().max(1024));
        }
    }
}

/// Deflate without compression: stored blocks.
fn stored(input: &[u8], is_last: bool) -> Vec<u8> {
    let mut output = Vec::with_capacity(input.len() + input.len() / STORED_BYTES_MAX * 5 + 16);
    let mut push = |chunk: &[u8], is_final: bool| {
        let length = u16::try_from(chunk.len()).expect("chunks fit into a stored block");
        output.push(u8::from(is_final));
        output.extend(length.to_le_bytes());
        output.extend((!length).to_le_bytes());
        output.extend(chunk);
    };
    let mut chunks = input.chunks(STORED_BYTES_MAX).peekable();
    if chunks.peek().is_none() && is_last {
        push(&[], true);
    }
    while let Some(chunk) = chunks.next() {
        let is_final = is_last && chunks.peek().is_none();
        push(chunk, is_final);
    }
    output
}
