//! Where files come from: this crate opens none itself.
//!
//! The composer asks for every file by a [`Request`] that says how its author named it. The loader answers with the text and with the
//! [`Place`] that `include:local` of that file is looked up in: a file of another project includes files of that project and commit.

mod component;
mod memory;

use std::fmt;

pub use component::{Component, ComponentAddress};

/// Gives the files of the repository at the commit that the pipeline is for, and those that it includes from elsewhere.
pub trait Loader {
    /// Returns the text of a file. Local paths are relative to the root of their place and hold no `..`.
    fn load(&self, request: &Request) -> Result<Loaded, LoadError>;

    /// Returns the paths of all files of a place, for `include:local` with wildcards.
    fn list_files(&self, place: &Place) -> Vec<String>;

    /// Tells which files will be asked for next, so that slow ones can be fetched together.
    fn prepare(&self, _requests: &[Request]) {}
}

/// A repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Place {
    /// The repository and commit that the pipeline is for.
    #[default]
    Own,
    /// Another project.
    Project {
        project: String,
        /// As it was written: a branch, a tag, a commit or `HEAD`.
        reference: String,
        /// The commit that the reference meant.
        sha: String,
    },
    /// None: a remote file and a template lie in no project that local files could be looked up in.
    Nowhere,
}

/// A file as a configuration names it. It prints as people are shown it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// `include:local`, or the configuration itself.
    Local { place: Place, path: String },
    /// `include:project`, one of its files. The project's path is in lower case.
    Project { project: String, reference: Option<String>, path: String },
    /// `include:remote`. A digest is `sha256-` and Base64.
    Remote { url: String, integrity: Option<String> },
    /// `include:template`, with its ending `.gitlab-ci.yml`.
    Template { name: String },
    /// `include:component`.
    Component(ComponentAddress),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { place: Place::Project { project, reference, .. }, path } => write!(f, "{project}@{reference}:{path}"),
            Self::Local { path, .. } => f.write_str(path),
            Self::Project { project, reference, path } => write!(f, "{project}@{}:{path}", reference.as_deref().unwrap_or("HEAD")),
            Self::Remote { url, .. } => f.write_str(url),
            Self::Template { name } => write!(f, "template:{name}"),
            Self::Component(address) => write!(f, "{address}"),
        }
    }
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub text: String,
    /// Where local files that it includes are looked up.
    pub place: Place,
    /// What is known of it when it was asked for as a component.
    pub component: Option<Component>,
}

/// Why a file could not be loaded, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    pub kind: LoadErrorKind,
    pub help: Option<String>,
}

/// What is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadErrorKind {
    /// The project and the commit are there, the file is not.
    NotFound,
    /// The project is not known here, or may not be read.
    NoProject,
    /// The project has no such branch, tag or commit.
    NoReference,
    /// It exists, but cannot be read; the text says why.
    Unreadable(String),
    /// Whoever has it gave no answer, or a bad one; the text goes on after "could not be fetched".
    Unreachable(String),
    /// It is not what its digest says; the text is its real digest.
    Changed { actual: String },
    /// Only what was locked before may be used, and this was not.
    NotLocked,
}

impl LoadError {
    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<LoadErrorKind> for LoadError {
    fn from(kind: LoadErrorKind) -> Self {
        Self { kind, help: None }
    }
}
