//! Versions of the API: what a path may ask for, and how versions compare.

use std::{fmt, str::FromStr};

use crate::error::EngineError;

/// A version such as `1.41`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// The oldest version served.
    pub const MIN: Self = Self::new(1, 24);
    /// The newest version served; what a path without a version means.
    pub const MAX: Self = Self::new(1, 51);

    /// Makes a version.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Whether the client asked for version `1.minor` or newer.
    pub fn at_least(self, minor: u16) -> bool {
        self >= Self::new(1, minor)
    }

    /// Refuses versions that are not served, in Docker's words.
    pub fn check(self) -> Result<Self, EngineError> {
        let (min, max) = (Self::MIN, Self::MAX);
        if self < min {
            return Err(EngineError::invalid(format!(
                "client version {self} is too old. Minimum supported API version is {min}, please upgrade your client to a newer version"
            )));
        }
        if self > max {
            return Err(EngineError::invalid(format!("client version {self} is too new. Maximum supported API version is {max}")));
        }
        Ok(self)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A path segment that is not a version.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an API version")]
pub struct NotAVersion;

impl FromStr for ApiVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let number = |part: &str| -> Result<u16, NotAVersion> {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse().map_err(|_| NotAVersion) } else { Err(NotAVersion) }
        };
        let (major, minor) = text.split_once('.').ok_or(NotAVersion)?;
        Ok(Self::new(number(major)?, number(minor)?))
    }
}

/// Splits `/v1.41/containers/json` into the version and the rest; a path without one means the newest.
pub fn split(path: &str) -> (ApiVersion, &str) {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        Some((version.parse().ok()?, &rest[version.len()..]))
    });
    versioned.unwrap_or((ApiVersion::MAX, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_start_with_a_version() {
        assert_eq!(split("/v1.41/containers/json"), (ApiVersion::new(1, 41), "/containers/json"));
        assert_eq!(split("/containers/json"), (ApiVersion::MAX, "/containers/json"));
        assert_eq!(split("/volumes/a"), (ApiVersion::MAX, "/volumes/a"));
        assert_eq!(split("/v1.x/info"), (ApiVersion::MAX, "/v1.x/info"));
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(ApiVersion::new(1, 9) < ApiVersion::new(1, 24));
        assert!(ApiVersion::new(1, 24).check().is_ok());
        let too_new = ApiVersion::new(1, 99).check().unwrap_err();
        assert_eq!(too_new.message, "client version 1.99 is too new. Maximum supported API version is 1.51");
    }
}
