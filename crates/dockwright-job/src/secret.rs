//! Tokens that never print their content.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What GitLab puts before the random part of a runner's token. The first that fits counts.
const RUNNER_TOKEN_PREFIXES: [&str; 9] = ["glrt-t1_", "glrt-t2_", "glrt-t3_", "glrt-", "glrtr-", "glcbt-", "t1_", "t2_", "t3_"];
/// `GR` and a date in seven hexadecimal digits, before registration tokens.
const REGISTRATION_PREFIX_LENGTH: usize = 9;
const SHORT_TOKEN_LENGTH: usize = 9;

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

/// Authenticates a runner to its coordinator, or lets it register there.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunnerToken(String);

impl RunnerToken {
    /// Wraps a token received or generated elsewhere.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// Returns the secret text. Callers hand it to a header or a file, never to a log.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether the runner was created at the server (`glrt-`), which then owns its settings. `glrtr-` tokens came from a
    /// registration and are not meant.
    pub fn is_created_at_server(&self) -> bool {
        self.0.starts_with("glrt-")
    }

    /// Returns the part that may be shown: nine characters after the prefix. Directories, containers and logs are named with it.
    pub fn short(&self) -> &str {
        let known = RUNNER_TOKEN_PREFIXES.iter().find_map(|prefix| self.0.strip_prefix(prefix));
        let rest = known.or_else(|| after_registration_prefix(&self.0)).unwrap_or(&self.0);
        rest.char_indices().nth(SHORT_TOKEN_LENGTH).map_or(rest, |(end, _)| &rest[..end])
    }
}

fn after_registration_prefix(token: &str) -> Option<&str> {
    let digits = token.get(2..REGISTRATION_PREFIX_LENGTH)?;
    let is_registration = token.starts_with("GR") && digits.chars().all(|next| next.is_ascii_hexdigit());
    is_registration.then(|| &token[REGISTRATION_PREFIX_LENGTH..])
}

impl fmt::Debug for RunnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_tokens_leave_the_prefix_out() {
        let cases = [
            ("glrt-abcdefghijklmn", "abcdefghi"),
            ("glrt-t1_abcdefghijklmn", "abcdefghi"),
            ("t3_abcdefghijklmn", "abcdefghi"),
            ("glrtr-abcdefghijklmn", "abcdefghi"),
            ("GR1348941abcdefghijklmn", "abcdefghi"),
            ("GR134894zabcdefghijklmn", "GR134894z"),
            ("plaintokenplain", "plaintoke"),
            ("short", "short"),
        ];
        for (token, short) in cases {
            assert_eq!(RunnerToken::new(token).short(), short, "{token}");
        }
        assert!(RunnerToken::new("glrt-x").is_created_at_server());
        assert!(!RunnerToken::new("glrtr-x").is_created_at_server());
        assert_eq!(format!("{:?}", RunnerToken::new("glrt-x")), "[redacted]");
    }
}
