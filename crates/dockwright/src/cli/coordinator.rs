//! `dockwright coordinator`.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum CoordinatorCommand {
    Serve(CoordinatorServeArgs),
}

/// Serve runners, ours or GitLab's own, with the pipelines of local repositories
///
/// Speaks GitLab's runner API, and the part of its REST API that concerns pipelines and jobs. Everything that was answered is on the disk:
/// after a crash, pipelines go on where they were. Prints its address and where its tokens are, then serves until it is interrupted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    dockwright coordinator serve --project me/app=/srv/git/app.git --watch 2\n  \
    gitlab-runner register --non-interactive --url http://127.0.0.1:8929 --registration-token \"$(cat …/registration-token)\" --executor shell\n  \
    curl --header \"PRIVATE-TOKEN: $(cat …/personal-token)\" --request POST http://127.0.0.1:8929/api/v4/projects/1/pipeline?ref=main")]
pub(crate) struct CoordinatorServeArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8929")]
    pub(crate) listen: String,
    /// Address under which runners and jobs reach the coordinator; without it, the one it listens on
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Serve the repository PATH as this project; may be given several times, and is remembered
    #[arg(long = "project", value_name = "GROUP/NAME=PATH")]
    pub(crate) projects: Vec<ProjectArgument>,
    /// Look for pushes in all repositories every so many seconds, and start their pipelines
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) watch: Option<u64>,
    /// Serve a registry for the images of jobs on this address, too; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) registry: Option<String>,
    /// What jobs are told as `CI_REGISTRY`; without it, the address of the registry
    #[arg(long, value_name = "HOST[:PORT]", requires = "registry")]
    pub(crate) registry_host: Option<String>,
    /// Where to keep the database, traces and artifacts, instead of dockwright's own directory
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) data: Option<PathBuf>,
}

/// `group/name=/path/to/repository`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProjectArgument {
    pub(crate) project: String,
    pub(crate) repository: PathBuf,
}

impl FromStr for ProjectArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((project, path)) if project.contains('/') && !path.is_empty() => {
                Ok(Self { project: project.to_owned(), repository: path.into() })
            }
            _ => Err(format!("`{text}` names no project and repository; write GROUP/NAME=PATH")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_have_a_group_and_a_repository() {
        let parsed: ProjectArgument = "me/app=/srv/app".parse().expect("the argument parses");
        assert_eq!(parsed, ProjectArgument { project: "me/app".to_owned(), repository: "/srv/app".into() });
        for wrong in ["app=/srv/app", "me/app", "me/app="] {
            assert!(wrong.parse::<ProjectArgument>().is_err(), "{wrong} was accepted");
        }
    }
}
