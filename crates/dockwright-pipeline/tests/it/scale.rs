//! Large generated configurations: time grows with their size, not faster.

use crate::generated::{generated, time};

#[test]
fn ten_times_the_jobs_take_about_ten_times_as_long() {
    let small = time(&generated(100, 10), 100);
    let large = time(&generated(1000, 10), 1000);
    // Twelve is promised; the rest is for a machine that does something else at the same time.
    assert!(large < small * 25, "{small:?} for 100 jobs, {large:?} for 1000");
}
