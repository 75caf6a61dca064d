//! Results of steps, remembered by content.

use std::fmt;

use dockwright_store::DiffId;
use serde::{Deserialize, Serialize};

/// Identity of a step: equal keys give interchangeable results. 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey(String);

impl CacheKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a step left. Stored as JSON; unknown fields of later versions are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The layer, or `None` for a step that changed no file.
    pub layer: Option<DiffId>,
    /// When the step ran first, RFC 3339; part of the history entry, so that a cached build gives the same image id.
    pub created: String,
}
