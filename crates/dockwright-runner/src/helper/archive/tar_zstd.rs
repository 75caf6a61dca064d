//! Tar with zstd: caches where `CACHE_COMPRESSION_FORMAT` asks for it.

use std::{
    fs::File,
    io::{self, Read as _, Write},
    num::NonZeroUsize,
    os::unix::ffi::OsStrExt as _,
    thread,
};

use super::{
    super::HelperError,
    level::Level,
    plan::{Entry, Kind, Plan},
};

/// A frame that decoders pass over.
const SKIPPABLE_FRAME: u32 = 0x184d_2a50;

pub(super) fn write(plan: &Plan, level: Level, comment: &[u8], output: &mut dyn Write) -> Result<(), HelperError> {
    let mut encoder = zstd::Encoder::new(&mut *output, level.zstd()).map_err(HelperError::WriteArchive)?;
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    encoder
        .include_checksum(true)
        .and_then(|()| encoder.multithread(u32::try_from(threads).unwrap_or(1)))
        .map_err(HelperError::WriteArchive)?;
    let mut tar = tar::Builder::new(encoder);
    for entry in &plan.entries {
        append(&mut tar, entry)?;
    }
    let encoder = tar.into_inner().map_err(HelperError::WriteArchive)?;
    encoder.finish().map_err(HelperError::WriteArchive)?;
    if comment.is_empty() {
        return Ok(());
    }
    let length = u32::try_from(comment.len()).expect("a comment is short");
    let frame = [&SKIPPABLE_FRAME.to_le_bytes(), &length.to_le_bytes(), comment].concat();
    output.write_all(&frame).map_err(HelperError::WriteArchive)
}

fn append(tar: &mut tar::Builder<impl Write>, entry: &Entry) -> Result<(), HelperError> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode & 0o7777);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(u64::try_from(entry.modified_secs).unwrap_or_default());
    header.set_size(0);
    match &entry.kind {
        Kind::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            // With the slash that marks a directory.
            tar.append_data(&mut header, entry.name.join(""), io::empty()).map_err(HelperError::WriteArchive)
        }
        Kind::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            // As it is: a target may hold what a path of an archive must not.
            match header.set_link_name_literal(target.as_os_str().as_bytes()) {
                Ok(()) => tar.append_data(&mut header, &entry.name, io::empty()).map_err(HelperError::WriteArchive),
                Err(_) => tar.append_link(&mut header, &entry.name, target).map_err(HelperError::WriteArchive),
            }
        }
        Kind::Made { content } => {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, &entry.name, content.as_slice()).map_err(HelperError::WriteArchive)
        }
        Kind::File => {
            let file = match File::open(&entry.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(HelperError::file("read", &entry.path)(error)),
            };
            header.set_size(entry.size);
            // A file that has shrunk meanwhile must not shift what follows it.
            let content = file.take(entry.size).chain(io::repeat(0)).take(entry.size);
            tar.append_data(&mut header, &entry.name, content).map_err(HelperError::file("archive", &entry.path))
        }
    }
}
