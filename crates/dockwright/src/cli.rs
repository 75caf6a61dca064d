//! What can be typed. Nothing is decided here: a missing flag stays `None` until `settings` has seen the file and the defaults.

mod container;
mod coordinator;
mod pipeline;
mod runner;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use container::{
    EngineCommand, EngineServeArgs, ImageCommand, ImageImportArgs, ImageListArgs, ImagePullArgs, ImageRemoveArgs, RegistryCommand,
    RegistryServeArgs,
};
pub(crate) use coordinator::{CoordinatorCommand, CoordinatorServeArgs};
pub(crate) use pipeline::{
    Delayed, Event, KeyValue, LintArgs, LintFormat, ListArgs, LspArgs, PreviewArgs, ProjectArgs, PullPolicy, RunArgs, TestArgs,
    VariablesArgs, WhyArgs,
};
pub(crate) use runner::{
    ConfigFileArg, GitlabRunner, HealthCheckArgs, InstallArgs, LogFormat, LogLevel, RegisterArgs, ResetTokenArgs, RunSingleArgs,
    RunnerArgs, RunnerCommand, RunnerLintArgs, RunnerListArgs, RunnerLogArgs, RunnerRunArgs, ServiceArg, UnregisterArgs, VerifyArgs,
};

use crate::{environment, exit_code};

/// Runs GitLab CI pipelines, with Docker inside, on a machine that has neither
///
/// Dockwright reads `.gitlab-ci.yml`, runs its jobs as GitLab would, and gives every job a Docker engine of its own: no daemon, no
/// root, no configuration. It is also an image builder, a registry and a Docker daemon.
#[derive(Debug, Parser)]
#[command(name = "dockwright", version, max_term_width = 110, disable_help_subcommand = true)]
#[command(after_help = "Start with `dockwright run` in a repository that has a .gitlab-ci.yml.")]
#[command(after_long_help = after_long_help())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn after_long_help() -> String {
    format!(
        "Examples:\n  \
         dockwright run                      Run the pipeline of the repository you are in\n  \
         dockwright run build test           Run two jobs and what they need\n  \
         dockwright lint                     Check .gitlab-ci.yml\n  \
         dockwright preview                  Show it with everything that it includes\n  \
         dockwright doctor                   Say what this machine can do, and how to mend what it cannot\n  \
         dockwright engine serve             A Docker daemon without root\n\n{}",
        exit_code::help_table()
    )
}

/// Accepted by every command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GlobalArgs {
    /// Colour the output
    #[arg(long, global = true, value_enum, value_name = "WHEN", help_heading = "Global options")]
    pub(crate) color: Option<ColorChoice>,
    /// Read settings from this file instead of the usual one
    #[arg(long, global = true, env = environment::CONFIG, hide_env_values = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// Say on standard error what dockwright itself is doing: `info`, `debug`, or `dockwright_engine=trace`
    #[arg(long, global = true, env = environment::LOG, hide_env_values = true, value_name = "FILTER", help_heading = "Global options")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    List(ListArgs),
    Lint(LintArgs),
    Lsp(LspArgs),
    Preview(PreviewArgs),
    Why(WhyArgs),
    Variables(VariablesArgs),
    Test(TestArgs),
    /// Show and change the images that all engines of this machine share
    #[command(subcommand)]
    Image(ImageCommand),
    /// Be a Docker daemon
    #[command(subcommand)]
    Engine(EngineCommand),
    /// Be an image registry
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Be the server that runners take their jobs from
    #[command(subcommand)]
    Coordinator(CoordinatorCommand),
    Runner(RunnerArgs),
    Doctor(DoctorArgs),
    Completion(CompletionArgs),
    /// Print the version and what the engine speaks
    Version(VersionArgs),
}

/// Say what this machine can do, and for each problem the command that mends it
///
/// Looks at the kernel, user namespaces, sub-ids, cgroups, the network helper, the store and the Docker programs that are installed,
/// and starts an engine with a container. Ends with 1 when something stops jobs from running, 0 when there are only remarks.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Look only at the store, and read every blob to compare it with its digest
    #[arg(long)]
    pub(crate) store: bool,
    /// Print the findings as one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    dockwright completion bash > ~/.local/share/bash-completion/completions/dockwright\n  \
    dockwright completion zsh  > ~/.zfunc/_dockwright\n  \
    dockwright completion fish > ~/.config/fish/completions/dockwright.fish")]
pub(crate) struct CompletionArgs {
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print it as one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    /// `UPDATE_EXPECT=1 cargo test -p dockwright` writes the page anew.
    #[test]
    fn the_reference_page_is_the_help_text() {
        fn describe(command: &mut clap::Command, path: &str, page: &mut String) {
            let help = command.render_long_help().to_string();
            let help: Vec<&str> = help.lines().map(str::trim_end).collect();
            page.extend(["\n## ", path, "\n\n```text\n", help.join("\n").trim_end(), "\n```\n"]);
            for inner in command.get_subcommands_mut() {
                let path = format!("{path} {}", inner.get_name());
                describe(inner, &path, page);
            }
        }
        let mut page =
            String::from("# Commands\n\nWhat `--help` prints, command by command. A test keeps this page equal to the program.\n");
        let mut command = Cli::command().term_width(100);
        command.build();
        describe(&mut command, "dockwright", &mut page);
        expect_test::expect_file![concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/commands.md")].assert_eq(&page);
    }

    #[test]
    fn every_flag_and_command_has_a_help_text() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "`{path}` has no description");
            for argument in command.get_arguments() {
                let unexplained = argument.get_help().is_none() && argument.get_id() != "shell";
                assert!(!unexplained, "`{path}` does not explain `{}`", argument.get_id());
            }
            for inner in command.get_subcommands() {
                check(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        check(&Cli::command(), "dockwright");
    }
}
