//! The identity of this machine's runner towards coordinators, in `.runner_system_id` beside the configuration.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

pub const FILE_NAME: &str = ".runner_system_id";

const RANDOM_LENGTH: usize = 12;
const ALPHANUMERIC: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Where systemd and D-Bus keep the machine's id, in the order in which GitLab Runner looks.
const MACHINE_ID_FILES: [&str; 2] = ["/var/lib/dbus/machine-id", "/etc/machine-id"];
/// SHA-256 works on blocks of this size.
const BLOCK_BYTES: usize = 64;

/// An id that could be made but not kept; the next start may have another.
#[derive(Debug, thiserror::Error)]
#[error("write `{path}`")]
pub struct KeepSystemIdError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Returns the id kept in a directory. Where there is none, or none that is valid, one is made and kept.
pub fn load_or_create(directory: &Path) -> (String, Result<(), KeepSystemIdError>) {
    let path = directory.join(FILE_NAME);
    let kept = fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
    if let Some(id) = kept.filter(|id| is_valid(id)) {
        return (id, Ok(()));
    }
    let id = generate();
    let result = keep(&path, &id).map_err(|source| KeepSystemIdError { path, source });
    (id, result)
}

/// Makes an id: from the machine's, so that it is the same after a new installation, or a random one.
pub fn generate() -> String {
    let machine = MACHINE_ID_FILES.iter().find_map(|path| fs::read_to_string(path).ok());
    match machine.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()) {
        Some(machine) => from_machine(&machine),
        None => random(),
    }
}

fn is_valid(id: &str) -> bool {
    let rest = id.strip_prefix("s_").or_else(|| id.strip_prefix("r_"));
    rest.is_some_and(|rest| rest.len() == RANDOM_LENGTH && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn from_machine(machine: &str) -> String {
    let digits = hex::encode(hmac_sha256(machine.as_bytes(), b"gitlab-runner"));
    format!("s_{}", &digits[..RANDOM_LENGTH])
}

fn random() -> String {
    let mut bytes = [0_u8; RANDOM_LENGTH];
    // Without randomness the id is poor, but the runner works.
    let _ = getrandom::fill(&mut bytes);
    let letters = bytes.map(|byte| char::from(ALPHANUMERIC[usize::from(byte) % ALPHANUMERIC.len()]));
    format!("r_{}", letters.iter().collect::<String>())
}

/// RFC 2104. One use does not pay for a crate.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

fn keep(path: &Path, id: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 2 of RFC 4231.
    #[test]
    fn hmac_is_that_of_the_rfc() {
        let code = hex::encode(hmac_sha256(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(code, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn ids_have_the_form_that_gitlab_takes() {
        assert!(is_valid(&from_machine("0123456789abcdef0123456789abcdef")));
        assert!(is_valid(&random()));
        assert_ne!(random(), random());
        for id in ["", "s_", "s_123456789", "x_123456789012", "s_1234567890123", "s_12345678901-"] {
            assert!(!is_valid(id), "{id}");
        }
    }

    #[test]
    fn an_id_is_kept_and_an_invalid_one_replaced() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join(FILE_NAME);
        fs::write(&file, "r_AbCdEf012345\n").expect("file");
        assert_eq!(load_or_create(directory.path()).0, "r_AbCdEf012345");
        fs::write(&file, "nonsense").expect("file");
        let (made, kept) = load_or_create(directory.path());
        kept.expect("the id is kept");
        assert_eq!(load_or_create(directory.path()).0, made);
    }
}
