//! `rules:exists`: which files the commit has.

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

const KEYS: &[&str] = &["paths", "regexp", "project", "ref"];

/// `exists`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exists {
    pub(crate) paths: Vec<String>,
    pub(crate) regexp: Option<String>,
    /// The files are those of another project, which cannot be looked at.
    pub(crate) is_elsewhere: bool,
    pub(crate) span: Span,
}

/// Reads `exists`: paths, or a mapping.
pub(crate) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Exists> {
    let mut exists = Exists { paths: Vec::new(), regexp: None, is_elsewhere: false, span: node.span };
    if let Value::Text(path) = &node.value {
        exists.paths = vec![path.clone()];
        return Some(exists);
    }
    let Value::Map(map) = &node.value else {
        exists.paths = super::paths(reader, at, node)?;
        return Some(exists);
    };
    reader.unknown_keys(at, map, KEYS);
    match (present(map, "paths"), present(map, "regexp")) {
        (Some(paths), None) => exists.paths = super::paths(reader, &format!("{at}:paths"), &paths.value)?,
        (None, Some(regexp)) => exists.regexp = Some(super::regexp(reader, &format!("{at}:regexp"), &regexp.value)?),
        _ => {
            let message = format!("{at} config must use exactly one of these keys: paths, regexp");
            reader.report(Diagnostic::error("rules-exists", message).at(node.span));
            return None;
        }
    }
    let project = present(map, "project");
    if let Some(reference) = present(map, "ref").filter(|_| project.is_none()) {
        let message = format!("{at} config the `ref` keyword must be used with `project`");
        reader.report(Diagnostic::error("rules-exists", message).at(reference.key));
    }
    if let Some(project) = project {
        exists.is_elsewhere = true;
        let message = format!("{at}: the files of another project are not looked at here");
        reader.report(Diagnostic::warning("not-done-locally", message).at(project.key).help("the clause counts as true"));
    }
    Some(exists)
}

impl Exists {
    /// Tells whether one of the files is there.
    pub(crate) fn holds(&self, scope: &Scope<'_>) -> bool {
        let Some(repository) = scope.repository.filter(|_| !self.is_elsewhere) else { return self.is_elsewhere };
        let files = repository.files();
        if let Some(regexp) = &self.regexp {
            return scope.pattern(regexp).is_some_and(|regexp| files.iter().any(|path| regexp.is_match(path)));
        }
        let (globs, exact): (Vec<String>, Vec<String>) =
            self.paths.iter().map(|path| scope.expand(path)).partition(|path| path.contains(['*', '?', '[', '{']));
        if exact.iter().any(|path| has_file(&files, path)) {
            return true;
        }
        if globs.len().saturating_mul(files.len()) > MAX_COMPARISONS {
            return true;
        }
        globs.iter().map(|glob| Glob::new(glob)).any(|glob| files.iter().any(|path| glob.matches(path)))
    }
}

/// A path that ends in a slash names a directory.
fn has_file(files: &[String], path: &str) -> bool {
    if path.ends_with('/') { files.iter().any(|file| file.starts_with(path)) } else { files.iter().any(|file| file == path) }
}

impl std::fmt::Display for Exists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.regexp {
            Some(regexp) => write!(f, "exists: {{regexp: {regexp}}}"),
            None => write!(f, "exists: [{}]", self.paths.join(", ")),
        }
    }
}

/// Describes `exists`.
pub(crate) fn shape() -> Shape {
    let keys = Shape::map(KEYS, |key| match key {
        "paths" => ("Paths, with wildcards as in `src/**/*`.", Shape::list(Shape::Text)),
        "regexp" => ("A pattern of paths.", Shape::Text),
        "project" => ("The project that is looked into.", Shape::Text),
        "ref" => ("The branch or tag of that project.", Shape::Text),
        _ => UNDESCRIBED,
    });
    Shape::Either(vec![Shape::one_or_list(Shape::Text), keys])
}
