//! Where files come from: this crate opens none itself.

use indexmap::IndexMap;

/// Gives the files of the repository at the commit that the pipeline is for.
pub trait Loader {
    /// Returns the text of a file; the path is relative to the root and holds no `..`.
    fn load_local(&self, path: &str) -> Result<String, LoadError>;

    /// Returns the paths of all files, for `include:local` with wildcards.
    fn list_files(&self) -> Vec<String>;
}

/// Why a file could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    NotFound,
    /// It exists, but cannot be read; the text says why.
    Unreadable(String),
}

/// Files kept in memory, by path.
impl Loader for IndexMap<String, String> {
    fn load_local(&self, path: &str) -> Result<String, LoadError> {
        self.get(path).cloned().ok_or(LoadError::NotFound)
    }

    fn list_files(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}
