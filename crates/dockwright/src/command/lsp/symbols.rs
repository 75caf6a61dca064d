//! The outline of a file: its jobs, hidden entries and keywords.

use dockwright_pipeline::{Outline, Shape, Step, language};
use lsp_types::{DocumentSymbol, SymbolKind};

use super::document;

pub(super) fn symbols(text: &str) -> Vec<DocumentSymbol> {
    let outline = Outline::read(text);
    let entries: Vec<usize> = outline.children(None).collect();
    let symbol = |(at, index): (usize, &usize)| {
        let mark = &outline.marks()[*index];
        let Step::Key(name) = &mark.step else { return None };
        let end = entries.get(at + 1).map_or(text.len(), |next| outline.marks()[*next].name.start);
        // An entry ends with its last letter, not where the next begins.
        let length = text[mark.name.start..end].trim_end().len();
        let stage = outline.child(Some(*index), "stage").and_then(|stage| outline.marks()[stage].value.clone());
        #[allow(deprecated, reason = "the field must be given, whatever it is called")]
        Some(DocumentSymbol {
            name: name.clone(),
            detail: stage.map(|stage| text[stage].to_owned()),
            kind: kind(name),
            tags: None,
            deprecated: None,
            range: document::range(text, mark.name.start..(mark.name.start + length).max(mark.name.end)),
            selection_range: document::range(text, mark.name.clone()),
            children: None,
        })
    };
    // A key without letters has no name that could be shown.
    entries.iter().enumerate().filter_map(symbol).filter(|symbol| !symbol.name.is_empty()).collect()
}

fn kind(name: &str) -> SymbolKind {
    if is_keyword(name) {
        SymbolKind::NAMESPACE
    } else if name.starts_with('.') {
        SymbolKind::INTERFACE
    } else {
        SymbolKind::FUNCTION
    }
}

/// Tells whether a key of the root is part of the language, and no job.
pub(super) fn is_keyword(name: &str) -> bool {
    matches!(language(), Shape::Map(keys) if keys.get(name).is_some())
}
