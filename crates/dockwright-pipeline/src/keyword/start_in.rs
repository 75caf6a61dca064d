//! `start_in`: how long a job with `when: delayed` waits.

use super::{Reader, duration, present};
use crate::{diagnostic::Diagnostic, yaml::Map};

const MAX_SECS: u64 = 7 * 24 * 60 * 60;

/// Reads `start_in` of a job or a rule. It belongs to `when: delayed`, and that to it.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, map: &Map, is_delayed: bool) -> Option<u64> {
    let Some(entry) = present(map, "start_in") else {
        if let Some(when) = map.get("when").filter(|_| is_delayed) {
            let problem = Diagnostic::error("start-in", format!("{at} start in should be a duration"));
            reader.report(problem.at(when.value.span).help("add how long it waits: `start_in: 30 minutes`"));
        }
        return None;
    };
    if !is_delayed {
        let problem = Diagnostic::error("start-in", format!("{at} start in must be blank"));
        reader.report(problem.at(entry.key).help("it belongs to `when: delayed`"));
        return None;
    }
    let secs = duration::read(reader, &format!("{at} start in"), &entry.value)?;
    if secs > MAX_SECS {
        let problem = Diagnostic::error("duration-limit", format!("{at} start in should not exceed the limit"));
        reader.report(problem.at(entry.value.span).help("the limit is a week"));
    }
    Some(secs)
}
