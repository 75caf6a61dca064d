//! `artifacts`: files that a job leaves for later jobs and for people.

use super::{
    Reader, duration, present,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::{Artifacts, KeepWhen, Report},
    yaml::{Map, Node},
};

const KEYS: &[&str] = &["name", "untracked", "paths", "exclude", "reports", "when", "expire_in", "expose_as", "public", "access"];

const REPORTS: &[&str] = &[
    "accessibility",
    "annotations",
    "api_fuzzing",
    "browser_performance",
    "cluster_image_scanning",
    "codequality",
    "container_scanning",
    "coverage_fuzzing",
    "coverage_report",
    "cyclonedx",
    "dast",
    "dependency_scanning",
    "dotenv",
    "junit",
    "license_scanning",
    "load_performance",
    "lsif",
    "metrics",
    "performance",
    "repository_xray",
    "requirements",
    "requirements_v2",
    "sarif",
    "sast",
    "secret_detection",
    "terraform",
];

const COVERAGE_KEYS: &[&str] = &["coverage_format", "path"];
const FORMATS: &[(&str, &str)] = &[("cobertura", "cobertura"), ("jacoco", "jacoco")];

/// `when` of artifacts and caches.
pub(super) const KEEP_WHEN: &[(&str, KeepWhen)] =
    &[("on_success", KeepWhen::OnSuccess), ("on_failure", KeepWhen::OnFailure), ("always", KeepWhen::Always)];

/// Reads `artifacts`.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Artifacts> {
    let map = reader.map(at, node)?;
    reader.unknown_keys(at, map, KEYS);
    let artifacts = Artifacts {
        name: present(map, "name").and_then(|entry| reader.text(&format!("{at}:name"), &entry.value)),
        untracked: present(map, "untracked").and_then(|entry| reader.boolean(&format!("{at}:untracked"), &entry.value)).unwrap_or(false),
        paths: texts(reader, at, map, "paths"),
        exclude: texts(reader, at, map, "exclude"),
        when: present(map, "when").and_then(|entry| reader.one_of(&format!("{at} when"), &entry.value, KEEP_WHEN)).unwrap_or_default(),
        expire_in: expire_in(reader, at, map),
        reports: present(map, "reports").map(|entry| reports(reader, &format!("{at}:reports"), &entry.value)).unwrap_or_default(),
    };
    exposed(reader, at, map, &artifacts);
    Some(artifacts)
}

fn texts(reader: &mut Reader<'_>, at: &str, map: &Map, key: &str) -> Vec<String> {
    present(map, key).and_then(|entry| reader.texts(&format!("{at}:{key}"), &entry.value)).unwrap_or_default()
}

fn expire_in(reader: &mut Reader<'_>, at: &str, map: &Map) -> Option<String> {
    let entry = present(map, "expire_in")?;
    let text = reader.text(&format!("{at}:expire_in"), &entry.value)?;
    if text != "never" {
        duration::read(reader, &format!("{at}:expire_in"), &entry.value)?;
    }
    Some(text)
}

/// What GitLab shows people: checked as it does, but without an effect here.
fn exposed(reader: &mut Reader<'_>, at: &str, map: &Map, artifacts: &Artifacts) {
    let cannot_be_shown = artifacts.paths.is_empty() || artifacts.paths.iter().any(|path| path.contains('*'));
    if let Some(entry) = present(map, "expose_as").filter(|_| cannot_be_shown) {
        let message = format!("{at} expose_as requires paths, and they cannot contain wildcards");
        reader.report(Diagnostic::error("artifacts-expose", message).at(entry.key));
    }
    if let (Some(access), Some(public)) = (present(map, "access"), present(map, "public")) {
        let message = format!("{at} config these keys cannot be used together: public, access");
        reader.report(Diagnostic::error("exclusive-keys", message).at(access.key).also(public.key, "the other one"));
    }
}

fn reports(reader: &mut Reader<'_>, at: &str, node: &Node) -> Vec<Report> {
    let Some(map) = reader.map(at, node) else { return Vec::new() };
    reader.unknown_keys(at, map, REPORTS);
    let mut reports = Vec::new();
    for (kind, entry) in map.iter().filter(|(kind, entry)| REPORTS.contains(&kind.as_str()) && !entry.value.is_null()) {
        let at = format!("{at}:{kind}");
        if kind == "coverage_report" {
            reports.extend(coverage_report(reader, &at, &entry.value));
        } else if let Some(paths) = reader.text_or_texts(&at, &entry.value) {
            reports.push(Report { kind: kind.clone(), paths });
        }
    }
    reports
}

fn coverage_report(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Report> {
    let map = reader.map(at, node)?;
    reader.unknown_keys(at, map, COVERAGE_KEYS);
    let (Some(format), Some(path)) = (present(map, "coverage_format"), present(map, "path")) else {
        reader.report(Diagnostic::error("coverage-report", format!("{at} needs `coverage_format` and `path`")).at(node.span));
        return None;
    };
    let kind = reader.one_of(&format!("{at} coverage format"), &format.value, FORMATS)?.to_owned();
    Some(Report { kind, paths: vec![reader.text(&format!("{at}:path"), &path.value)?] })
}

/// Describes `artifacts`.
pub(super) fn shape() -> Shape {
    Shape::map(KEYS, |key| match key {
        "name" => ("Name of the archive that people download.", Shape::Text),
        "untracked" => ("Keeps all files that Git does not track.", Shape::Boolean),
        "paths" => ("Files and directories to keep, relative to the project; wildcards are allowed.", Shape::list(Shape::Text)),
        "exclude" => ("Files that are not kept though `paths` name them.", Shape::list(Shape::Text)),
        "reports" => ("Files that GitLab reads and shows, such as test results.", Shape::map(REPORTS, report_shape)),
        "when" => ("After which results of the job they are kept.", Shape::words(KEEP_WHEN)),
        "expire_in" => ("How long they are kept, such as `1 week`, or `never`.", Shape::Text),
        "expose_as" => ("Title of a link to them in merge requests.", Shape::Text),
        "public" => ("Whether people who are not members may download them.", Shape::Boolean),
        "access" => ("Who may download them.", Shape::Text),
        _ => UNDESCRIBED,
    })
}

fn report_shape(kind: &str) -> (&'static str, Shape) {
    match kind {
        "coverage_report" => (
            "Which lines the tests reach.",
            Shape::map(COVERAGE_KEYS, |key| match key {
                "coverage_format" => ("Format of the file.", Shape::words(FORMATS)),
                "path" => ("The file.", Shape::Text),
                _ => UNDESCRIBED,
            }),
        ),
        "dotenv" => ("A file of `KEY=value` lines: variables for later jobs.", Shape::one_or_list(Shape::Text)),
        "junit" => ("Test results in JUnit's XML.", Shape::one_or_list(Shape::Text)),
        _ => ("A report in the format that its name says.", Shape::one_or_list(Shape::Text)),
    }
}
