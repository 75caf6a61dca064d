//! Remote files: whoever has the network gives them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dockwright_pipeline::{LoadError, LoadErrorKind};
use sha2::{Digest as _, Sha256};

/// Gets files from the web. This crate speaks no HTTP itself.
pub trait Web: std::fmt::Debug + Send + Sync {
    /// Returns the content at an address, following redirects and trying again where that may help.
    fn get(&self, url: &str) -> Result<Vec<u8>, WebError>;
}

/// Why there is no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebError {
    /// The server's answer is no success.
    Status { code: u16, attempts: u32 },
    /// There was no answer; the text says why.
    Failed { reason: String, attempts: u32 },
}

/// Says it in GitLab's words.
pub(super) fn load_error(error: WebError) -> LoadError {
    let after = |attempts: u32| if attempts == 1 { "after 1 attempt".to_owned() } else { format!("after {attempts} attempts") };
    match error {
        WebError::Status { code, attempts } => {
            let error = LoadError::from(LoadErrorKind::Unreachable(format!("{} because of HTTP code `{code}` error", after(attempts))));
            match code {
                401 | 403 | 404 => error.help("remote files are fetched without credentials; include private ones by `project` and `file`"),
                _ => error,
            }
        }
        WebError::Failed { reason, attempts } => {
            let reason = format!("{} because of an error: {reason}", after(attempts));
            LoadError::from(LoadErrorKind::Unreachable(reason))
                .help("check the address and the network; what was fetched before stays usable with `--frozen`")
        }
    }
}

/// Returns the digest as `integrity` and the lock file write it.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(bytes)))
}
