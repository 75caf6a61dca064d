//! A problem as reports of other programs want it: at a place in a file of the repository, and recognisable after an edit elsewhere.

use std::{collections::HashMap, fmt::Write as _};

use dockwright_pipeline::{Diagnostic, Position, Severity, Sources, Span};
use dockwright_store::Digest;

use crate::wire::LoadedPipeline;

/// A problem, placed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    /// With the remedies, and with the true place when that is not in the repository.
    pub(super) message: String,
    pub(super) place: Region,
    pub(super) related: Vec<(Region, String)>,
    /// Does not depend on line numbers, so that it stays when lines are added above.
    pub(super) fingerprint: String,
}

/// A range of characters in a file of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Region {
    /// Relative to the root of the repository.
    pub(super) path: String,
    pub(super) start: Position,
    /// After the last character.
    pub(super) end: Position,
}

/// Places the problems of a configuration, whose file is `root`.
pub(super) fn of(loaded: &LoadedPipeline, root: &str) -> Vec<Finding> {
    let files = loaded.context.repository.as_ref().map(|repository| repository.files()).unwrap_or_default();
    let is_own = |path: &str| path == root || files.iter().any(|file| file == path);
    place_all(&loaded.problems, &loaded.sources, root, &is_own)
}

fn place_all(problems: &[Diagnostic], sources: &Sources, root: &str, is_own: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    problems
        .iter()
        .map(|problem| {
            let mut finding = place(problem, sources, root, is_own);
            let identity = identity(problem, sources, &finding.place.path);
            let earlier = seen.entry(identity.clone()).or_default();
            finding.fingerprint = Digest::of(format!("{identity}\0{earlier}").as_bytes()).hex();
            *earlier += 1;
            finding
        })
        .collect()
}

fn place(problem: &Diagnostic, sources: &Sources, root: &str, is_own: &dyn Fn(&str) -> bool) -> Finding {
    let own_span = problem.span.and_then(|span| own_span(span, sources, is_own));
    let mut message = problem.message.clone();
    if let Some(span) = problem.span.filter(|span| own_span != Some(*span)) {
        let _ = write!(message, " (in {} line {})", sources.get(span.source).name, sources.position(span).line);
    }
    for help in &problem.help {
        let _ = write!(message, "; {help}");
    }
    let related = problem.notes.iter().filter(|note| own_span_is(note.span, sources, is_own));
    Finding {
        code: problem.code,
        severity: problem.severity,
        message,
        place: own_span.map_or_else(|| top_of(root), |span| region(span, sources)),
        related: related.map(|note| (region(note.span, sources), note.text.clone())).collect(),
        fingerprint: String::new(),
    }
}

/// Returns the span, or the place in the repository that includes its file.
fn own_span(span: Span, sources: &Sources, is_own: &dyn Fn(&str) -> bool) -> Option<Span> {
    let through = sources.include_chain(span.source);
    std::iter::once(span).chain(through).find(|span| own_span_is(*span, sources, is_own))
}

fn own_span_is(span: Span, sources: &Sources, is_own: &dyn Fn(&str) -> bool) -> bool {
    is_own(path_of(span, sources))
}

fn path_of(span: Span, sources: &Sources) -> &str {
    sources.get(span.source).name.trim_start_matches('/')
}

fn region(span: Span, sources: &Sources) -> Region {
    Region { path: path_of(span, sources).to_owned(), start: sources.position(span), end: sources.end_position(span) }
}

/// The place of what belongs to none.
fn top_of(root: &str) -> Region {
    let top = Position { line: 1, column: 1 };
    Region { path: root.to_owned(), start: top, end: top }
}

/// What makes a problem the same one: its code and message, its file, and the text of its line.
fn identity(problem: &Diagnostic, sources: &Sources, path: &str) -> String {
    let line = problem.span.map_or("", |span| {
        let text = sources.get(span.source).text.as_str();
        text.lines().nth(sources.position(span).line - 1).unwrap_or_default().trim()
    });
    [problem.code, &problem.message, path, line].join("\0")
}

#[cfg(test)]
pub(super) mod tests {
    use dockwright_pipeline::{PipelineContext, evaluate, parse};
    use indexmap::IndexMap;

    use super::*;

    /// Findings of a configuration; files whose names begin with `other` are of elsewhere.
    pub(in crate::command::lint) fn findings(files: &[(&str, &str)]) -> Vec<Finding> {
        let files: IndexMap<String, String> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let context = PipelineContext::default();
        let parsed = parse("ci.yml", &files, &context);
        let mut problems = parsed.problems;
        if !dockwright_pipeline::has_errors(&problems) {
            problems.extend(evaluate(&parsed.config, &context).1);
        }
        place_all(&problems, &parsed.sources, "ci.yml", &|path| !path.starts_with("other"))
    }

    const BROKEN: &str = "job:\n  script: [make]\n  needs: [no-such]\n";

    #[test]
    fn a_fingerprint_does_not_depend_on_lines_above() {
        let before = findings(&[("ci.yml", BROKEN)]);
        let after = findings(&[("ci.yml", &format!("# a comment\n\n{BROKEN}"))]);
        assert_eq!((before[0].place.start.line, after[0].place.start.line), (3, 5));
        assert_eq!(before[0].fingerprint, after[0].fingerprint);
        assert_eq!(before[0].fingerprint.len(), 64);
    }

    #[test]
    fn equal_problems_have_their_own_fingerprints() {
        let text = "a:\n  script: [make]\n  needs:\n    - no-such\n    - no-such\n";
        let mut fingerprints: Vec<String> = findings(&[("ci.yml", text)]).into_iter().map(|finding| finding.fingerprint).collect();
        let count = fingerprints.len();
        fingerprints.sort();
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), count);
    }

    #[test]
    fn a_problem_elsewhere_is_placed_where_it_is_included() {
        let found = findings(&[("ci.yml", "include: other.yml\n"), ("other.yml", BROKEN)]);
        assert_eq!((found[0].place.path.as_str(), found[0].place.start.line), ("ci.yml", 1));
        assert!(found[0].message.contains("(in other.yml line 3)"), "{}", found[0].message);
    }

    #[test]
    fn a_region_ends_after_its_last_character() {
        let place = &findings(&[("ci.yml", BROKEN)])[0].place;
        assert_eq!((place.start.column, place.end.column), (11, 18));
    }
}
