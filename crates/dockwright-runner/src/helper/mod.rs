//! Work on a job's files, next to them: `dockwright internal helper`.
//!
//! Sources, caches and artifacts are packed and unpacked by this program itself, in a container beside the job's (the image holds
//! nothing else) or, for shell jobs, in the runner's own process. One operation is one [`HelperRequest`]; its data flows through
//! standard input and output, and what the user should read goes to standard error.
//!
//! `helper stdin` reads the request as the first line of its input, so that one container can be started again for each operation.
//! `helper health-check` waits for a service's port. `helper keep [DIRECTORY]` runs the scripts of a shell job, `helper bound` one
//! program of the runner's own: neither leaves a process behind when the runner is killed.

mod archive;
mod extract;
mod git_index;
pub(crate) mod glob;
mod health_check;
pub(crate) mod keeper;
mod select;

use std::{
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    archive::{ArchiveOptions, Format, Level, Statement, UNCHANGED, fingerprint},
    select::Selection,
};

/// A request line is no longer than this.
const REQUEST_LIMIT_BYTES: u64 = 1024 * 1024;

/// One operation of the helper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HelperRequest {
    /// Creates directories that everybody may write to.
    Prepare { directories: Vec<PathBuf> },
    /// Unpacks a tar archive from the input into a directory, writable for everybody.
    ExtractTar { directory: PathBuf },
    /// Writes an archive of selected files to the output; nothing at all when no file was selected.
    Archive { selection: Selection, options: ArchiveOptions },
    /// Unpacks a zip archive, or a tar with zstd, from the input.
    Extract { directory: PathBuf },
    /// Removes files and directories, as far as they exist.
    Remove { paths: Vec<PathBuf> },
}

/// An operation of the helper that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("read the request")]
    Request(#[source] io::Error),
    #[error("{action} `{path}`")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("entry `{path}` of the archive leaves the directory `{directory}`")]
    Escapes { path: PathBuf, directory: PathBuf },
    #[error("write the archive")]
    WriteArchive(#[source] io::Error),
    #[error("read the archive")]
    ReadArchive(#[source] io::Error),
    #[error("a single file is needed, but {count} were found")]
    NotOneFile { count: usize },
}

impl HelperError {
    fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// Where an operation's data comes from.
pub(crate) enum Input<'a> {
    Nothing,
    /// Need not be copied for what reads here and there.
    File(fs::File),
    Stream(&'a mut dyn Read),
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Nothing => Ok(0),
            Self::File(file) => file.read(buffer),
            Self::Stream(stream) => stream.read(buffer),
        }
    }
}

/// Runs `dockwright internal helper ARGUMENTS`.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let mut log = io::stderr();
    match arguments.first().map(String::as_str) {
        Some("stdin") => run_from_stdin(&mut log),
        Some("health-check") => health_check::run(&arguments[1..], &mut log),
        Some("keep") => keeper::run(arguments.get(1).map(Path::new), &mut log),
        Some("bound") => keeper::run_bound(&arguments[1..], &mut log),
        _ => {
            let _ = writeln!(
                log,
                "usage: dockwright internal helper stdin | keep [DIRECTORY] | bound PROGRAM... | health-check [--port PORT]..."
            );
            ExitCode::from(2)
        }
    }
}

fn run_from_stdin(log: &mut dyn Write) -> ExitCode {
    let mut input = BufReader::with_capacity(256 * 1024, io::stdin().lock());
    let result = read_request(&mut input).and_then(|request| {
        let mut output = BufWriter::new(io::stdout().lock());
        run(&request, Input::Stream(&mut input), &mut output, log)?;
        output.flush().map_err(HelperError::WriteArchive)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(log, "ERROR: {}", crate::outcome::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn read_request(input: &mut impl BufRead) -> Result<HelperRequest, HelperError> {
    let mut line = Vec::new();
    input.by_ref().take(REQUEST_LIMIT_BYTES).read_until(b'\n', &mut line).map_err(HelperError::Request)?;
    serde_json::from_slice(&line).map_err(|error| HelperError::Request(error.into()))
}

/// Does what a request asks for. `log` takes lines for the user.
pub(crate) fn run(request: &HelperRequest, input: Input<'_>, output: &mut dyn Write, log: &mut dyn Write) -> Result<(), HelperError> {
    match request {
        HelperRequest::Prepare { directories } => directories.iter().try_for_each(|directory| prepare(directory)),
        HelperRequest::ExtractTar { directory } => extract::sources(directory, input),
        HelperRequest::Archive { selection, options } => archive::write(selection, options, output, log),
        HelperRequest::Extract { directory } => extract::archive(directory, input),
        HelperRequest::Remove { paths } => paths.iter().try_for_each(|path| remove(path)),
    }
}

/// Creates a directory with its parents; what is new, and the directory in any case, is opened up for everybody.
fn prepare(directory: &Path) -> Result<(), HelperError> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::create_dir_all(directory).map_err(HelperError::file("create", directory))?;
    for opened in missing.into_iter().chain([directory]) {
        fs::set_permissions(opened, fs::Permissions::from_mode(0o777)).map_err(HelperError::file("open up", opened))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), HelperError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HelperError::file("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
