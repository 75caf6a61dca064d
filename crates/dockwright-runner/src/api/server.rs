//! Where a server is, and how it proves that it is it.

use std::{path::PathBuf, time::Duration};

use url::Url;

use super::SetupError;

/// What a client needs to know about a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerSettings {
    /// `url` of config.toml, such as `https://gitlab.example/`; a final `/ci` of old installations is ignored.
    pub url: String,
    pub tls: TlsFiles,
    /// Where `<host>.crt`, `<host>.auth.crt` and `<host>.auth.key` are looked for when `tls` does not name files.
    pub certificates_dir: Option<PathBuf>,
    /// Connections are made anew after this time, so that a moved server is noticed. `None` keeps them.
    pub connection_max_age: Option<Duration>,
    /// How long a report on a job may wait for its answer. `None` is a minute.
    pub report_timeout: Option<Duration>,
}

/// Files of a TLS connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// Trusted beside the machine's own authorities.
    pub ca_file: Option<PathBuf>,
    /// Shown to the server, with `key_file`.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl ServerSettings {
    /// Settings for a server that the machine trusts.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Returns the root of the API, with a final slash.
    pub(super) fn api_base(&self) -> Result<Url, SetupError> {
        let invalid = |reason: &str| SetupError::Url { url: without_credentials(&self.url), reason: reason.to_owned() };
        let text = self.url.trim().trim_end_matches('/');
        let text = text.strip_suffix("/ci").unwrap_or(text);
        let base = Url::parse(&format!("{text}/api/v4/")).map_err(|error| invalid(&error.to_string()))?;
        match base.scheme() {
            "http" | "https" if base.has_host() => Ok(base),
            other => Err(invalid(&format!("`{other}` is neither http nor https"))),
        }
    }

    /// Returns the files to use: those that are named, else those of the certificates directory that exist.
    pub(super) fn tls_files(&self, host: &str) -> TlsFiles {
        let found = |name: String| self.certificates_dir.as_ref().map(|directory| directory.join(name)).filter(|path| path.is_file());
        TlsFiles {
            ca_file: self.tls.ca_file.clone().or_else(|| found(format!("{host}.crt"))),
            cert_file: self.tls.cert_file.clone().or_else(|| found(format!("{host}.auth.crt"))),
            key_file: self.tls.key_file.clone().or_else(|| found(format!("{host}.auth.key"))),
        }
    }
}

fn without_credentials(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => format!("{}{host}", before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"))),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_bases() {
        let cases = [
            ("https://gitlab.example", Some("https://gitlab.example/api/v4/")),
            ("https://gitlab.example/", Some("https://gitlab.example/api/v4/")),
            ("http://gitlab.example:8080/git/ci/", Some("http://gitlab.example:8080/git/api/v4/")),
            ("ftp://gitlab.example", None),
            ("gitlab.example", None),
            ("", None),
        ];
        for (url, expected) in cases {
            let base = ServerSettings::new(url).api_base();
            assert_eq!(base.ok().map(|base| base.to_string()).as_deref(), expected, "{url}");
        }
        let error = ServerSettings::new("ftp://user:secret@host/").api_base().expect_err("ftp is refused");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn files_of_the_certificates_directory() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("host.crt"), "x").expect("a file");
        let settings = ServerSettings { certificates_dir: Some(directory.path().to_owned()), ..ServerSettings::new("https://host") };
        let files = settings.tls_files("host");
        assert_eq!((files.ca_file, files.cert_file), (Some(directory.path().join("host.crt")), None));
        let named = ServerSettings { tls: TlsFiles { ca_file: Some("/ca".into()), ..TlsFiles::default() }, ..settings };
        assert_eq!(named.tls_files("host").ca_file, Some("/ca".into()));
    }
}
