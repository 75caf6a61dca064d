use std::io::Write as _;

use flate2::{Compression, GzBuilder};

use super::*;

fn compressed(documents: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, text) in documents {
        let mut encoder = GzBuilder::new().filename(*name).write(&mut bytes, Compression::fast());
        encoder.write_all(text.as_bytes()).expect("writing to memory");
        encoder.finish().expect("writing to memory");
    }
    bytes
}

fn of(text: &str) -> (TestReport, Option<String>) {
    let (report, problem) = read(compressed(&[("a.xml", text)]).as_slice());
    (report, problem.map(|problem| problem.to_string()))
}

#[test]
fn cases_are_counted_as_gitlab_counts_them() {
    let (report, problem) = of(r#"<?xml version="1.0"?>
<testsuites>
  <testsuite name="s">
    <testcase name="good" classname="C"/>
    <testcase name="skipped"><skipped message="not today"/></testcase>
    <testcase name="bad &lt;1&gt;" classname="C"><failure message="expected 1&#10;got 2">trace</failure><system-out>noise</system-out></testcase>
    <testcase name="text"><failure>
      <![CDATA[first <line>]]> &amp; more
      second line</failure></testcase>
    <testcase name="broken"><error type="E"/></testcase>
    <testcase name="both"><error message="e"/><failure message="f"/><skipped/></testcase>
    <testsuite><testcase name="deep"></testcase></testsuite>
  </testsuite>
</testsuites>"#);
    assert_eq!(problem, None);
    assert_eq!((report.tests, report.failures, report.errors, report.skipped), (7, 3, 1, 1));
    let failed: Vec<_> = report.failed.iter().map(|test| (test.name.as_str(), test.class.as_deref(), test.message.as_deref())).collect();
    assert_eq!(
        failed,
        [
            ("bad <1>", Some("C"), Some("expected 1")),
            ("text", None, Some("first <line> & more")),
            ("broken", None, None),
            ("both", None, Some("f")),
        ]
    );
}

#[test]
fn a_broken_document_is_named_with_its_line_and_costs_its_own_cases() {
    let report = compressed(&[
        ("one.xml", "<testsuite>\n<testcase name='a'/>\n<testcase name='b'></testsuite>"),
        ("two.xml", "<testsuite><testcase name='c'/></testsuite>"),
    ]);
    let (report, problem) = read(report.as_slice());
    assert_eq!(report.tests, 2);
    let problem = problem.expect("a problem").to_string();
    assert!(problem.starts_with("the JUnit report `one.xml` is wrong in line 3: "), "{problem}");
    for text in ["", "no xml", "<testsuite>", "<a><b></a></b>", "</a>", "<a b=c/>x<"] {
        assert!(of(text).1.is_some(), "{text}");
    }
}

#[test]
fn hostile_reports_stay_small() {
    // Entities are not expanded, neither in texts nor in attributes.
    let (report, _) =
        of("<!DOCTYPE a [<!ENTITY e \"eeee\"><!ENTITY f \"&e;&e;\">]>\n<a><testcase name='&f;'><failure>&f;</failure></testcase></a>");
    assert_eq!((report.failed[0].name.as_str(), report.failed[0].message.as_deref()), ("&f;", Some("&f;")));
    // A cursor does not move.
    let (report, _) = of("<a><testcase name='x&#27;[2J'><error/></testcase></a>");
    assert_eq!(report.failed[0].name, "x [2J");
    let many = format!("<a>{}</a>", "<testcase name='n'><failure/></testcase>".repeat(1000));
    let (report, _) = of(&many);
    assert_eq!((report.failures, report.failed.len()), (1000, MAX_NAMED));
    assert!(of(&"<a>".repeat(100_000)).1.is_some());
    let big = "x".repeat(usize::try_from(SIZE_BYTES).expect("fits") + 1);
    assert_eq!(of(&big).1.as_deref(), Some("the JUnit report is larger than 64 MiB"));
    assert!(matches!(read(&b"no gzip"[..]).1, Some(JunitError::Read { .. })));
}

#[test]
fn every_text_can_be_masked() {
    let (mut report, _) = of("<a><testcase name='token glcbt-1' classname='glcbt-1'><failure message='was glcbt-1'/></testcase></a>");
    report.each_text(|text| *text = text.replace("glcbt-1", "[MASKED]"));
    let test = &report.failed[0];
    assert_eq!(
        (test.name.as_str(), test.class.as_deref(), test.message.as_deref()),
        ("token [MASKED]", Some("[MASKED]"), Some("was [MASKED]"))
    );
}
