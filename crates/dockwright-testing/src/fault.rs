//! The table of faults in `docs/reference/faults.md`. Each row names the test that causes the fault, and the test compares how the job
//! ended with the row: so the page cannot promise what is not so.

const PAGE: &str = include_str!("../../../docs/reference/faults.md");
/// Fault, what happens, job ends, failure_reason, test.
const COLUMNS: usize = 5;

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRow {
    /// State of the job at the coordinator: `success`, `failed`, or words.
    pub ends: String,
    /// `failure_reason` of the job; empty where there is none.
    pub failure_reason: String,
    /// Name of the test's function.
    pub test: String,
}

/// Returns all rows.
pub fn documented_faults() -> Vec<FaultRow> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Fault "));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        assert_eq!(cells.len(), COLUMNS, "the row `{line}` of docs/reference/faults.md");
        FaultRow { ends: cells[2].to_owned(), failure_reason: cells[3].to_owned(), test: cells[4].to_owned() }
    })
    .collect()
}

/// Returns the row of a test. Panics when there is none.
#[track_caller]
pub fn documented_fault(test: &str) -> FaultRow {
    documented_faults()
        .into_iter()
        .find(|row| row.test == test)
        .unwrap_or_else(|| panic!("docs/reference/faults.md does not name `{test}`"))
}
