//! Names and secrets for registries.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Who asks. All empty is anonymous.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password, or a token that serves as one.
    pub password: String,
    /// Given by a registry at login, in place of the password.
    pub identity_token: String,
    /// A bearer token obtained elsewhere, used as it is.
    pub registry_token: String,
}

impl Credentials {
    /// Returns credentials of user and password.
    pub fn basic(username: &str, password: &str) -> Self {
        Self { username: username.to_owned(), password: password.to_owned(), ..Self::default() }
    }

    /// Tells whether there is a user and a password.
    pub(crate) fn has_password(&self) -> bool {
        !self.username.is_empty() && !self.password.is_empty()
    }

    /// Returns the value of an `Authorization` header.
    pub(crate) fn basic_header(&self) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }

    /// Reads the value of an `Authorization` header.
    pub(crate) fn from_basic_header(value: &str) -> Option<Self> {
        let encoded = strip_scheme(value, "basic")?;
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (username, password) = decoded.split_once(':')?;
        Some(Self::basic(username, password))
    }
}

/// Returns what follows the scheme in an `Authorization` header.
pub(crate) fn strip_scheme<'a>(value: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = value.trim().split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then_some(rest.trim())
}

/// Secrets do not print.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, [redacted])", self.username)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_reads_back_and_secrets_do_not_print() {
        let credentials = Credentials::basic("user", "pass:word");
        assert_eq!(Credentials::from_basic_header(&credentials.basic_header()), Some(credentials.clone()));
        assert_eq!(format!("{credentials:?}"), r#"Credentials("user", [redacted])"#);
        assert_eq!(Credentials::from_basic_header("Bearer abc"), None);
        assert_eq!(Credentials::from_basic_header("Basic !!"), None);
    }
}
