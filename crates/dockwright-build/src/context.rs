//! The build context: what the client sent.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    archive::{self, Owners, ReadArchiveError},
    glob::BadPattern,
    ignore::{IGNORE_FILE, IgnorePatterns},
    tree::{Kind, Metadata, SpoolTree, Tree, resolve},
};

/// Largest Dockerfile, in bytes.
const MAX_DOCKERFILE_BYTES: u64 = 16 << 20;

/// The build context.
pub struct Context {
    tree: SpoolTree,
    scratch: PathBuf,
}

/// Why a context cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("unpack the build context")]
    Unpack(#[from] ReadArchiveError),
    #[error("read `{path}` of the build context")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot locate specified Dockerfile: {0}")]
    NoDockerfile(String),
    #[error("the Dockerfile ({0}) is larger than {MAX_DOCKERFILE_BYTES} bytes")]
    DockerfileTooLarge(String),
    #[error("error checking context: {0}")]
    Ignore(#[from] BadPattern),
}

impl Context {
    /// Reads a tar stream, plain, gzip or zstd. Bytes go to an unnamed file in `scratch`, which is also where a build keeps what it fetches.
    pub fn read(body: &mut dyn Read, scratch: &Path) -> Result<Self, ContextError> {
        Ok(Self { tree: archive::read(body, Owners::Root, scratch)?, scratch: scratch.to_owned() })
    }

    /// Makes a context of a Dockerfile alone.
    pub fn dockerfile_only(text: &str, scratch: &Path) -> Result<Self, ContextError> {
        let path = PathBuf::from("Dockerfile");
        let metadata = Metadata { kind: Kind::File, permissions: 0o644, size: text.len() as u64, ..Metadata::implied_directory() };
        let added = SpoolTree::new(scratch).and_then(|mut tree| tree.add(&path, metadata, &mut text.as_bytes()).map(|()| tree));
        Ok(Self { tree: added.map_err(|source| ContextError::Read { path, source })?, scratch: scratch.to_owned() })
    }

    pub fn tree(&self) -> &SpoolTree {
        &self.tree
    }

    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Takes the Dockerfile's text, and takes it and the ignore file out of the context where the ignore file says so: clients send both
    /// in any case.
    pub fn take_dockerfile(&mut self, name: &str) -> Result<String, ContextError> {
        let name = self.dockerfile_name(name)?;
        let text = self.read_text(&name, &name)?;
        if let Some(ignore_file) = self.find(IGNORE_FILE)? {
            let patterns = IgnorePatterns::parse(&self.read_text(IGNORE_FILE, &ignore_file.to_string_lossy())?)?;
            for path in [IGNORE_FILE, &name] {
                if patterns.excludes(Path::new(path)) {
                    self.tree.remove(Path::new(path));
                }
            }
        }
        Ok(text)
    }

    /// The default name is also found in lower case.
    fn dockerfile_name(&self, name: &str) -> Result<String, ContextError> {
        let lower = (name == "Dockerfile").then_some("dockerfile");
        for candidate in std::iter::once(name).chain(lower) {
            if self.find(candidate)?.is_some() {
                return Ok(candidate.to_owned());
            }
        }
        Err(ContextError::NoDockerfile(name.to_owned()))
    }

    /// Returns where a file of that name really is.
    fn find(&self, name: &str) -> Result<Option<PathBuf>, ContextError> {
        let failed = |source| ContextError::Read { path: PathBuf::from(name), source };
        let path = resolve(&self.tree, Path::new(name)).map_err(failed)?;
        let metadata = self.tree.metadata(&path).map_err(failed)?;
        Ok(metadata.filter(|metadata| metadata.kind == Kind::File).map(|_| path))
    }

    fn read_text(&self, name: &str, path: &str) -> Result<String, ContextError> {
        let failed = |source| ContextError::Read { path: PathBuf::from(name), source };
        let path = resolve(&self.tree, Path::new(path)).map_err(failed)?;
        let mut bytes = Vec::new();
        self.tree.open(&path).and_then(|file| file.take(MAX_DOCKERFILE_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > MAX_DOCKERFILE_BYTES {
            return Err(ContextError::DockerfileTooLarge(name.to_owned()));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(files: &[(&str, &str)]) -> Context {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        Context::read(&mut &builder.into_inner().unwrap()[..], Path::new("/tmp")).unwrap()
    }

    #[test]
    fn an_excluded_dockerfile_is_read_and_then_gone() {
        let mut context = context(&[("Dockerfile", "FROM a"), (".dockerignore", "Dockerfile\n.docker*\n"), ("x", "")]);
        assert_eq!(context.take_dockerfile("Dockerfile").unwrap(), "FROM a");
        assert_eq!(context.tree().names(Path::new("")).unwrap(), ["x"]);
    }

    #[test]
    fn other_names() {
        let mut context = context(&[("dockerfile", "FROM a"), ("sub/D", "FROM b")]);
        assert_eq!(context.take_dockerfile("Dockerfile").unwrap(), "FROM a");
        assert_eq!(context.take_dockerfile("sub/D").unwrap(), "FROM b");
        assert_eq!(context.take_dockerfile("none").unwrap_err().to_string(), "Cannot locate specified Dockerfile: none");
        assert_eq!(context.tree().len(), 3);
    }
}
