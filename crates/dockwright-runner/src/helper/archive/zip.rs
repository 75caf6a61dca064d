//! The zip format, written in one pass: a helper's output is a pipe.
//!
//! As APPNOTE.TXT has it: names in UTF-8 where they are, Unix modes, links and owners as Info-ZIP keeps them, times in seconds since
//! 1970, the 64-bit form where a number needs it. A file of one block is compressed before its header is written; that of a larger one
//! says that sizes and checksum follow the content, as those of Go's writer always do.

use std::{io::Write, os::unix::ffi::OsStrExt as _};

use crc32fast::Hasher;
use jiff::{Timestamp, tz::TimeZone};

use super::{
    super::HelperError,
    block::{self, Packed},
    level::Level,
    plan::{Entry, Kind, Plan},
};

const BUFFER_BYTES: usize = 256 * 1024;
const VERSION_PLAIN: u16 = 20;
const VERSION_ZIP64: u16 = 45;
const MADE_BY_UNIX: u16 = 3 << 8;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const FLAG_SIZES_FOLLOW: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;
const MSDOS_DIRECTORY: u32 = 0x10;
/// Files from here on get the 64-bit form: content that does not shrink grows a little.
const ZIP64_FROM_BYTES: u64 = 0xf000_0000;
const MAX_32: u64 = 0xffff_ffff;
const MAX_16: usize = 0xffff;

pub(super) fn write(plan: &Plan, level: Level, comment: &[u8], output: &mut dyn Write) -> Result<(), HelperError> {
    let mut zip = Zip { output: std::io::BufWriter::with_capacity(BUFFER_BYTES, output), offset: 0, directory: Vec::new(), count: 0 };
    let mut entries = plan.entries.iter();
    let mut open: Option<OpenFile<'_>> = None;
    let pieces = plan.entries.iter().filter(|entry| entry.is_file()).flat_map(|entry| block::pieces(&entry.path, entry.size));
    block::compress(pieces, level, |packed| {
        let file = match open.take() {
            Some(file) => file,
            None => OpenFile::new(zip.until_file(&mut entries)?),
        };
        open = zip.piece(file, packed)?;
        Ok(())
    })?;
    // What follows the last file.
    for entry in entries {
        zip.entry(entry)?;
    }
    zip.finish(comment)
}

/// A file whose pieces are being written.
struct OpenFile<'a> {
    entry: &'a Entry,
    /// Pieces to come.
    left: u64,
    record: Option<Record>,
    checksum: Hasher,
}

impl<'a> OpenFile<'a> {
    fn new(entry: &'a Entry) -> Self {
        Self { entry, left: block::count(entry.size), record: None, checksum: Hasher::new() }
    }
}

/// What both headers of an entry say.
struct Record {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    checksum: u32,
    packed: u64,
    size: u64,
    offset: u64,
    is_zip64: bool,
}

struct Zip<'a> {
    output: std::io::BufWriter<&'a mut dyn Write>,
    offset: u64,
    /// The central directory so far.
    directory: Vec<u8>,
    count: usize,
}

impl Zip<'_> {
    /// Writes what comes before the next file and returns that.
    fn until_file<'e>(&mut self, entries: &mut std::slice::Iter<'e, Entry>) -> Result<&'e Entry, HelperError> {
        loop {
            let entry = entries.next().expect("pieces come from files of the plan");
            if entry.is_file() {
                return Ok(entry);
            }
            self.entry(entry)?;
        }
    }

    /// Writes what is not read from a file: a directory, a link, whose content is its target, or a text.
    fn entry(&mut self, entry: &Entry) -> Result<(), HelperError> {
        let content = match &entry.kind {
            Kind::Link { target } => target.as_os_str().as_bytes(),
            Kind::Made { content } => content,
            _ => &[],
        };
        let mut record = self.record(entry, 0, STORED);
        record.checksum = crc32fast::hash(content);
        (record.packed, record.size) = (content.len() as u64, content.len() as u64);
        self.local_header(entry, &record)?;
        self.put(content)?;
        self.directory_entry(entry, &record);
        Ok(())
    }

    /// Writes a piece, and returns its file if more of it is to come.
    fn piece<'e>(&mut self, mut file: OpenFile<'e>, packed: Option<Packed>) -> Result<Option<OpenFile<'e>>, HelperError> {
        let Some(packed) = packed else { return Ok(None) };
        let is_whole = file.left == 1 && file.record.is_none();
        let mut record = match file.record.take() {
            Some(record) => record,
            None if is_whole => {
                let mut record = self.record(file.entry, 0, if packed.is_deflated { DEFLATED } else { STORED });
                record.checksum = packed.checksum.clone().finalize();
                (record.packed, record.size) = (packed.bytes.len() as u64, packed.size);
                self.local_header(file.entry, &record)?;
                record
            }
            None => {
                let record = self.record(file.entry, FLAG_SIZES_FOLLOW, DEFLATED);
                self.local_header(file.entry, &record)?;
                record
            }
        };
        self.put(&packed.bytes)?;
        if is_whole {
            self.directory_entry(file.entry, &record);
            return Ok(None);
        }
        file.checksum.combine(&packed.checksum);
        record.packed += packed.bytes.len() as u64;
        record.size += packed.size;
        file.left -= 1;
        if file.left > 0 {
            file.record = Some(record);
            return Ok(Some(file));
        }
        record.checksum = file.checksum.finalize();
        self.descriptor(&record)?;
        self.directory_entry(file.entry, &record);
        Ok(None)
    }

    fn record(&self, entry: &Entry, flags: u16, method: u16) -> Record {
        let name = entry.zip_name();
        let utf8 = if std::str::from_utf8(&name).is_ok() { FLAG_UTF8 } else { 0 };
        let is_zip64 = entry.size >= ZIP64_FROM_BYTES;
        Record { name, flags: flags | utf8, method, checksum: 0, packed: 0, size: 0, offset: self.offset, is_zip64 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), HelperError> {
        self.offset += bytes.len() as u64;
        self.output.write_all(bytes).map_err(HelperError::WriteArchive)
    }

    fn local_header(&mut self, entry: &Entry, record: &Record) -> Result<(), HelperError> {
        let mut extra = extra_fields(entry);
        let mut header = Vec::with_capacity(64 + record.name.len());
        header.extend(b"PK\x03\x04");
        header.extend(if record.is_zip64 { VERSION_ZIP64 } else { VERSION_PLAIN }.to_le_bytes());
        push_common(&mut header, entry, record);
        if record.is_zip64 {
            header.extend([0xff; 8]);
            extra.extend(zip64_field(&[record.size, record.packed]));
        } else {
            header.extend(low(record.packed).to_le_bytes());
            header.extend(low(record.size).to_le_bytes());
        }
        header.extend(length(&record.name).to_le_bytes());
        header.extend(length(&extra).to_le_bytes());
        header.extend(&record.name);
        header.extend(extra);
        self.put(&header)
    }

    fn descriptor(&mut self, record: &Record) -> Result<(), HelperError> {
        let mut bytes = b"PK\x07\x08".to_vec();
        bytes.extend(record.checksum.to_le_bytes());
        for size in [record.packed, record.size] {
            match record.is_zip64 {
                true => bytes.extend(size.to_le_bytes()),
                false => bytes.extend(low(size).to_le_bytes()),
            }
        }
        self.put(&bytes)
    }

    fn directory_entry(&mut self, entry: &Entry, record: &Record) {
        let mut extra = extra_fields(entry);
        // Only what does not fit into its place, in this order.
        let large: Vec<u64> = [record.size, record.packed, record.offset].into_iter().filter(|&number| number >= MAX_32).collect();
        if !large.is_empty() {
            extra.extend(zip64_field(&large));
        }
        let is_zip64 = record.is_zip64 || !large.is_empty();
        let dos = if matches!(entry.kind, Kind::Directory) { MSDOS_DIRECTORY } else { 0 };
        let version = if is_zip64 { VERSION_ZIP64 } else { VERSION_PLAIN };
        let header = &mut self.directory;
        header.extend(b"PK\x01\x02");
        header.extend((MADE_BY_UNIX | version).to_le_bytes());
        header.extend(version.to_le_bytes());
        push_common(header, entry, record);
        header.extend(low(record.packed).to_le_bytes());
        header.extend(low(record.size).to_le_bytes());
        header.extend(length(&record.name).to_le_bytes());
        header.extend(length(&extra).to_le_bytes());
        // Neither comment, other disks, nor internal attributes.
        header.extend([0; 6]);
        header.extend(((entry.mode << 16) | dos).to_le_bytes());
        header.extend(low(record.offset).to_le_bytes());
        header.extend(&record.name);
        header.extend(extra);
        self.count += 1;
    }

    fn finish(mut self, comment: &[u8]) -> Result<(), HelperError> {
        let (start, directory, count) = (self.offset, std::mem::take(&mut self.directory), self.count);
        self.put(&directory)?;
        let (size, end) = (directory.len() as u64, self.offset);
        let mut tail = Vec::new();
        if count >= MAX_16 || start >= MAX_32 || size >= MAX_32 {
            tail.extend(b"PK\x06\x06");
            tail.extend(44u64.to_le_bytes());
            tail.extend((MADE_BY_UNIX | VERSION_ZIP64).to_le_bytes());
            tail.extend(VERSION_ZIP64.to_le_bytes());
            tail.extend([0; 8]);
            for number in [count as u64, count as u64, size, start] {
                tail.extend(number.to_le_bytes());
            }
            tail.extend(b"PK\x06\x07\0\0\0\0");
            tail.extend(end.to_le_bytes());
            tail.extend(1u32.to_le_bytes());
        }
        let short_count = u16::try_from(count).unwrap_or(u16::MAX);
        tail.extend(b"PK\x05\x06\0\0\0\0");
        tail.extend(short_count.to_le_bytes());
        tail.extend(short_count.to_le_bytes());
        tail.extend(low(size).to_le_bytes());
        tail.extend(low(start).to_le_bytes());
        tail.extend(length(comment).to_le_bytes());
        tail.extend(comment);
        self.put(&tail)?;
        self.output.flush().map_err(HelperError::WriteArchive)
    }
}

/// From the flags to the checksum: the same in both headers.
fn push_common(header: &mut Vec<u8>, entry: &Entry, record: &Record) {
    let (date, time) = dos_time(entry.modified_secs);
    for number in [record.flags, record.method, time, date] {
        header.extend(number.to_le_bytes());
    }
    header.extend(record.checksum.to_le_bytes());
}

/// The time in seconds since 1970, and the owner, as Info-ZIP keeps them.
fn extra_fields(entry: &Entry) -> Vec<u8> {
    let mut extra = Vec::with_capacity(24);
    if let Ok(modified) = i32::try_from(entry.modified_secs) {
        extra.extend(b"UT\x05\0\x01");
        extra.extend(modified.to_le_bytes());
    }
    extra.extend(b"ux\x0b\0\x01\x04");
    extra.extend(entry.uid.to_le_bytes());
    extra.push(4);
    extra.extend(entry.gid.to_le_bytes());
    extra
}

fn zip64_field(numbers: &[u64]) -> Vec<u8> {
    let mut field = vec![1, 0];
    field.extend(u16::try_from(numbers.len() * 8).expect("three numbers at most").to_le_bytes());
    field.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    field
}

fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Paths are no longer than 4096 bytes on Linux.
fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("names and extra fields are short")
}

/// Zip keeps local times of two seconds' precision; UTC is as good as any zone. Readers on Unix take the exact time beside it.
fn dos_time(seconds: i64) -> (u16, u16) {
    const FIRST: (u16, u16) = ((1 << 5) | 1, 0);
    let Ok(timestamp) = Timestamp::from_second(seconds) else { return FIRST };
    let time = timestamp.to_zoned_datetime(TimeZone::UTC);
    let Ok(years) = u16::try_from(time.year() - 1980) else { return FIRST };
    let part = |value: i8| u16::try_from(value).unwrap_or_default();
    let date = (years.min(127) << 9) | (part(time.month()) << 5) | part(time.day());
    (date, (part(time.hour()) << 11) | (part(time.minute()) << 5) | (part(time.second()) / 2))
}
