//! The same checkout as a script, for an environment whose files the runner cannot reach.

use dockwright_job::GitInfo;

use super::{Strategy, fetch_arguments, flags};
use crate::{
    executor::ExecuteError,
    script::{notice, quote},
    variables::JobVariables,
};

/// `git` with what keeps hooks and settings of the environment's user out of it.
const GIT: &str = "git -c core.hooksPath=/dev/null -c gc.autoDetach=false -c init.defaultBranch=none -c advice.detachedHead=false";

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
    out.push_str(&submodules(variables)?);
    Ok(out)
}

fn fetch(info: &GitInfo, variables: &JobVariables) -> String {
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
    out.push_str(&format!("{GIT} init --quiet --template={format}\n"));
    out.push_str(&format!("if {GIT} remote add origin {url} 2> /dev/null; then\n{created}else\n{GIT} remote set-url origin {url}\nfi\n"));
    let command = words(&fetch_arguments(info, variables));
    match info.depth {
        0 => out.push_str(&format!("if [ -f .git/shallow ]; then\n{GIT} {command} --unshallow\nelse\n{GIT} {command}\nfi\n")),
        _ => out.push_str(&format!("{GIT} {command}\n")),
    }
    out
}

fn checkout(info: &GitInfo, variables: &JobVariables) -> String {
    if variables.is_true("GIT_CHECKOUT") == Some(false) {
        return notice("Skipping Git checkout");
    }
    let sha = info.sha.as_str();
    let short = sha.get(..8).unwrap_or(sha);
    let mut out = notice(&format!("Checking out {short} as detached HEAD (ref is {})...", info.ref_name));
    out.push_str(&format!("{GIT} -c submodule.recurse=false checkout -f -q {}\n", quote(sha)));
    let clean = flags(variables, "GIT_CLEAN_FLAGS", "-ffdx");
    if !clean.is_empty() {
        out.push_str(&format!("{GIT} clean -q {}\n", words(&clean)));
    }
    out
}

fn submodules(variables: &JobVariables) -> Result<String, ExecuteError> {
    let (title, recursive) = match variables.text("GIT_SUBMODULE_STRATEGY") {
        "" | "none" => return Ok(notice("Skipping Git submodules setup")),
        "normal" => ("Updating/initializing submodules...", ""),
        "recursive" => ("Updating/initializing submodules recursively...", " --recursive"),
        other => return Err(ExecuteError::GitStrategy { variable: "GIT_SUBMODULE_STRATEGY", value: other.to_owned() }),
    };
    Ok(format!("{}{GIT} submodule sync --quiet\n{GIT} submodule update --init --force{recursive}\n", notice(title)))
}

fn words(list: &[String]) -> String {
    list.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}
