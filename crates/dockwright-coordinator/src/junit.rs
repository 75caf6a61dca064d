//! The report `artifacts:reports:junit`: which tests a job ran, and which of them failed.
//!
//! A report holds one document for each file, compressed for itself. Cases count wherever they stand, and as GitLab counts them: what
//! has a `failure` failed, whatever else it has. Jobs may leave anything, so sizes are limited, entities are not expanded, and a broken
//! document costs its own cases only.

mod document;

use std::io::{self, BufRead, Read as _};

use flate2::bufread::GzDecoder;
use serde::Serialize;

/// Most bytes of all documents of a report.
const SIZE_BYTES: u64 = 64 * 1024 * 1024;
/// Failed tests that are named; the others are counted.
const MAX_NAMED: usize = 100;
/// Longest name or message.
const MAX_TEXT_CHARS: usize = 300;

/// What the tests of a job gave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TestReport {
    /// All of them.
    pub tests: u64,
    pub failures: u64,
    pub errors: u64,
    pub skipped: u64,
    /// The first tests that failed or had errors; at most 100.
    pub failed: Vec<FailedTest>,
}

/// A test that failed or had an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedTest {
    pub name: String,
    /// `classname` of the case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// First line of what the test said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A report, or a document of it, that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JunitError {
    #[error("the JUnit report cannot be unpacked: {source}")]
    Read {
        #[source]
        source: io::Error,
    },
    #[error("the JUnit report is larger than {} MiB", SIZE_BYTES / 1024 / 1024)]
    TooBig,
    #[error("the JUnit report {file} is wrong in line {line}: {reason}")]
    Malformed { file: String, line: usize, reason: String },
}

/// Reads a report: what its documents say, and the first thing that is wrong with one.
pub(crate) fn read(mut compressed: impl BufRead) -> (TestReport, Option<JunitError>) {
    let mut report = TestReport::default();
    let mut problem = None;
    let mut left = SIZE_BYTES;
    for number in 1.. {
        match next_document(&mut compressed, left) {
            Ok(Some(Document { name, text })) => {
                left -= text.len() as u64;
                let text = String::from_utf8_lossy(&text);
                if let Err(document::Malformed { line, reason }) = document::read(&text, &mut report) {
                    let file = name.map_or_else(|| format!("(file {number})"), |name| format!("`{}`", one_line(&name)));
                    problem.get_or_insert(JunitError::Malformed { file, line, reason });
                }
            }
            Ok(None) => break,
            Err(error) => {
                problem.get_or_insert(error);
                break;
            }
        }
    }
    (report, problem)
}

/// One member of the compressed report.
struct Document {
    /// As the runner wrote it.
    name: Option<String>,
    text: Vec<u8>,
}

fn next_document(compressed: &mut impl BufRead, left: u64) -> Result<Option<Document>, JunitError> {
    let failed = |source| JunitError::Read { source };
    if compressed.fill_buf().map_err(failed)?.is_empty() {
        return Ok(None);
    }
    let mut decoder = GzDecoder::new(compressed);
    let mut text = Vec::new();
    decoder.by_ref().take(left + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > left {
        return Err(JunitError::TooBig);
    }
    let name = decoder.header().and_then(|header| header.filename()).map(|name| String::from_utf8_lossy(name).into_owned());
    Ok(Some(Document { name, text }))
}

impl TestReport {
    /// Lets every text that tests gave be changed.
    pub(crate) fn each_text(&mut self, mut change: impl FnMut(&mut String)) {
        for test in &mut self.failed {
            let texts = [Some(&mut test.name), test.class.as_mut(), test.message.as_mut()];
            texts.into_iter().flatten().for_each(&mut change);
        }
    }
}

/// Returns the first line that is not blank, without characters that move a cursor.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(MAX_TEXT_CHARS).map(|next| if next.is_control() { ' ' } else { next }).collect()
}

#[cfg(test)]
mod tests;
