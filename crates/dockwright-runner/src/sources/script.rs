//! The same checkout as a script, for an environment whose files the runner cannot reach.

use dockwright_job::GitInfo;
use url::Url;

use super::{Strategy, fetch_arguments, flags};
use crate::{
    executor::ExecuteError,
    script::{notice, quote},
    variables::JobVariables,
};

/// In the environment, certificates are where the job's variables of this kind are written.
const TLS_VARIABLES: [(&str, &str); 3] =
    [("sslCAInfo", "CI_SERVER_TLS_CA_FILE"), ("sslCert", "CI_SERVER_TLS_CERT_FILE"), ("sslKey", "CI_SERVER_TLS_KEY_FILE")];

/// Writes the commands that bring `directory` to the job's commit.
pub(crate) fn checkout_script(
    info: &GitInfo,
    variables: &JobVariables,
    strategy: Strategy,
    directory: &str,
) -> Result<String, ExecuteError> {
    let directory = quote(directory);
    let mut out = "export GIT_TERMINAL_PROMPT=0 GCM_INTERACTIVE=Never\n".to_owned();
    match strategy {
        Strategy::Empty => {
            out.push_str(&notice("Skipping Git repository setup and creating an empty build directory"));
            out.push_str(&format!("rm -rf {directory}\nmkdir -p {directory}\n"));
            return Ok(out);
        }
        Strategy::None => {
            out.push_str(&notice("Skipping Git repository setup"));
            out.push_str(&format!("mkdir -p {directory}\ncd {directory}\nif [ -e .git ]; then\n{}fi\n", checkout(info, variables)));
            return Ok(out);
        }
        Strategy::Clone => out.push_str(&format!("rm -rf {directory}\n")),
        Strategy::Fetch => {}
    }
    out.push_str(&format!("mkdir -p {directory}\ncd {directory}\n"));
    out.push_str(&fetch(info, variables));
    out.push_str(&checkout(info, variables));
    out.push_str(&submodules(info, variables)?);
    Ok(out)
}

/// `git` with what keeps hooks and settings of the environment's user out of it, and with the certificates for the job's server.
fn git(info: &GitInfo, variables: &JobVariables) -> String {
    let mut out =
        "git -c core.hooksPath=/dev/null -c gc.autoDetach=false -c init.defaultBranch=none -c advice.detachedHead=false".to_owned();
    let url = Url::parse(&info.repo_url).ok().filter(|url| url.scheme() == "https");
    for (key, variable) in TLS_VARIABLES {
        if let (Some(url), Some(_)) = (&url, variables.get(variable)) {
            let setting = quote(&format!("http.{}.{key}=", url.origin().ascii_serialization()));
            out.push_str(&format!(" -c {setting}\"${variable}\""));
        }
    }
    out
}

fn fetch(info: &GitInfo, variables: &JobVariables) -> String {
    let git = git(info, variables);
    let mut out = match info.depth {
        0 => notice("Fetching changes..."),
        depth => notice(&format!("Fetching changes with git depth set to {depth}...")),
    };
    out.push_str("rm -f .git/index.lock .git/shallow.lock .git/HEAD.lock .git/config.lock .git/hooks/post-checkout\n");
    let format = match info.repo_object_format.as_str() {
        // Git has the flag since 2.29.
        "" | "sha1" => String::new(),
        format => format!(" --object-format={}", quote(format)),
    };
    let url = quote(&info.repo_url);
    let created = notice("Created fresh repository.");
    out.push_str(&format!("{git} init --quiet --template={format}\n"));
    out.push_str(&format!("if {git} remote add origin {url} 2> /dev/null; then\n{created}else\n{git} remote set-url origin {url}\nfi\n"));
    let command = words(&fetch_arguments(info, variables));
    match info.depth {
        0 => out.push_str(&format!("if [ -f .git/shallow ]; then\n{git} {command} --unshallow\nelse\n{git} {command}\nfi\n")),
        _ => out.push_str(&format!("{git} {command}\n")),
    }
    out
}

fn checkout(info: &GitInfo, variables: &JobVariables) -> String {
    if variables.is_true("GIT_CHECKOUT") == Some(false) {
        return notice("Skipping Git checkout");
    }
    let (git, sha) = (git(info, variables), info.sha.as_str());
    let short = sha.get(..8).unwrap_or(sha);
    let mut out = notice(&format!("Checking out {short} as detached HEAD (ref is {})...", info.ref_name));
    out.push_str(&format!("{git} -c submodule.recurse=false checkout -f -q {}\n", quote(sha)));
    let clean = flags(variables, "GIT_CLEAN_FLAGS", "-ffdx");
    if !clean.is_empty() {
        out.push_str(&format!("{git} clean -q {}\n", words(&clean)));
    }
    out
}

fn submodules(info: &GitInfo, variables: &JobVariables) -> Result<String, ExecuteError> {
    let (title, recursive) = match variables.text("GIT_SUBMODULE_STRATEGY") {
        "" | "none" => return Ok(notice("Skipping Git submodules setup")),
        "normal" => ("Updating/initializing submodules...", ""),
        "recursive" => ("Updating/initializing submodules recursively...", " --recursive"),
        other => return Err(ExecuteError::GitStrategy { variable: "GIT_SUBMODULE_STRATEGY", value: other.to_owned() }),
    };
    let git = git(info, variables);
    Ok(format!("{}{git} submodule sync --quiet\n{git} submodule update --init --force{recursive}\n", notice(title)))
}

fn words(list: &[String]) -> String {
    list.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use dockwright_job::Variable;

    use super::*;

    #[test]
    fn certificates_are_named_where_the_job_has_them() {
        let info = GitInfo { repo_url: "https://gitlab-ci-token:t@gitlab.example/a/b.git".to_owned(), ..GitInfo::default() };
        let ca = Variable { key: "CI_SERVER_TLS_CA_FILE".to_owned(), file: true, ..Variable::default() };
        let with_ca = JobVariables::new(vec![ca]);
        assert!(git(&info, &with_ca).ends_with(" -c 'http.https://gitlab.example.sslCAInfo='\"$CI_SERVER_TLS_CA_FILE\""));
        assert!(!git(&info, &JobVariables::default()).contains("http."));
    }

    #[test]
    fn a_strategy_that_is_none_is_refused() {
        let variable = |value: &str| Variable { key: "GIT_SUBMODULE_STRATEGY".to_owned(), value: value.to_owned(), ..Variable::default() };
        let script = |value: &str| checkout_script(&GitInfo::default(), &JobVariables::new(vec![variable(value)]), Strategy::Fetch, "/b");
        assert!(script("recursive").is_ok_and(|script| script.contains("submodule update --init --force --recursive\n")));
        assert!(matches!(script("deep"), Err(ExecuteError::GitStrategy { .. })));
    }
}
