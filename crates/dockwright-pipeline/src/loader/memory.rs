//! Files kept in memory.

use indexmap::IndexMap;

use super::{Component, ComponentAddress, LoadError, LoadErrorKind, Loaded, Loader, Place, Request};

/// Files by name. One of the own project has its path for a name, others are named as their requests print: `group/lib@v1:ci.yml`,
/// `https://example.com/a.yml`, `template:Bash.gitlab-ci.yml`, `gitlab.com/group/lib/deploy@1.0`. Commits are called like their references.
impl Loader for IndexMap<String, String> {
    fn load(&self, request: &Request) -> Result<Loaded, LoadError> {
        let Some(text) = self.get(&request.to_string()) else { return Err(missing(self, request).into()) };
        let component = match request {
            Request::Component(address) => Some(component(address)),
            _ => None,
        };
        Ok(Loaded { text: text.clone(), place: place(request), component })
    }

    fn list_files(&self, place: &Place) -> Vec<String> {
        let prefix = match place {
            Place::Own => return self.keys().cloned().collect(),
            Place::Project { project, reference, .. } => format!("{project}@{reference}:"),
            Place::Nowhere => return Vec::new(),
        };
        self.keys().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect()
    }
}

fn missing(files: &IndexMap<String, String>, request: &Request) -> LoadErrorKind {
    let Request::Project { project, reference, .. } = request else { return LoadErrorKind::NotFound };
    let reference = reference.as_deref().unwrap_or("HEAD");
    let begins = |prefix: String| files.keys().any(|name| name.starts_with(&prefix));
    if begins(format!("{project}@{reference}:")) {
        LoadErrorKind::NotFound
    } else if begins(format!("{project}@")) {
        LoadErrorKind::NoReference
    } else {
        LoadErrorKind::NoProject
    }
}

fn place(request: &Request) -> Place {
    let at = |project: &str, reference: &str| Place::Project {
        project: project.to_owned(),
        reference: reference.to_owned(),
        sha: reference.to_owned(),
    };
    match request {
        Request::Local { place, .. } => place.clone(),
        Request::Project { project, reference, .. } => at(project, reference.as_deref().unwrap_or("HEAD")),
        Request::Component(address) => at(&address.project, &address.version),
        Request::Remote { .. } | Request::Template { .. } => Place::Nowhere,
    }
}

fn component(address: &ComponentAddress) -> Component {
    Component {
        name: address.name.clone(),
        sha: address.version.clone(),
        version: address.version.clone(),
        reference: address.version.clone(),
    }
}
