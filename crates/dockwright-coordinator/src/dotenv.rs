//! The report `artifacts:reports:dotenv`: variables that a job hands to later jobs.
//!
//! GitLab's server reads it strictly: every line is `KEY=value`, without comments, quotes or escapes.

use std::io::{self, Read as _};

use flate2::read::MultiGzDecoder;
use indexmap::IndexMap;

/// Largest report.
const SIZE_BYTES: u64 = 5120;
const MAX_VARIABLES: usize = 20;

/// A report that GitLab would refuse.
#[derive(Debug, thiserror::Error)]
pub enum DotenvError {
    #[error("read the dotenv report")]
    Read {
        #[source]
        source: io::Error,
    },
    #[error("the dotenv report is larger than {SIZE_BYTES} bytes")]
    TooBig,
    #[error("line {line} of the dotenv report is not `KEY=value`; comments and empty lines are not allowed")]
    Format { line: usize },
    #[error("the dotenv report has a variable `{key}`; names consist of letters, digits and `_`")]
    Name { key: String },
    #[error("the dotenv report has more than {MAX_VARIABLES} variables")]
    TooMany,
}

/// Reads a compressed report.
pub(crate) fn read(compressed: impl io::Read) -> Result<IndexMap<String, String>, DotenvError> {
    let mut text = String::new();
    let mut content = MultiGzDecoder::new(compressed).take(SIZE_BYTES + 1);
    content.read_to_string(&mut text).map_err(|source| DotenvError::Read { source })?;
    if text.len() as u64 > SIZE_BYTES {
        return Err(DotenvError::TooBig);
    }
    parse(&text)
}

fn parse(text: &str) -> Result<IndexMap<String, String>, DotenvError> {
    let mut variables = IndexMap::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (key, value) = line.split_once('=').ok_or(DotenvError::Format { line: index + 1 })?;
        let key = key.trim();
        if key.is_empty() || !key.chars().all(|next| next.is_ascii_alphanumeric() || next == '_') {
            return Err(DotenvError::Name { key: key.to_owned() });
        }
        variables.insert(key.to_owned(), value.trim().to_owned());
    }
    if variables.len() > MAX_VARIABLES {
        return Err(DotenvError::TooMany);
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn compressed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).expect("writing to memory");
        encoder.finish().expect("writing to memory")
    }

    #[test]
    fn lines_are_taken_literally() {
        let variables = read(compressed("A=1\nB = \"x\" \nA=2\nURL=http://x/?a=b\n").as_slice()).expect("it is valid");
        let pairs: Vec<(&str, &str)> = variables.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("A", "2"), ("B", "\"x\""), ("URL", "http://x/?a=b")]);
    }

    #[test]
    fn what_gitlab_refuses() {
        let many: String = (0..21).map(|index| format!("V{index}=x\n")).collect();
        for text in ["# comment\n", "A=1\n\nB=2\n", "a-b=1\n", "=1\n", &many, &format!("A={}\n", "x".repeat(6000))] {
            assert!(read(compressed(text).as_slice()).is_err(), "{text:.20}");
        }
        assert!(matches!(read(&b"no gzip"[..]), Err(DotenvError::Read { .. })));
    }
}
