//! `environment`: where a job deploys to.

use super::{
    Reader, duration,
    job::Jobs,
    present,
    shape::{Name, Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::Environment,
    source::Span,
    suggestion::did_you_mean,
    yaml::{Node, Value},
};

/// Longest name and URL.
const MAX_CHARS: usize = 255;
const KEYS: &[&str] = &["name", "url", "action", "on_stop", "auto_stop_in", "deployment_tier", "kubernetes"];
const ACTIONS: &[(&str, &str)] =
    &[("start", "start"), ("stop", "stop"), ("prepare", "prepare"), ("verify", "verify"), ("access", "access")];

/// Reads `environment`. The name is expanded when the pipeline is evaluated.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Environment> {
    let map = match &node.value {
        Value::Text(name) => {
            check_name(reader, at, name, node.span);
            return Some(Environment { name: name.clone(), url: None, action: "start".to_owned(), tier: None });
        }
        Value::Map(map) => map,
        _ => {
            reader.wrong_type(at, node, "a hash or a string");
            return None;
        }
    };
    reader.unknown_keys(at, map, KEYS);
    let Some(name) = present(map, "name") else {
        reader.report(Diagnostic::error("environment-name", format!("{at} name can't be blank")).at(node.span).help("add `name: NAME`"));
        return None;
    };
    let text = |reader: &mut Reader<'_>, key: &str| present(map, key).and_then(|entry| reader.text(&format!("{at}:{key}"), &entry.value));
    if let Some(entry) = present(map, "auto_stop_in") {
        let is_open = entry.value.as_text().is_some_and(|text| text == "never" || text.contains('$'));
        if !is_open {
            duration::read(reader, &format!("{at}:auto_stop_in"), &entry.value);
        }
    }
    let text_of_name = reader.text(&format!("{at}:name"), &name.value)?;
    check_name(reader, at, &text_of_name, name.value.span);
    if let Some(url) = text(reader, "url").filter(|url| url.chars().count() > MAX_CHARS) {
        let message = format!("{at} url is too long (maximum is {MAX_CHARS} characters)");
        reader.report(Diagnostic::error("environment-url", message).at(node.span).help(format!("it has {}", url.chars().count())));
    }
    Some(Environment {
        name: text_of_name,
        url: text(reader, "url"),
        action: present(map, "action")
            .and_then(|entry| reader.one_of(&format!("{at} action"), &entry.value, ACTIONS))
            .unwrap_or("start")
            .to_owned(),
        tier: text(reader, "deployment_tier"),
    })
}

fn check_name(reader: &mut Reader<'_>, at: &str, name: &str, span: Span) {
    let is_allowed = |next: char| next.is_ascii_alphanumeric() || "_/${}. -".contains(next);
    let message = if name.chars().count() > MAX_CHARS {
        format!("{at} name is too long (maximum is {MAX_CHARS} characters)")
    } else if !name.chars().all(is_allowed) || name.starts_with('/') || name.ends_with('/') {
        format!(
            "{at} name can contain only letters, digits, '-', '_', '/', '$', '{{', '}}', '.', and spaces, but it cannot start or end with '/'"
        )
    } else {
        return;
    };
    reader.report(Diagnostic::error("environment-name", message).at(span));
}

/// Reads which job stops the environment, and where that is said.
pub(super) fn read_on_stop(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<(String, Span)> {
    let entry = present(node.as_map()?, "on_stop")?;
    Some((reader.text(&format!("{at}:on_stop"), &entry.value)?, entry.value.span))
}

/// Checks that jobs that stop environments exist, and stop the same one.
pub(super) fn check_on_stop(jobs: &Jobs, reader: &mut Reader<'_>) {
    for job in jobs.values() {
        let (Some((name, span)), Some(environment)) = (&job.on_stop, &job.environment) else { continue };
        let other = jobs.get(name);
        let what = match other.map(|other| &other.environment) {
            None => "is not defined",
            Some(None) => "does not have environment defined",
            Some(Some(stopped)) if stopped.name != environment.name => "have different environment name",
            Some(Some(stopped)) if stopped.action != "stop" => "needs to have action stop defined",
            Some(Some(_)) => continue,
        };
        let mut problem = Diagnostic::error("environment-on-stop", format!("{} job: on_stop job {name} {what}", job.name)).at(*span);
        if let Some(other) = other {
            problem = problem.also(other.span, "this job");
        }
        reader.report(problem.help_if(did_you_mean(name, jobs.keys().map(String::as_str)).filter(|_| other.is_none())));
    }
}

/// Describes `environment`.
pub(super) fn shape() -> Shape {
    let keys = Shape::map(KEYS, |key| match key {
        "name" => ("Name of the environment; variables are allowed.", Shape::Text),
        "url" => ("Where the environment can be visited.", Shape::Text),
        "action" => ("What the job does to the environment.", Shape::words(ACTIONS)),
        "on_stop" => ("The job that stops the environment.", Shape::Name(Name::Job)),
        "auto_stop_in" => ("When the environment is stopped by itself, such as `1 day`.", Shape::Text),
        "deployment_tier" => ("What kind of environment it is, such as `staging`.", Shape::Text),
        "kubernetes" => ("The cluster that GitLab shows for it.", Shape::Any),
        _ => UNDESCRIBED,
    });
    Shape::Either(vec![Shape::Text, keys])
}
