//! Zip archives. The directory at the end is read first; then all processors inflate.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    num::NonZeroUsize,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::{civil, tz::TimeZone};
use zip::{ZipArchive, extra_fields::ExtraField};

use super::{
    super::HelperError,
    target::{FileTarget, Target},
};

const WORKERS_MAX: usize = 16;
/// A link's target is a path.
const LINK_BYTES_MAX: u64 = 4096;

pub(super) fn extract(mut target: Target, file: File) -> Result<(), HelperError> {
    let mut archive = ZipArchive::new(ReadAt::new(file).map_err(HelperError::ReadArchive)?).map_err(unreadable)?;
    let files = plan(&mut archive, &mut target)?;
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX).min(files.len());
    let work = |mut archive: ZipArchive<ReadAt>| {
        while let Some((index, file)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut entry = archive.by_index(*index).map_err(unreadable)?;
            if let Err(error) = file.write(&mut entry) {
                // The others need not go on.
                next.store(files.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let started: Vec<_> = (0..workers).map(|_| scope.spawn(|| work(archive.clone()))).collect();
        started.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect::<Result<Vec<()>, _>>()
    })?;
    target.finish()
}

/// Makes the directories, and returns the files with where they go. Of two entries with one path the later counts.
fn plan(archive: &mut ZipArchive<ReadAt>, target: &mut Target) -> Result<Vec<(usize, FileTarget)>, HelperError> {
    let mut files: Vec<(usize, FileTarget)> = Vec::new();
    let mut known: HashMap<PathBuf, usize> = HashMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(unreadable)?;
        // As bytes: names of files need not be text.
        let path = Path::new(std::ffi::OsStr::from_bytes(entry.name_raw())).to_owned();
        let mode = entry.unix_mode();
        if entry.is_dir() {
            target.directory(&path, mode.unwrap_or(0o755) & 0o7777)?;
        } else if entry.is_symlink() {
            let mut link = Vec::new();
            entry.by_ref().take(LINK_BYTES_MAX).read_to_end(&mut link).map_err(HelperError::ReadArchive)?;
            target.link_later(&path, PathBuf::from(std::ffi::OsStr::from_bytes(&link)));
        } else {
            let place = target.place(&path)?;
            let exact = entry.extra_data_fields().find_map(|field| match field {
                ExtraField::ExtendedTimestamp(times) => times.mod_time(),
                _ => None,
            });
            let modified = match exact {
                Some(seconds) => UNIX_EPOCH.checked_add(Duration::from_secs(seconds.into())),
                None => entry.last_modified().and_then(dos_time),
            };
            let file = FileTarget { place: place.clone(), mode: mode.unwrap_or(0o644) & 0o7777, modified };
            match known.insert(place, files.len()) {
                Some(earlier) => {
                    files[earlier] = (index, file);
                    known.insert(files[earlier].1.place.clone(), earlier);
                }
                None => files.push((index, file)),
            }
        }
    }
    Ok(files)
}

fn unreadable(error: zip::result::ZipError) -> HelperError {
    HelperError::ReadArchive(error.into())
}

/// Without an exact time: as the writer's clock showed it, which is UTC with ours.
fn dos_time(time: zip::DateTime) -> Option<SystemTime> {
    let part = |value: u8| i8::try_from(value).ok();
    let date = civil::DateTime::new(
        i16::try_from(time.year()).ok()?,
        part(time.month())?,
        part(time.day())?,
        part(time.hour())?,
        part(time.minute())?,
        part(time.second())?,
        0,
    );
    SystemTime::try_from(date.ok()?.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp()).ok()
}

/// A file that several readers share, each with a place of its own in it.
#[derive(Clone)]
struct ReadAt {
    file: Arc<File>,
    length: u64,
    at: u64,
}

impl ReadAt {
    fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), length, at: 0 })
    }
}

impl Read for ReadAt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for ReadAt {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the beginning"))?;
        Ok(self.at)
    }
}
