//! Problems as SARIF 2.1.0: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use std::fmt::Write as _;

use dockwright_pipeline::Severity;
use serde_json::{Value, json};

use super::finding::{Finding, Region};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// What paths are relative to: the root of the repository, which the reader knows.
const ROOT: &str = "%SRCROOT%";

pub(super) fn log(findings: &[Finding]) -> Value {
    let mut codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let rules: Vec<Value> = codes.iter().map(|code| json!({ "id": code })).collect();
    let results: Vec<Value> = findings.iter().map(|finding| result(finding, &codes)).collect();
    let driver = json!({ "name": "dockwright", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules });
    // Columns are counted as people count them.
    let run = json!({ "tool": { "driver": driver }, "columnKind": "unicodeCodePoints", "results": results });
    json!({ "$schema": SCHEMA, "version": "2.1.0", "runs": [run] })
}

fn result(finding: &Finding, codes: &[&str]) -> Value {
    let related: Vec<Value> = finding.related.iter().enumerate().map(|(id, (region, text))| related(id, region, text)).collect();
    json!({
        "ruleId": finding.code,
        "ruleIndex": codes.iter().position(|code| *code == finding.code),
        "level": match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "message": { "text": finding.message },
        "locations": [{ "physicalLocation": location(&finding.place) }],
        "relatedLocations": related,
        "partialFingerprints": { "dockwright/v1": finding.fingerprint },
    })
}

fn related(id: usize, region: &Region, text: &str) -> Value {
    json!({ "id": id, "physicalLocation": location(region), "message": { "text": text } })
}

fn location(region: &Region) -> Value {
    json!({
        "artifactLocation": { "uri": uri(&region.path), "uriBaseId": ROOT },
        "region": {
            "startLine": region.start.line,
            "startColumn": region.start.column,
            "endLine": region.end.line,
            "endColumn": region.end.column,
        },
    })
}

/// Writes a path as a relative reference of RFC 3986.
fn uri(path: &str) -> String {
    let mut output = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            output.push(char::from(byte));
        } else {
            let _ = write!(output, "%{byte:02X}");
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::{super::finding::tests::findings, *};

    #[test]
    fn a_log_has_rules_and_places() {
        let log = log(&findings(&[("ci.yml", "job:\n  script: [make]\n  needs: [no-such]\n")]));
        let run = &log["runs"][0];
        let result = &run["results"][0];
        assert_eq!(log["version"], "2.1.0");
        assert_eq!(run["tool"]["driver"]["rules"][0]["id"], result["ruleId"]);
        assert_eq!((&result["ruleIndex"], &result["level"]), (&json!(0), &json!("error")));
        let expected = json!({
            "artifactLocation": { "uri": "ci.yml", "uriBaseId": "%SRCROOT%" },
            "region": { "startLine": 3, "startColumn": 11, "endLine": 3, "endColumn": 18 },
        });
        assert_eq!(result["locations"][0]["physicalLocation"], expected);
    }

    #[test]
    fn a_log_without_problems_is_complete() {
        assert_eq!(log(&[])["runs"][0]["results"], json!([]));
    }

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("ci/a b#ü.yml"), "ci/a%20b%23%C3%BC.yml");
    }
}
