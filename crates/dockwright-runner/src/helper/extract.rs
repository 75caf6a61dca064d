//! Unpacking archives. Paths never leave the directory, also not through symbolic links that are there or in the archive.

mod tar;
mod target;
mod zip;

use std::{
    fs::{self, File},
    io::{self, Read, Seek as _},
    path::Path,
};

use self::target::Target;
use super::{HelperError, Input};

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Unpacks sources. As with GitLab's helper, everybody may write to the result: jobs run as the user of their image.
pub(super) fn sources(directory: &Path, input: Input<'_>) -> Result<(), HelperError> {
    super::prepare(directory)?;
    tar::extract(Target::new(directory)?, input, tar::Modes::OpenToAll)
}

/// Unpacks a cache or artifacts over what is there: a tar with zstd, or a zip.
pub(super) fn archive(directory: &Path, input: Input<'_>) -> Result<(), HelperError> {
    fs::create_dir_all(directory).map_err(HelperError::file("create", directory))?;
    let target = Target::new(directory)?;
    let mut reader = input;
    let mut magic = Vec::new();
    reader.by_ref().take(ZSTD_MAGIC.len() as u64).read_to_end(&mut magic).map_err(HelperError::ReadArchive)?;
    if magic == ZSTD_MAGIC {
        let decoder = zstd::Decoder::new(magic.as_slice().chain(reader)).map_err(HelperError::ReadArchive)?;
        return tar::extract(target, decoder, tar::Modes::AsArchived);
    }
    let file = match reader {
        Input::File(file) => file,
        mut stream => spool(directory, &mut magic.as_slice().chain(&mut stream))?,
    };
    zip::extract(target, file)
}

/// What a zip holds is written at its end, so that it has to be a file.
fn spool(directory: &Path, input: &mut dyn Read) -> Result<File, HelperError> {
    let mut spool = tempfile::tempfile_in(directory).map_err(HelperError::file("create a file in", directory))?;
    io::copy(input, &mut spool).and_then(|_| spool.rewind()).map_err(HelperError::ReadArchive)?;
    Ok(spool)
}
