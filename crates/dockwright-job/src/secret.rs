//! Tokens that never print their content.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Authenticates one job to the coordinator and the registry (`CI_JOB_TOKEN`).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobToken(String);

impl JobToken {
    /// Wraps a token received or generated elsewhere.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// Returns the secret text. Callers hand it to a header or a variable, never to a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JobToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
