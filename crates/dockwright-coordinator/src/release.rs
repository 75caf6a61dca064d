//! `release` as a dry run: what GitLab would make once the job has succeeded.
//!
//! GitLab lets the runner call a client with these values in double quotes, so variables are expanded and unknown ones are empty. A
//! description that names a file is its content; here, a file among the job's artifacts or of the commit.

use dockwright_job::Variable;
use dockwright_pipeline::{Release, ReleaseLink, expand_blank};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;

/// What would be released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReleasePlan {
    pub tag_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub description: String,
    /// What the tag is made from, when it does not exist.
    #[serde(rename = "ref")]
    pub ref_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<PlannedLink>,
}

/// An entry of `assets:links`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedLink {
    pub name: String,
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filepath: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_type: Option<String>,
}

impl ReleasePlan {
    /// Expands the variables of a job, the last definition of a name wins. Masked values stay hidden.
    pub(crate) fn new(release: &Release, variables: &[Variable], sha: &str) -> Self {
        let values: IndexMap<String, String> = variables
            .iter()
            .map(|variable| (variable.key.clone(), if variable.masked { "[MASKED]".to_owned() } else { variable.value.clone() }))
            .collect();
        let text = |text: &String| expand_blank(text, &values);
        let link = |link: &ReleaseLink| PlannedLink {
            name: text(&link.name),
            url: text(&link.url),
            filepath: link.filepath.as_ref().map(text),
            link_type: link.link_type.clone(),
        };
        Self {
            tag_name: text(&release.tag_name),
            tag_message: release.tag_message.as_ref().map(text),
            name: release.name.as_ref().map(text),
            description: text(&release.description),
            ref_name: release.ref_name.as_ref().map_or_else(|| sha.to_owned(), text),
            released_at: release.released_at.as_ref().map(text),
            milestones: release.milestones.iter().map(text).collect(),
            links: release.links.iter().map(link).collect(),
        }
    }

    /// Returns the description as a path, if it can be one.
    pub(crate) fn description_path(&self) -> Option<&str> {
        let path = self.description.as_str();
        let is_path = !path.is_empty() && !path.contains(char::is_whitespace) && !path.starts_with('/');
        (is_path && path.split('/').all(|part| part != "..")).then(|| path.trim_start_matches("./"))
    }

    /// Returns what GitLab would refuse, and what to do about it.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.tag_name.is_empty() {
            problems.push("`release:tag_name` is empty; its variables have no value in this pipeline".to_owned());
        } else if !is_tag(&self.tag_name) {
            problems.push(format!("`release:tag_name` is `{}`, which is no name of a tag", self.tag_name));
        }
        if self.description.trim().is_empty() {
            problems.push("`release:description` is empty; its variables have no value in this pipeline".to_owned());
        }
        if let Some(time) = self.released_at.as_ref().filter(|time| !is_time(time)) {
            problems.push(format!("`release:released_at` is `{time}`; write it as `2026-01-31T12:00:00Z`"));
        }
        for (index, link) in self.links.iter().enumerate() {
            let others = &self.links[..index];
            if !["http://", "https://", "ftp://"].iter().any(|scheme| link.url.starts_with(scheme)) {
                problems.push(format!("link `{}` of the release has the address `{}`; begin it with `https://`", link.name, link.url));
            }
            if others.iter().any(|other| other.name == link.name || other.url == link.url) {
                problems.push(format!("link `{}` of the release has the name or address of another; make them differ", link.name));
            }
        }
        problems
    }
}

fn is_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok() || text.parse::<jiff::civil::Date>().is_ok()
}

/// The rules of `git check-ref-format` that a slip breaks.
fn is_tag(name: &str) -> bool {
    let is_bad = |next: char| next.is_whitespace() || next.is_control() || "~^:?*[\\".contains(next);
    !name.contains(is_bad) && !name.contains("..") && !name.starts_with(['-', '/']) && !name.ends_with(['/', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(tag_name: &str, description: &str) -> Release {
        Release { tag_name: tag_name.to_owned(), description: description.to_owned(), ..Release::default() }
    }

    fn variable(key: &str, value: &str, masked: bool) -> Variable {
        Variable { key: key.to_owned(), value: value.to_owned(), masked, ..Variable::default() }
    }

    #[test]
    fn variables_are_expanded_and_secrets_hidden() {
        let variables = [variable("V", "0", false), variable("V", "1.2", false), variable("TOKEN", "secret", true)];
        let mut written = release("v$V", "Release ${V} $NONE$TOKEN");
        written.links.push(ReleaseLink { name: "app-$V".into(), url: "https://example.com/$V".into(), ..ReleaseLink::default() });
        let plan = ReleasePlan::new(&written, &variables, "abc");
        assert_eq!((plan.tag_name.as_str(), plan.description.as_str(), plan.ref_name.as_str()), ("v1.2", "Release 1.2 [MASKED]", "abc"));
        assert_eq!((plan.links[0].name.as_str(), plan.links[0].url.as_str()), ("app-1.2", "https://example.com/1.2"));
        assert!(plan.problems().is_empty());
    }

    #[test]
    fn what_gitlab_would_refuse() {
        let mut written = release("$NONE", " ");
        written.released_at = Some("tomorrow".into());
        let link = ReleaseLink { name: "a".into(), url: "/a".into(), ..ReleaseLink::default() };
        written.links = vec![link.clone(), link];
        assert_eq!(ReleasePlan::new(&written, &[], "abc").problems().len(), 6);
        for tag in ["a b", "a..b", "-a", "a?", "a/"] {
            assert_eq!(ReleasePlan::new(&release(tag, "x"), &[], "abc").problems().len(), 1, "{tag}");
        }
        for (time, count) in [("2026-01-31T12:00:00Z", 0), ("2026-01-31T12:00:00+02:00", 0), ("2026-01-31", 0), ("31.1.2026", 1)] {
            let written = Release { released_at: Some(time.into()), ..release("v1", "x") };
            assert_eq!(ReleasePlan::new(&written, &[], "abc").problems().len(), count, "{time}");
        }
    }

    #[test]
    fn descriptions_may_be_paths() {
        let path = |description: &str| ReleasePlan::new(&release("v1", description), &[], "abc").description_path().map(str::to_owned);
        assert_eq!(path("./docs/notes.md").as_deref(), Some("docs/notes.md"));
        for text in ["Some text", "../notes.md", "/etc/passwd", ""] {
            assert_eq!(path(text), None, "{text}");
        }
    }
}
