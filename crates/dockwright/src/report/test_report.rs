//! The summary of a job's JUnit report.

use dockwright_coordinator::{FailedTest, TestReport};

use super::{
    Streams,
    streams::{FAILURE, FAINT, SUCCESS},
};

/// Failed tests that are named for each job; the JSON events hold more.
const MAX_SHOWN: usize = 20;

/// Prints the counts, and the tests that failed with the first line of what they said.
pub(super) fn print(streams: &Streams, job: &str, report: &TestReport) {
    let style = if report.failures + report.errors > 0 { FAILURE } else { SUCCESS };
    streams.say(format!("{style}tests{style:#} of {job}: {}", counts(report)));
    for test in report.failed.iter().take(MAX_SHOWN) {
        streams.say(format!("  {FAILURE}✗{FAILURE:#} {}", words(test)));
    }
    let named = report.failed.len().min(MAX_SHOWN) as u64;
    let others = report.failures + report.errors - named;
    if others > 0 {
        streams.say(format!("  {FAINT}and {others} more{FAINT:#}"));
    }
}

fn counts(report: &TestReport) -> String {
    let parts = [(report.failures, "failed"), (report.errors, "with errors"), (report.skipped, "skipped")];
    let told = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    format!("{} {}{}", report.tests, if report.tests == 1 { "test" } else { "tests" }, told.collect::<String>())
}

fn words(test: &FailedTest) -> String {
    let class = test.class.as_ref().map(|class| format!("{class} ")).unwrap_or_default();
    let message = test.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    format!("{class}{}{message}", test.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_leave_out_what_is_nought() {
        let report = TestReport { tests: 1, ..TestReport::default() };
        assert_eq!(counts(&report), "1 test");
        let report = TestReport { tests: 9, failures: 2, errors: 1, skipped: 3, ..TestReport::default() };
        assert_eq!(counts(&report), "9 tests, 2 failed, 1 with errors, 3 skipped");
    }

    #[test]
    fn failed_tests_are_named_with_what_they_said() {
        let test = FailedTest { name: "adds".into(), class: Some("Math".into()), message: Some("expected 1".into()) };
        assert_eq!(words(&test), "Math adds: expected 1");
        assert_eq!(words(&FailedTest { class: None, message: None, ..test }), "adds");
    }
}
