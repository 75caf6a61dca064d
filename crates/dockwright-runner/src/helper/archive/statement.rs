//! `RUNNER_GENERATE_ARTIFACTS_METADATA`: a statement of what is in an archive, as one more file of it.
//!
//! The form is that of in-toto with SLSA's provenance. Who made the files, and how, the runner says; here come their digests.

use std::{fs::File, io};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    super::HelperError,
    plan::{Entry, Kind, Plan},
};

const BUFFER_BYTES: usize = 256 * 1024;

/// What a statement is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Statement {
    /// Name in the archive.
    pub(crate) name: String,
    /// All but the `subject`.
    pub(crate) body: Value,
}

impl Statement {
    /// Adds the statement to an archive of files.
    pub(super) fn add_to(&self, plan: &mut Plan) -> Result<(), HelperError> {
        let subject: Vec<Value> = plan.entries.iter().filter(|entry| entry.is_file()).map(subject).collect::<Result<_, _>>()?;
        let mut body = self.body.clone();
        body["subject"] = Value::Array(subject);
        let content = serde_json::to_vec_pretty(&body).map_err(|error| HelperError::WriteArchive(error.into()))?;
        let modified_secs = jiff::Timestamp::now().as_second();
        let name = self.name.clone().into();
        // Of nobody in particular, and readable.
        plan.entries.push(Entry {
            name,
            path: Default::default(),
            kind: Kind::Made { content },
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            size: 0,
            modified_secs,
        });
        Ok(())
    }
}

fn subject(entry: &Entry) -> Result<Value, HelperError> {
    let unreadable = |error| HelperError::file("read", &entry.path)(error);
    let mut file = File::open(&entry.path).map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = io::Read::read(&mut file, &mut buffer).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    Ok(json!({ "name": entry.name.to_string_lossy(), "digest": { "sha256": hex::encode(hash.finalize()) } }))
}
