//! Writing archives: zip for artifacts and caches, tar with zstd for caches, gzip and raw for reports.
//!
//! ```text
//! Selection ─► Plan (one look at each entry) ─► zip: blocks, compressed on all processors, written in order, in one pass
//!                     │                       └► tar.zst: one stream, compressed by the library's threads
//!                     └► fingerprint: unchanged since the last archive? then nothing is read at all
//! ```

mod block;
pub(crate) mod fingerprint;
mod level;
mod plan;
mod statement;
mod tar_zstd;
mod zip;

use std::{fs::File, io, io::Write};

use flate2::GzBuilder;
use serde::{Deserialize, Serialize};

use self::plan::Plan;
pub(crate) use self::{level::Level, statement::Statement};
use super::{HelperError, Selection};

/// What is written instead of an archive when nothing has changed.
pub(crate) const UNCHANGED: &[u8] = b"unchanged\n";

/// Form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    Zip,
    TarZstd,
    /// Each file compressed alone, one after the other.
    Gzip,
    /// One file as it is.
    Raw,
}

/// How an archive is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ArchiveOptions {
    pub(crate) format: Format,
    pub(crate) level: Level,
    /// End a zip or tar with the fingerprint of what is in it.
    pub(crate) fingerprint: bool,
    /// Write [`UNCHANGED`] if the selection still has this fingerprint.
    pub(crate) unless: Option<String>,
    /// Add a statement of what is in the archive.
    pub(crate) statement: Option<Statement>,
}

impl ArchiveOptions {
    /// An archive that nothing is compared with.
    pub(crate) fn new(format: Format, level: Level) -> Self {
        Self { format, level, fingerprint: false, unless: None, statement: None }
    }
}

/// Writes the selected files, or nothing when there are none.
pub(super) fn write(
    selection: &Selection,
    options: &ArchiveOptions,
    output: &mut dyn Write,
    log: &mut dyn Write,
) -> Result<(), HelperError> {
    let entries = selection.entries(log)?;
    if entries.is_empty() {
        return Ok(());
    }
    let mut plan = Plan::new(selection, &entries, log)?;
    let fingerprint = if options.fingerprint { fingerprint::of(&plan, options) } else { None };
    if fingerprint.is_some() && fingerprint == options.unless {
        let _ = writeln!(log, "Archive is up to date!");
        return output.write_all(UNCHANGED).map_err(HelperError::WriteArchive);
    }
    if let Some(statement) = &options.statement {
        statement.add_to(&mut plan)?;
    }
    let comment = fingerprint.map(|fingerprint| fingerprint::mark(&fingerprint)).unwrap_or_default();
    match options.format {
        Format::Zip => zip::write(&plan, options.level, &comment, output),
        Format::TarZstd => tar_zstd::write(&plan, options.level, &comment, output),
        Format::Gzip => write_gzip(&plan, options.level, output),
        Format::Raw => write_raw(&plan, output),
    }
}

/// One gzip member for each file, one after the other, with its path.
fn write_gzip(plan: &Plan, level: Level, output: &mut dyn Write) -> Result<(), HelperError> {
    for entry in plan.entries.iter().filter(|entry| entry.is_file()) {
        let mut file = File::open(&entry.path).map_err(HelperError::file("read", &entry.path))?;
        let mut encoder = GzBuilder::new().filename(entry.name.as_os_str().as_encoded_bytes()).write(&mut *output, level.zlib());
        io::copy(&mut file, &mut encoder).map_err(HelperError::file("archive", &entry.path))?;
        encoder.finish().map_err(HelperError::WriteArchive)?;
    }
    Ok(())
}

fn write_raw(plan: &Plan, output: &mut dyn Write) -> Result<(), HelperError> {
    let files: Vec<_> = plan.entries.iter().filter(|entry| entry.is_file()).collect();
    let [entry] = files.as_slice() else { return Err(HelperError::NotOneFile { count: files.len() }) };
    let mut file = File::open(&entry.path).map_err(HelperError::file("read", &entry.path))?;
    io::copy(&mut file, output).map_err(HelperError::WriteArchive)?;
    Ok(())
}
