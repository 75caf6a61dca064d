//! Texts as the editor has them, and places in them.
//!
//! The protocol counts columns in UTF-16 code units, everything else here in bytes. A place that does not exist is moved to the nearest
//! that does.

use std::{ops::Range, path::PathBuf, str::FromStr as _};

use lsp_types::{Position, TextDocumentContentChangeEvent, Uri};
use url::Url;

/// A text that is open in the editor.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) uri: Uri,
    /// Absent for a text that was never saved.
    pub(super) path: Option<PathBuf>,
    pub(super) text: String,
}

impl Document {
    pub(super) fn new(uri: Uri, text: String) -> Self {
        Self { path: path_of(&uri), uri, text }
    }

    /// Applies a change: of a range, or of everything.
    pub(super) fn apply(&mut self, change: TextDocumentContentChangeEvent) {
        match change.range {
            None => self.text = change.text,
            Some(range) => {
                let (start, end) = (offset(&self.text, range.start), offset(&self.text, range.end));
                self.text.replace_range(start.min(end)..start.max(end), &change.text);
            }
        }
    }
}

/// Returns the path of a file that an address names.
pub(super) fn path_of(uri: &Uri) -> Option<PathBuf> {
    let url = Url::parse(uri.as_str()).ok()?;
    (url.scheme() == "file").then(|| url.to_file_path().ok()).flatten()
}

/// Returns the address of a file.
pub(super) fn uri_of(path: &std::path::Path) -> Option<Uri> {
    Uri::from_str(Url::from_file_path(path).ok()?.as_str()).ok()
}

/// Returns the byte at a place.
pub(super) fn offset(text: &str, position: Position) -> usize {
    let mut start = 0;
    for _ in 0..position.line {
        match text[start..].find('\n') {
            Some(length) => start += length + 1,
            None => return text.len(),
        }
    }
    let line = text[start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
    let mut units = 0;
    for (at, next) in line.char_indices() {
        if units >= position.character as usize {
            return start + at;
        }
        units += next.len_utf16();
    }
    start + line.len()
}

/// Returns the place of a byte.
pub(super) fn position(text: &str, offset: usize) -> Position {
    let offset = (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count();
    let character: usize = before[line_start..].chars().map(char::len_utf16).sum();
    Position { line: u32::try_from(line).unwrap_or(u32::MAX), character: u32::try_from(character).unwrap_or(u32::MAX) }
}

/// Returns the places of a range of bytes.
pub(super) fn range(text: &str, range: Range<usize>) -> lsp_types::Range {
    lsp_types::Range { start: position(text, range.start), end: position(text, range.end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_code_units_of_utf_16() {
        let text = "a: 'é😀x'\r\nb: c\n";
        for (line, character, byte) in [(0, 0, 0), (0, 4, 4), (0, 5, 6), (0, 7, 10), (0, 8, 11), (1, 3, 17), (2, 0, 19)] {
            let place = Position { line, character };
            assert_eq!(offset(text, place), byte, "{place:?}");
            assert_eq!(position(text, byte), place, "byte {byte}");
        }
    }

    #[test]
    fn a_place_that_does_not_exist_is_moved() {
        let text = "ab\n😀";
        assert_eq!(offset(text, Position { line: 0, character: 99 }), 2);
        assert_eq!(offset(text, Position { line: 9, character: 0 }), text.len());
        // The middle of a pair is its end.
        assert_eq!(offset(text, Position { line: 1, character: 1 }), text.len());
        assert_eq!(position(text, 5), Position { line: 1, character: 0 });
    }

    #[test]
    fn changes_are_applied_in_their_order() {
        let uri = Uri::from_str("file:///a/b%20c.yml").expect("an address");
        let mut document = Document::new(uri, "é: 1\n".to_owned());
        assert_eq!(document.path.as_deref(), Some(std::path::Path::new("/a/b c.yml")));
        let at = |line, from, to| lsp_types::Range { start: Position { line, character: from }, end: Position { line, character: to } };
        for (range, text) in [(Some(at(0, 3, 4)), "two\nx"), (Some(at(1, 1, 1)), "y")] {
            document.apply(TextDocumentContentChangeEvent { range, range_length: None, text: text.to_owned() });
        }
        assert_eq!(document.text, "é: two\nxy\n");
    }
}
