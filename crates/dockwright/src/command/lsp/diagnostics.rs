//! Problems as the editor shows them.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use dockwright_pipeline::{Diagnostic as Problem, Severity, Span};
use lsp_types::{Diagnostic, DiagnosticRelatedInformation, DiagnosticSeverity, Location, NumberOrString, Range};

use super::{analysis::Analysis, document};

/// Name of this program in the editor's list of problems.
const SOURCE: &str = "dockwright";

/// Adds the problems of a configuration to those of its files; one that another configuration has as well is shown once.
pub(super) fn add(analysis: &Analysis, found: &mut BTreeMap<PathBuf, Vec<Diagnostic>>) {
    for problem in &analysis.problems {
        let Some((path, diagnostic)) = place(analysis, problem) else { continue };
        let known = found.entry(path).or_default();
        if !known.contains(&diagnostic) {
            known.push(diagnostic);
        }
    }
}

fn place(analysis: &Analysis, problem: &Problem) -> Option<(PathBuf, Diagnostic)> {
    let own = problem.span.and_then(|span| analysis.own_span(span));
    let mut message = problem.message.clone();
    if let Some(span) = problem.span.filter(|span| own != Some(*span)) {
        let (file, line) = (&analysis.sources.get(span.source).name, analysis.sources.position(span).line);
        let _ = write!(message, " (in {file} line {line})");
    }
    for help in &problem.help {
        message.extend(["\nhelp: ", help]);
    }
    let (path, range) = match own {
        Some(span) => (analysis.path_of(analysis.sources.get(span.source))?, range_of(analysis, span)),
        // What belongs to no place is shown at the top of the configuration.
        None => (analysis.path_of(analysis.sources.iter().next()?)?, Range::default()),
    };
    let related = problem.notes.iter().filter_map(|note| {
        let path = analysis.path_of(analysis.sources.get(note.span.source))?;
        let location = Location { uri: document::uri_of(&path)?, range: range_of(analysis, note.span) };
        Some(DiagnosticRelatedInformation { location, message: note.text.clone() })
    });
    let related: Vec<DiagnosticRelatedInformation> = related.collect();
    let diagnostic = Diagnostic {
        range,
        severity: Some(match problem.severity {
            Severity::Error => DiagnosticSeverity::ERROR,
            Severity::Warning => DiagnosticSeverity::WARNING,
        }),
        code: Some(NumberOrString::String(problem.code.to_owned())),
        source: Some(SOURCE.to_owned()),
        message,
        related_information: (!related.is_empty()).then_some(related),
        ..Diagnostic::default()
    };
    Some((path, diagnostic))
}

fn range_of(analysis: &Analysis, span: Span) -> Range {
    document::range(&analysis.sources.get(span.source).text, span.range())
}
