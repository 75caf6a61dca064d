//! `rules:changes`, and `changes` of `only` and `except`: which paths the event changed.

use super::{MAX_COMPARISONS, Scope};
use crate::{
    diagnostic::Diagnostic,
    fnmatch::Glob,
    keyword::{
        Reader, present,
        shape::{Shape, UNDESCRIBED},
    },
    source::Span,
    yaml::{Node, Value},
};

const KEYS: &[&str] = &["paths", "regexp", "compare_to"];

/// `changes`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Changes {
    pub(crate) paths: Vec<String>,
    pub(crate) regexp: Option<String>,
    /// What the commit is compared with, instead of what was there before the event.
    pub(crate) compare_to: Option<String>,
    pub(crate) span: Span,
}

/// Reads `changes`: paths, or a mapping.
pub(crate) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Changes> {
    let mut changes = Changes { paths: Vec::new(), regexp: None, compare_to: None, span: node.span };
    let Value::Map(map) = &node.value else {
        changes.paths = super::paths(reader, at, node)?;
        return Some(changes);
    };
    reader.unknown_keys(at, map, KEYS);
    match (present(map, "paths"), present(map, "regexp")) {
        (Some(paths), None) => changes.paths = super::paths(reader, &format!("{at}:paths"), &paths.value)?,
        (None, Some(regexp)) => changes.regexp = Some(super::regexp(reader, &format!("{at}:regexp"), &regexp.value)?),
        _ => {
            let message = format!("{at} config must use exactly one of these keys: paths, regexp");
            reader.report(Diagnostic::error("rules-changes", message).at(node.span));
            return None;
        }
    }
    changes.compare_to = present(map, "compare_to").and_then(|entry| reader.text(&format!("{at}:compare_to"), &entry.value));
    Some(changes)
}

impl Changes {
    /// Tells whether a changed path matches. What changed may be unknown: then it holds.
    pub(crate) fn holds(&self, scope: &Scope<'_>) -> Result<bool, Diagnostic> {
        let Some(repository) = scope.repository else { return Ok(true) };
        let changed = match &self.compare_to {
            None => match repository.changed_paths() {
                Some(changed) => changed,
                None => return Ok(true),
            },
            Some(reference) => {
                let reference = scope.expand(reference);
                repository.changed_since(&reference).ok_or_else(|| self.unknown_reference(&reference))?
            }
        };
        if let Some(regexp) = &self.regexp {
            return Ok(scope.pattern(regexp).is_some_and(|regexp| changed.iter().any(|path| regexp.is_match(path))));
        }
        if self.paths.len().saturating_mul(changed.len()) > MAX_COMPARISONS {
            return Ok(true);
        }
        let globs: Vec<Glob> = self.paths.iter().map(|path| Glob::new(&scope.expand(path))).collect();
        Ok(changed.iter().any(|path| globs.iter().any(|glob| glob.matches(path))))
    }

    fn unknown_reference(&self, reference: &str) -> Diagnostic {
        Diagnostic::error("rules-compare-to", format!("rules:changes:compare_to is not a valid ref: `{reference}`"))
            .at(self.span)
            .help("name a branch, a tag or a commit that this clone has; `git fetch origin` brings those of the remote")
    }
}

impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.regexp {
            Some(regexp) => write!(f, "changes: {{regexp: {regexp}}}"),
            None => write!(f, "changes: [{}]", self.paths.join(", ")),
        }
    }
}

/// Describes `changes`.
pub(crate) fn shape() -> Shape {
    let keys = Shape::map(KEYS, |key| match key {
        "paths" => ("Paths, with wildcards as in `src/**/*`.", Shape::list(Shape::Text)),
        "regexp" => ("A pattern of paths.", Shape::Text),
        "compare_to" => ("The branch, tag or commit that is compared with.", Shape::Text),
        _ => UNDESCRIBED,
    });
    Shape::Either(vec![Shape::list(Shape::Text), keys])
}
