//! How `dockwright` ends: the one place where an outcome becomes a number.
//!
//! The table is printed by `dockwright --help` and compared with `docs/reference/exit-codes.md` by a test, so the three cannot differ.

use std::fmt::Write as _;

/// An exit status of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCode {
    Success = 0,
    JobFailed = 1,
    Usage = 2,
    Configuration = 3,
    Environment = 4,
    NothingToRun = 6,
    Blocked = 7,
    Internal = 70,
    Interrupted = 130,
    Terminated = 143,
}

/// Every status with its meaning, in the order of the numbers.
pub(crate) const TABLE: [(ExitCode, &str); 10] = [
    (ExitCode::Success, "everything asked for was done; jobs that may fail are allowed to"),
    (
        ExitCode::JobFailed,
        "a job failed, an assertion of `test` does not hold, `doctor` found a problem that stops jobs, or a `runner` command failed",
    ),
    (ExitCode::Usage, "the command line is wrong: unknown flag, unknown job, missing argument"),
    (ExitCode::Configuration, "`.gitlab-ci.yml` or the settings file is missing or invalid"),
    (ExitCode::Environment, "the machine cannot do it: no engine, no such image, registry unreachable, disk full"),
    (ExitCode::NothingToRun, "the pipeline has no job for this ref and event"),
    (ExitCode::Blocked, "the pipeline waits for a manual job that was not asked for"),
    (ExitCode::Internal, "a bug in dockwright"),
    (ExitCode::Interrupted, "ended by Ctrl-C (SIGINT)"),
    (ExitCode::Terminated, "ended by SIGTERM"),
];

impl ExitCode {
    /// Returns the number given to the system.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.number().into()
    }
}

/// Returns the table as the help text shows it.
pub(crate) fn help_table() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in TABLE {
        let _ = writeln!(text, "  {:>3}  {meaning}", code.number());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_has_the_same_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/exit-codes.md");
        let page = std::fs::read_to_string(path).expect("the page can be read");
        let documented: Vec<&str> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Code")).collect();
        let expected: Vec<String> = TABLE.iter().map(|(code, meaning)| format!("| {} | {meaning} |", code.number())).collect();
        assert_eq!(documented, expected);
    }

    #[test]
    fn numbers_are_distinct_and_ordered() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0.number() < pair[1].0.number()));
    }
}
