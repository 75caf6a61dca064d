//! Splitting a file into its header and body.

use std::{ops::Range, sync::Arc};

use super::{Node, Value, composer};
use crate::{
    diagnostic::Diagnostic,
    source::{SourceId, Sources, Span},
};

/// Largest file that is read (`max_yaml_size_bytes`).
const FILE_SIZE_BYTES: usize = 2 * 1024 * 1024;
/// GitLab looks at no more documents than this.
const MAX_DOCUMENTS: usize = 3;

/// A file: the optional `spec:` header and the configuration.
pub(crate) struct Document {
    pub(crate) header: Option<Arc<Node>>,
    pub(crate) body: Arc<Node>,
}

/// Reads one file; nothing is returned when it cannot be understood at all.
pub(crate) fn read(source: SourceId, sources: &Sources, problems: &mut Vec<Diagnostic>) -> Option<Document> {
    let text = sources.get(source).text.as_str();
    let whole = Span { source, start: 0, end: first_line_end(text) };
    if text.len() > FILE_SIZE_BYTES {
        problems.push(
            Diagnostic::error("yaml-too-big", "The provided YAML is too big")
                .at(whole)
                .help(format!("a file may hold {FILE_SIZE_BYTES} bytes; move parts into files and `include` them")),
        );
        return None;
    }
    let mut nodes = Vec::new();
    for range in split(text) {
        nodes.push(composer::compose(source, text, range, problems)?);
    }
    let is_header = |node: &Node| node.as_map().is_some_and(|map| map.contains_key("spec"));
    let document = match nodes.as_slice() {
        [] => {
            problems.push(
                Diagnostic::error("config-empty", "the configuration file is empty")
                    .at(whole)
                    .help("add a job, for example `test: {script: [echo hello]}`"),
            );
            return None;
        }
        [header, .., body] if is_header(header) => Document { header: Some(header.clone()), body: body.clone() },
        [body, ..] => Document { header: None, body: body.clone() },
    };
    if !matches!(document.body.value, Value::Map(_)) {
        problems.push(
            Diagnostic::error("invalid-configuration-format", "Invalid configuration format")
                .at(document.body.span)
                .help(format!("the top level must be a mapping of keywords and jobs (`name: …`), but it is {}", document.body.kind())),
        );
        return None;
    }
    Some(document)
}

fn first_line_end(text: &str) -> u32 {
    u32::try_from(text.find('\n').unwrap_or(text.len())).unwrap_or(u32::MAX)
}

/// Splits at lines that begin with `---` and a blank, as GitLab does before any parsing.
fn split(text: &str) -> Vec<Range<usize>> {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut pieces = Vec::new();
    let mut piece_start = start;
    let mut line_start = start;
    for line in text[start..].split_inclusive('\n') {
        let is_separator = line.strip_prefix("---").is_some_and(|rest| rest.starts_with(char::is_whitespace));
        if is_separator && pieces.len() + 1 < MAX_DOCUMENTS {
            pieces.push(piece_start..line_start);
            piece_start = line_start + "---".len();
        }
        line_start += line.len();
    }
    pieces.push(piece_start..text.len());
    pieces.retain(|piece| !is_blank(&text[piece.clone()]));
    pieces
}

/// Tells whether there is nothing but blanks and comments.
fn is_blank(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
}
