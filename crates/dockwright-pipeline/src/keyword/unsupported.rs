//! Keywords that GitLab knows and Dockwright does not yet, each named where it is written: without them, something else would run.

use super::{Reader, present};
use crate::{diagnostic::Diagnostic, yaml::Map};

/// The keywords, with a way around.
const KEYWORDS: &[(&str, &str)] = &[("inputs", "use `variables`")];

/// Reports unsupported keywords of a job.
pub(super) fn report_in_job(reader: &mut Reader<'_>, at: &str, map: &Map) {
    for (keyword, help) in KEYWORDS {
        if let Some(entry) = present(map, keyword) {
            let message = format!("{at}: `{keyword}` is not supported yet");
            reader.report(Diagnostic::error("unsupported-keyword", message).at(entry.key).help(*help));
        }
    }
}
