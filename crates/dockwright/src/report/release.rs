//! What a job with `release` would have released.

use dockwright_coordinator::ReleasePlan;

use super::{
    Streams,
    streams::{FAINT, SUCCESS},
};

/// Lines of a description that are shown; the JSON events hold all.
const MAX_LINES: usize = 20;

/// Prints a plan as lines of a name and a value.
pub(super) fn print(streams: &Streams, job: &str, plan: &ReleasePlan) {
    streams.say(format!("{SUCCESS}release{SUCCESS:#} of {job}, which GitLab would make and a local run does not:"));
    for (key, value) in rows(plan) {
        streams.say(format!("  {FAINT}{key:<11}{FAINT:#} {value}"));
    }
}

fn rows(plan: &ReleasePlan) -> Vec<(&'static str, String)> {
    let mut rows = vec![("tag_name", plan.tag_name.clone())];
    let optional = [("tag_message", &plan.tag_message), ("name", &plan.name)];
    rows.extend(optional.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))));
    let lines: Vec<&str> = plan.description.lines().collect();
    let shown = lines.iter().take(MAX_LINES).enumerate();
    rows.extend(shown.map(|(index, line)| (if index == 0 { "description" } else { "" }, (*line).to_owned())));
    if lines.len() > MAX_LINES {
        rows.push(("", format!("and {} more lines", lines.len() - MAX_LINES)));
    }
    rows.push(("ref", plan.ref_name.clone()));
    rows.extend(plan.released_at.iter().map(|time| ("released_at", time.clone())));
    if !plan.milestones.is_empty() {
        rows.push(("milestones", plan.milestones.join(", ")));
    }
    for link in &plan.links {
        let kind = link.link_type.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
        let path = link.filepath.as_ref().map(|path| format!(" as {path}")).unwrap_or_default();
        rows.push(("link", format!("{}{kind}: {}{path}", link.name, link.url)));
    }
    rows
}
