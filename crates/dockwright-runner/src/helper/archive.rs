//! Writing archives: zip for artifacts and caches, gzip and raw for reports.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Seek as _, Write},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use dockwright_job::ArtifactFormat;
use flate2::{Compression, GzBuilder};
use jiff::{Timestamp, tz::TimeZone};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{HelperError, Selection};

/// Files larger than this need the 64-bit form of zip.
const ZIP64_FROM_BYTES: u64 = 0xffff_ffff;

pub(super) fn write(selection: &Selection, format: ArtifactFormat, output: &mut dyn Write, log: &mut dyn Write) -> Result<(), HelperError> {
    let entries = selection.entries(log)?;
    if entries.is_empty() {
        return Ok(());
    }
    match format {
        ArtifactFormat::Zip => write_zip(selection, &entries, output),
        ArtifactFormat::Gzip => write_gzip(selection, &entries, output),
        ArtifactFormat::Raw => write_raw(selection, &entries, output),
    }
}

/// A zip needs a seekable file while it is written, so it goes through an unnamed one.
fn write_zip(selection: &Selection, entries: &BTreeSet<PathBuf>, output: &mut dyn Write) -> Result<(), HelperError> {
    let spool = tempfile::tempfile_in(&selection.directory).map_err(HelperError::file("create a file in", &selection.directory))?;
    let mut zip = ZipWriter::new(spool);
    for entry in entries {
        let path = selection.directory.join(entry);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            // Removed since it was listed, by a process that the job left behind.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(HelperError::file("read", path)(error)),
        };
        add_to_zip(&mut zip, entry, &path, &metadata)?;
    }
    let mut spool = zip.finish().map_err(|error| HelperError::WriteArchive(error.into()))?;
    spool.rewind().and_then(|()| io::copy(&mut spool, output)).map_err(HelperError::WriteArchive)?;
    Ok(())
}

fn add_to_zip(zip: &mut ZipWriter<File>, entry: &Path, path: &Path, metadata: &fs::Metadata) -> Result<(), HelperError> {
    let name = entry.to_string_lossy();
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .unix_permissions(metadata.permissions().mode() & 0o7777)
        .last_modified_time(metadata.modified().map(dos_time).unwrap_or_default())
        .large_file(metadata.len() >= ZIP64_FROM_BYTES);
    let failed = |error: zip::result::ZipError| HelperError::WriteArchive(error.into());
    if metadata.is_dir() {
        return zip.add_directory(name, options).map_err(failed);
    }
    if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(HelperError::file("read", path))?;
        let target = String::from_utf8_lossy(target.as_os_str().as_bytes()).into_owned();
        return zip.add_symlink(name, target, options).map_err(failed);
    }
    if !metadata.is_file() {
        return Ok(());
    }
    let mut file = File::open(path).map_err(HelperError::file("read", path))?;
    zip.start_file(name, options).map_err(failed)?;
    io::copy(&mut file, zip).map_err(HelperError::file("archive", path))?;
    Ok(())
}

/// Zip keeps local times of two seconds' precision; UTC is as good as any zone.
fn dos_time(time: SystemTime) -> zip::DateTime {
    let Ok(timestamp) = Timestamp::try_from(time) else { return zip::DateTime::default() };
    let time = timestamp.to_zoned_datetime(TimeZone::UTC);
    let part = |value: i8| u8::try_from(value).unwrap_or_default();
    zip::DateTime::from_date_and_time(
        u16::try_from(time.year()).unwrap_or_default(),
        part(time.month()),
        part(time.day()),
        part(time.hour()),
        part(time.minute()),
        part(time.second()),
    )
    .unwrap_or_default()
}

/// One gzip member for each file, one after the other, with its path.
fn write_gzip(selection: &Selection, entries: &BTreeSet<PathBuf>, output: &mut dyn Write) -> Result<(), HelperError> {
    for path in regular_files(selection, entries) {
        let mut file = File::open(&path).map_err(HelperError::file("read", &path))?;
        let name = path.strip_prefix(&selection.directory).unwrap_or(&path);
        let mut encoder = GzBuilder::new().filename(name.as_os_str().as_encoded_bytes()).write(&mut *output, Compression::default());
        io::copy(&mut file, &mut encoder).map_err(HelperError::file("archive", &path))?;
        encoder.finish().map_err(HelperError::WriteArchive)?;
    }
    Ok(())
}

fn write_raw(selection: &Selection, entries: &BTreeSet<PathBuf>, output: &mut dyn Write) -> Result<(), HelperError> {
    let files = regular_files(selection, entries);
    let [path] = files.as_slice() else { return Err(HelperError::NotOneFile { count: files.len() }) };
    let mut file = File::open(path).map_err(HelperError::file("read", path))?;
    io::copy(&mut file, output).map_err(HelperError::WriteArchive)?;
    Ok(())
}

fn regular_files(selection: &Selection, entries: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    entries.iter().map(|entry| selection.directory.join(entry)).filter(|path| path.is_file()).collect()
}
