//! What rules ask about the repository: this crate looks at none itself.

use std::{fmt::Debug, sync::Arc};

/// Answers questions about the commit that a pipeline is for. An answer may be expensive; it is asked for when a rule needs it, and every
/// time that one does.
pub trait Repository: Debug + Send + Sync {
    /// Returns the paths that the event changed. Nothing means that nobody can know, as for a new branch; rules then take it that
    /// everything changed.
    fn changed_paths(&self) -> Option<Arc<[String]>>;

    /// Returns the paths that changed since the commit left the history of `reference`. Nothing means that there is no such reference.
    fn changed_since(&self, reference: &str) -> Option<Arc<[String]>>;

    /// Returns the paths of all files.
    fn files(&self) -> Arc<[String]>;
}
