//! Completion of job names, by the shells themselves.

use std::process::{Command, Stdio};

use dockwright_testing::requires;

use crate::common::{Project, text};

const CONFIGURATION: &str = "\
build: {script: [make]}
bundle: {script: [make], rules: [{when: never}]}
test: {script: [make], parallel: 2}
lint:go: {script: [make]}
lint:c: {script: [make]}
";

/// What bash does between a key and the words that it offers.
const BASH: &str = r#"
source "$SCRIPT"
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
COMP_POINT=${#COMP_LINE}
COMP_WORDS=("$@")
COMP_CWORD=$(( $# - 1 ))
_dockwright_or_job "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// Returns what bash offers for a line. Its words are those that readline makes of it.
fn bash(project: &Project, words: &[&str], line: &str) -> Vec<String> {
    let script = project.path("completion.bash");
    std::fs::write(&script, project.output(&["completion", "bash"]).ended_with(0).stdout).expect("a file");
    let mut command = Command::new("bash");
    command.args(["-c", BASH, "bash", env!("CARGO_BIN_EXE_dockwright")]).args(words).current_dir(project.repository());
    command.env("SCRIPT", script).env("COMP_LINE", line).env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("HOME", project.path("user")).env("DOCKWRIGHT_HOME", project.path("home")).stdin(Stdio::null());
    lines(command)
}

fn lines(mut command: Command) -> Vec<String> {
    let output = command.output().expect("the shell runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

#[test]
fn bash_completes_jobs() {
    requires!(Command("bash"));
    let project = Project::new(CONFIGURATION);
    for (words, line, expected) in [
        (vec!["run", "b"], "dockwright run b", vec!["build", "bundle"]),
        (vec!["why", "bun"], "dockwright why bun", vec!["bundle"]),
        (vec!["variables", "test"], "dockwright variables test", vec!["test", "test\\ 1/2", "test\\ 2/2"]),
        (vec!["run", "test\\ 1"], "dockwright run test\\ 1", vec!["test\\ 1/2"]),
        (vec!["run", "\"test"], "dockwright run \"test", vec!["test", "test 1/2", "test 2/2"]),
        // Bash replaces only what is after the colon.
        (vec!["run", "lint", ":", "g"], "dockwright run lint:g", vec!["go"]),
        (vec!["run", "lint", ":"], "dockwright run lint:", vec!["go", "c"]),
        (vec!["--color", "never", "run", "--event", "push", "bui"], "dockwright --color never run --event push bui", vec!["build"]),
        (vec!["run", "build", "bun"], "dockwright run build bun", vec!["bundle"]),
        // What is no job is completed as before.
        (vec!["run", "--event", "sch"], "dockwright run --event sch", vec!["schedule"]),
        (vec!["run", "--keep"], "dockwright run --keep", vec!["--keep-artifacts"]),
        (vec!["vari"], "dockwright vari", vec!["variables"]),
        (vec!["runner", "run", "bui"], "dockwright runner run bui", vec![]),
    ] {
        assert_eq!(bash(&project, &words, line), expected, "{line}");
    }
}

#[test]
fn bash_completes_jobs_of_another_directory_and_file() {
    requires!(Command("bash"));
    let project = Project::new(CONFIGURATION);
    project.write("other.yml", "beta: {script: [make]}\n");
    project.git(&["add", "-A"]);
    let directory = project.repository().display().to_string();
    let line = format!("dockwright run -C {directory} --file other.yml b");
    assert_eq!(bash(&project, &["run", "-C", &directory, "--file", "other.yml", "b"], &line), ["beta"]);
}

#[test]
fn names_are_given_though_the_configuration_is_wrong() {
    let project = Project::new("build: {script: [make], when: sometimes}\ntest: {scirpt: [make]}\n");
    assert_eq!(project.output(&["list", "--names"]).ended_with(0).stdout, "build\n");
    let project = Project::new("a: [\n");
    assert_eq!(project.output(&["list", "--names"]).ended_with(0).stdout, "");
}

/// A shell with the program on its path, as its completion scripts want it.
fn shell(project: &Project, program: &str) -> Command {
    let mut command = Command::new(program);
    let directory = std::path::Path::new(env!("CARGO_BIN_EXE_dockwright")).parent().expect("it lies somewhere");
    let path =
        std::env::join_paths(std::iter::once(directory.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").expect("PATH"))));
    command.env("PATH", path.expect("a path")).env("HOME", project.path("user")).env("DOCKWRIGHT_HOME", project.path("home"));
    command.current_dir(project.repository()).stdin(Stdio::null());
    command
}

#[test]
fn fish_completes_jobs() {
    requires!(Command("fish"));
    let project = Project::new(CONFIGURATION);
    let offered = |line: &str| {
        let mut command = shell(&project, "fish");
        command.args(["--no-config", "-c", "dockwright completion fish | source; complete -C $argv[1]", line]);
        lines(command)
    };
    assert_eq!(offered("dockwright run b"), ["build", "bundle"]);
    assert_eq!(offered("dockwright why lint:g"), ["lint:go"]);
    assert_eq!(offered("dockwright variables 'test 1"), ["test 1/2"]);
}

#[test]
fn zsh_completes_jobs() {
    requires!(Command("zsh"));
    let project = Project::new(CONFIGURATION);
    // A terminal inside of zsh. What is on the line after the tab is printed instead of run; quotes keep the echo from looking like it.
    let script = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; fpath=($PWD/functions $fpath); autoload -U compinit; compinit -u -D; echo rea""dy'
zpty -r shell text '*ready*'
zpty -w -n shell $'dockwright why bun\t\x01print g""ot \x05e""nd\n'
zpty -r shell text '*got*end*'
print -r -- ${${text##*got }%end*}
zpty -d shell
"#;
    std::fs::create_dir(project.repository().join("functions")).expect("a directory");
    project.write("functions/_dockwright", &project.output(&["completion", "zsh"]).ended_with(0).stdout);
    let mut command = shell(&project, "zsh");
    command.args(["-f", "-c", script]);
    assert_eq!(lines(command), ["dockwright why bundle"]);
}
