//! Tokens: made, kept in files that only their owner reads, compared.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use sha2::{Digest as _, Sha256};

use super::ServerError;

/// Returns the token of a file, which is made when it is missing.
pub(super) fn kept(path: &Path, prefix: &str) -> Result<String, ServerError> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(ServerError::file(path)(error)),
        _ => {}
    }
    let token = new(prefix);
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        writeln!(file, "{token}")?;
        file.sync_all()
    };
    write().map_err(ServerError::file(path))?;
    Ok(token)
}

/// Makes a token that nobody can guess.
pub(super) fn new(prefix: &str) -> String {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    format!("{prefix}{}", hex::encode(bytes))
}

pub(super) fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Compares digests, so that the time it takes says nothing about how much is right.
pub(super) fn is_same(left: &str, right: &str) -> bool {
    !left.is_empty() && Sha256::digest(left.as_bytes()) == Sha256::digest(right.as_bytes())
}
