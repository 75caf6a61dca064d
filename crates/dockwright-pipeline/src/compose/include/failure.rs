//! Why an include is not there, in GitLab's words, and what to do about it.

use crate::{
    diagnostic::Diagnostic,
    loader::{LoadError, LoadErrorKind, Place, Request},
    suggestion::did_you_mean,
};

/// Returns what is wrong with a request before anything is loaded.
pub(super) fn of_request(request: &Request) -> Option<Diagnostic> {
    let path = match request {
        Request::Local { place: Place::Nowhere, path } => {
            let message = format!("Local file `{path}` does not have project!");
            return Some(
                Diagnostic::error("include-not-found", message)
                    .help("a remote file or a template cannot include local files; name them by `project` or `remote`"),
            );
        }
        Request::Local { path, .. } | Request::Project { path, .. } => path.as_str(),
        Request::Remote { url, .. } => url.split(['?', '#']).next().unwrap_or(url),
        Request::Template { name } => {
            return (!name.ends_with(".gitlab-ci.yml")).then(|| {
                Diagnostic::error("include-template", format!("Template file `{name}` is not a valid location!"))
                    .help("names of templates end in `.gitlab-ci.yml`, as in `Jobs/Build.gitlab-ci.yml`")
            });
        }
        Request::Component(_) => return None,
    };
    if !has_yaml_extension(path) {
        return Some(
            Diagnostic::error("include-extension", format!("Included file `{path}` does not have YAML extension!"))
                .help("its name must end in `.yml` or `.yaml`"),
        );
    }
    if let Request::Remote { url, .. } = request {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        return (!is_web).then(|| {
            Diagnostic::error("include-address", format!("Remote file `{url}` does not have a valid address!"))
                .help("an address begins with `https://`")
        });
    }
    path.split('/')
        .any(|part| part == "..")
        .then(|| not_found(request).help("paths start at the root of the repository, also in included files"))
}

/// Reports a file without content.
pub(super) fn of_empty(request: &Request) -> Diagnostic {
    let message = match request {
        Request::Local { path, .. } => format!("Local file `{path}` is empty!"),
        Request::Project { project, path, .. } => format!("Project `{project}` file `{path}` is empty!"),
        other => format!("Included file `{other}` is empty or does not exist!"),
    };
    Diagnostic::error("include-empty", message).help("remove the include, or write something into the file")
}

/// Reports a file that could not be loaded; `files` lists those that local ones could have been meant by.
pub(super) fn of_loading(request: &Request, error: LoadError, files: &dyn Fn() -> Vec<String>) -> Diagnostic {
    let problem = match error.kind {
        LoadErrorKind::NotFound => {
            let problem = not_found(request);
            match request {
                Request::Local { path, .. } if error.help.is_none() => {
                    let near = did_you_mean(path, files().iter().map(String::as_str));
                    problem.help(near.unwrap_or_else(|| "paths start at the root of the repository, also in included files".to_owned()))
                }
                _ => problem,
            }
        }
        LoadErrorKind::NoProject => no_project(request),
        LoadErrorKind::NoReference => no_reference(request),
        LoadErrorKind::Unreadable(reason) => Diagnostic::error("include-unreadable", format!("cannot read `{request}`: {reason}")),
        LoadErrorKind::Unreachable(reason) => {
            let what = if matches!(request, Request::Remote { .. }) { "Remote file" } else { "File" };
            Diagnostic::error("include-unreachable", format!("{what} `{request}` could not be fetched {reason}!"))
        }
        LoadErrorKind::Changed { actual } => {
            let what = if matches!(request, Request::Remote { .. }) { "Remote file" } else { "File" };
            Diagnostic::error("include-integrity", format!("{what} `{request}` failed integrity check!"))
                .help(format!("its digest is `{actual}`"))
        }
        LoadErrorKind::NotLocked => Diagnostic::error("include-not-locked", format!("`{request}` is not in the lock file")),
    };
    problem.help_if(error.help)
}

fn not_found(request: &Request) -> Diagnostic {
    let message = match request {
        Request::Local { place: Place::Project { project, .. }, path } => format!("Local file `{path}` does not exist in `{project}`!"),
        Request::Local { path, .. } => format!("Local file `{path}` does not exist!"),
        Request::Project { project, path, .. } => format!("Project `{project}` file `{path}` does not exist!"),
        Request::Component(address) => format!("component '{address}' - content not found"),
        Request::Remote { .. } | Request::Template { .. } => format!("Included file `{request}` is empty or does not exist!"),
    };
    Diagnostic::error("include-not-found", message)
}

fn no_project(request: &Request) -> Diagnostic {
    let message = match request {
        Request::Project { project, .. } => format!(
            "Project `{project}` not found or access denied! Make sure any includes in the pipeline configuration are correctly defined."
        ),
        Request::Component(address) => format!("component '{address}' - project does not exist or you don't have sufficient permissions"),
        other => format!("Included file `{other}` is empty or does not exist!"),
    };
    Diagnostic::error("include-no-project", message)
}

fn no_reference(request: &Request) -> Diagnostic {
    let message = match request {
        Request::Project { project, reference, .. } => {
            format!("Project `{project}` reference `{}` does not exist!", reference.as_deref().unwrap_or("HEAD"))
        }
        other => format!("component '{other}' - content not found"),
    };
    Diagnostic::error("include-no-reference", message)
}

fn has_yaml_extension(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.ends_with(".yml") || path.ends_with(".yaml")
}
