//! Keywords that GitLab knows and Dockwright does not yet, each named where it is written.
//!
//! It is an error where leaving the keyword out would change what runs, and a warning where it only changes what GitLab shows.

use super::{Reader, present};
use crate::{diagnostic::Diagnostic, source::Span, yaml::Map};

/// Keywords of jobs that change what runs, with a way around.
const CHANGES_WHAT_RUNS: &[(&str, &str)] = &[
    ("trigger", "`include` the other configuration, or start it by `dockwright run` in a script"),
    ("run", "use `script`"),
    ("inputs", "use `variables`"),
    ("secrets", "give the value as a variable when starting the pipeline"),
    ("id_tokens", "give the token as a variable when starting the pipeline"),
];

/// Keywords of jobs without an effect on what runs here.
const SHOWN_ONLY: &[&str] =
    &["coverage", "resource_group", "release", "pages", "publish", "identity", "dast_configuration", "manual_confirmation"];

/// Reports unsupported keywords of a job or of `default`.
pub(super) fn report_in_job(reader: &mut Reader<'_>, at: &str, map: &Map) {
    for (keyword, help) in CHANGES_WHAT_RUNS {
        if let Some(entry) = present(map, keyword) {
            reader.report(
                Diagnostic::error("unsupported-keyword", format!("{at}: `{keyword}` is not supported yet")).at(entry.key).help(*help),
            );
        }
    }
    for keyword in SHOWN_ONLY {
        if let Some(entry) = present(map, keyword) {
            let message = format!("{at}: `{keyword}` has no effect here");
            reader.report(Diagnostic::warning("ignored-keyword", message).at(entry.key));
        }
    }
}

/// Reports `when: delayed`.
pub(super) fn report_delayed(reader: &mut Reader<'_>, span: Span) {
    let problem = Diagnostic::error("unsupported-keyword", "`when: delayed` is not supported yet");
    reader.report(problem.at(span).help("use `when: manual` or `when: on_success`"));
}
