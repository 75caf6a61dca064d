//! `dockwright completion SHELL`.
//!
//! The scripts know commands and flags by themselves. Names of jobs they ask for with `dockwright list --names`; for that, each generated
//! script gets an addition of our own, because the library's way of asking a program is not stable yet.

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::Shell;

use crate::{
    cli::{Cli, CompletionArgs},
    exit_code::ExitCode,
    report::Streams,
};

const PROGRAM: &str = "dockwright";
/// How arguments are called that are names of jobs.
const JOB: &str = "JOB";

const BASH: &str = include_str!("completion/jobs.bash");
const ZSH: &str = include_str!("completion/jobs.zsh");
const FISH: &str = include_str!("completion/jobs.fish");

pub(super) fn run(arguments: &CompletionArgs, streams: Streams) -> ExitCode {
    streams.raw_data(script(arguments.shell).as_bytes());
    ExitCode::Success
}

/// Returns the script of a shell for this program.
pub(super) fn script(shell: Shell) -> String {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, PROGRAM, &mut script);
    let script = String::from_utf8(script).expect("names and help texts are UTF-8");
    command.build();
    match shell {
        Shell::Bash => bash(&script, &command),
        Shell::Zsh => zsh(&script, &command),
        Shell::Fish => fish(&script, &command),
        _ => script,
    }
}

/// Wraps the generated function: where a job is expected, the wrapper answers.
fn bash(script: &str, command: &Command) -> String {
    let jobs: Vec<&str> = job_commands(command).map(Command::get_name).collect();
    let mut valued: Vec<String> = job_commands(command).flat_map(Command::get_arguments).flat_map(option_names).collect();
    valued.sort();
    valued.dedup();
    let addition = BASH.replace("@COMMANDS@", &jobs.join("|")).replace("@VALUED@", &valued.join("|"));
    let (functions, registration) = script.split_at(script.rfind("\nif [[").unwrap_or(script.len()));
    format!("{functions}\n{addition}{}", registration.replace("complete -F _dockwright ", "complete -F _dockwright_or_job "))
}

/// Replaces what completes the arguments that are jobs.
fn zsh(script: &str, command: &Command) -> String {
    let arguments: Vec<&str> = job_commands(command).flat_map(job_arguments).map(|argument| argument.get_id().as_str()).collect();
    let is_job = |line: &str| {
        let rest = line.trim_start_matches(['\'', '*', ':']);
        arguments.iter().any(|name| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(" -- ")))
    };
    let lines = script.lines().map(|line| if is_job(line) { line.replace(":_default'", ":_dockwright_jobs'") } else { line.to_owned() });
    let (first, rest) = lines.fold((String::new(), String::new()), |(first, mut rest), line| {
        if first.is_empty() {
            return (line, rest);
        }
        rest.extend([line.as_str(), "\n"]);
        (first, rest)
    });
    // `#compdef` must stay the first line.
    format!("{first}\n\n{ZSH}{rest}")
}

fn fish(script: &str, command: &Command) -> String {
    let jobs: Vec<&str> = job_commands(command).map(Command::get_name).collect();
    format!("{script}\n{}", FISH.replace("@COMMANDS@", &jobs.join(" ")))
}

/// Returns the commands that take names of jobs.
fn job_commands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| job_arguments(command).next().is_some())
}

fn job_arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_positionals().filter(|argument| argument.get_value_names().is_some_and(|names| names.iter().any(|name| name == JOB)))
}

/// Returns how an option is written after which comes a value.
fn option_names(argument: &Arg) -> Vec<String> {
    if argument.is_positional() || !argument.get_action().takes_values() {
        return Vec::new();
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    short.into_iter().chain(argument.get_long().map(|long| format!("--{long}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_asks_for_jobs() {
        for (shell, expected) in [
            (Shell::Bash, ["complete -F _dockwright_or_job ", "run|why|variables)", "|--file|"]),
            (Shell::Zsh, ["#compdef dockwright\n", "':job -- The job:_dockwright_jobs' \\", "'*::jobs -- "]),
            (Shell::Fish, ["function __fish_dockwright_jobs", "run why variables", "(__fish_dockwright_jobs)"]),
        ] {
            let script = script(shell);
            for part in expected {
                assert!(script.contains(part), "{shell}: {part}");
            }
            assert!(!script.contains('@') || shell != Shell::Fish, "{shell}: a placeholder is left");
        }
        assert_eq!(script(Shell::Zsh).matches(":_dockwright_jobs'").count(), 3);
    }
}
