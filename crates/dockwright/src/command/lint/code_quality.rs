//! Problems as GitLab's code quality report: <https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format>.

use dockwright_pipeline::Severity;
use serde::Serialize;

use super::finding::Finding;

#[derive(Debug, Serialize)]
pub(super) struct Entry<'finding> {
    description: &'finding str,
    check_name: &'static str,
    fingerprint: &'finding str,
    severity: &'static str,
    location: Location<'finding>,
}

#[derive(Debug, Serialize)]
struct Location<'finding> {
    path: &'finding str,
    lines: Lines,
}

#[derive(Debug, Serialize)]
struct Lines {
    begin: usize,
    end: usize,
}

pub(super) fn report(findings: &[Finding]) -> Vec<Entry<'_>> {
    findings.iter().map(entry).collect()
}

fn entry(finding: &Finding) -> Entry<'_> {
    Entry {
        description: &finding.message,
        check_name: finding.code,
        fingerprint: &finding.fingerprint,
        severity: match finding.severity {
            // No pipeline is made at all.
            Severity::Error => "blocker",
            Severity::Warning => "minor",
        },
        location: Location { path: &finding.place.path, lines: Lines { begin: finding.place.start.line, end: finding.place.end.line } },
    }
}
