//! The shell scripts that run a job's commands.
//!
//! A script is fed to a shell's standard input. It sets the shell up, and evaluates the body as one quoted word in a subshell whose
//! input is `/dev/null`, so that a command which reads its input cannot eat the rest of the script. Words are quoted with single
//! quotes, which every shell reads alike; GitLab's runner uses `$'…'`, which dash does not know.

use dockwright_job::Variable;

use crate::variables::JobVariables;

/// Which part of a job a script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptKind {
    Step,
    AfterScript,
    /// There may be no project directory yet.
    BeforeSources,
    BehindSources,
}

/// What a script needs to know of its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScriptContext<'a> {
    pub(crate) variables: &'a JobVariables,
    pub(crate) project_dir: &'a str,
    /// File variables and `GITLAB_ENV` live here.
    pub(crate) temp_dir: &'a str,
}

/// Writes the script that runs `commands`, as they stand in the job's payload.
pub(crate) fn user_script(context: ScriptContext<'_>, kind: ScriptKind, commands: &[String]) -> String {
    let mut body = exports(context);
    if kind != ScriptKind::BeforeSources {
        body.push_str("cd ");
        body.push_str(&quote(context.project_dir));
        body.push('\n');
    }
    if kind == ScriptKind::AfterScript {
        body.push_str(&notice("Running after script..."));
    }
    for command in commands {
        append_command(&mut body, command);
    }
    let xtrace = context.variables.is_true("CI_DEBUG_TRACE") == Some(true);
    envelope(&body, xtrace)
}

/// Writes the script of a phase that is not the user's: commands with the job's variables.
pub(crate) fn phase_script(context: ScriptContext<'_>, commands: &str) -> String {
    let xtrace = context.variables.is_true("CI_DEBUG_TRACE") == Some(true);
    envelope(&(exports(context) + commands), xtrace)
}

/// Writes a script of commands that need nothing of the job, nor leave anything of it.
pub(crate) fn helper_script(commands: &str) -> String {
    envelope(commands, false)
}

fn append_command(body: &mut String, command: &str) {
    let command = command.trim();
    let mut lines = command.lines();
    match (lines.next(), lines.next()) {
        (None, _) => {
            body.push_str("echo\n");
            return;
        }
        (Some(only), None) => body.push_str(&notice(&format!("$ {only}"))),
        (Some(first), Some(_)) => body.push_str(&notice(&format!("$ {first} # collapsed multi-line command"))),
    }
    body.push_str(command);
    body.push('\n');
}

/// A green line in the trace, printed by the script itself so that it stands in order with the commands' output.
pub(crate) fn notice(text: &str) -> String {
    format!("printf '%s\\n' {}\n", quote(&format!("\x1b[32;1m{text}\x1b[0;m")))
}

fn envelope(body: &str, xtrace: bool) -> String {
    let mut script = String::from("#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\n");
    if xtrace {
        script.push_str("set -o xtrace\n");
    }
    // dash has no pipefail; asking in a subshell keeps it from ending the script.
    script.push_str("if (set -o pipefail) 2> /dev/null; then set -o pipefail; fi\nset -o errexit\nset +o noclobber\n");
    let body = quote(body);
    script + &format!("(trap 'exit 1' TERM; eval {body}) < /dev/null\nexit 0\n")
}

fn exports(context: ScriptContext<'_>) -> String {
    let temp_dir = context.temp_dir;
    let mut out = String::new();
    for variable in context.variables.iter().filter(|variable| is_name(&variable.key)) {
        out.push_str(&export(variable, temp_dir));
    }
    let env_file = quote(&format!("{temp_dir}/gitlab_runner_env"));
    let temp_dir = quote(temp_dir);
    let env_exports = format!(
        "mkdir -p {temp_dir}\nexport GITLAB_ENV={env_file}\ntouch {env_file}\n\
         while IFS= read -r dockwright_line || [ -n \"$dockwright_line\" ]; do\n\
         if [ -n \"$dockwright_line\" ]; then export \"$dockwright_line\"; fi\ndone < {env_file}\nunset dockwright_line\n"
    );
    out.push_str(&env_exports);
    out
}

fn export(variable: &Variable, temp_dir: &str) -> String {
    let key = &variable.key;
    if !variable.file {
        return format!("export {key}={}\n", quote(&variable.value));
    }
    let path = quote(&format!("{temp_dir}/{key}"));
    let (directory, value) = (quote(temp_dir), quote(&variable.value));
    format!("mkdir -p {directory}\nprintf '%s' {value} > {path}\nexport {key}={path}\n")
}

/// A shell would refuse to export anything else, and stop.
fn is_name(key: &str) -> bool {
    !key.is_empty() && !key.starts_with(|c: char| c.is_ascii_digit()) && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Quotes a word for any POSIX shell. NUL cannot be in a word and is left out.
pub(crate) fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ",-./@_".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use proptest::prelude::*;

    use super::*;

    /// Runs a script in the shells of this machine and returns its status and output.
    fn run(shell: &str, script: &str) -> (Option<i32>, Vec<u8>) {
        let mut child =
            Command::new(shell).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell starts");
        child.stdin.take().expect("stdin is piped").write_all(script.as_bytes()).expect("the shell reads its script");
        let output = child.wait_with_output().expect("the shell ends");
        (output.status.code(), output.stdout)
    }

    fn script(variables: Vec<Variable>, commands: &[&str]) -> (tempfile::TempDir, String) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let project_dir = root.path().to_str().expect("a UTF-8 path");
        let variables = JobVariables::new(variables);
        let temp_dir = format!("{project_dir}/p.tmp");
        let context = ScriptContext { variables: &variables, project_dir, temp_dir: &temp_dir };
        let commands: Vec<String> = commands.iter().map(|&command| command.to_owned()).collect();
        let text = user_script(context, ScriptKind::Step, &commands);
        (root, text)
    }

    fn variable(key: &str, value: &str) -> Variable {
        Variable { key: key.to_owned(), value: value.to_owned(), ..Variable::default() }
    }

    const SHELLS: [&str; 2] = ["bash", "sh"];

    #[test]
    fn commands_are_announced_and_run_in_order() {
        for shell in SHELLS {
            let (_root, text) = script(vec![variable("A", "it's")], &["echo \"$A\"", "", "if true\nthen echo multi\nfi"]);
            let (status, output) = run(shell, &text);
            assert_eq!(status, Some(0), "{shell}");
            assert_eq!(
                String::from_utf8_lossy(&output),
                "\u{1b}[32;1m$ echo \"$A\"\u{1b}[0;m\nit's\n\n\u{1b}[32;1m$ if true # collapsed multi-line command\u{1b}[0;m\nmulti\n",
                "{shell}"
            );
        }
    }

    #[test]
    fn the_first_failure_ends_the_script_with_its_status() {
        for shell in SHELLS {
            let (_root, text) = script(vec![], &["(exit 42)", "echo unreachable"]);
            let (status, output) = run(shell, &text);
            assert_eq!(status, Some(42), "{shell}");
            assert!(!String::from_utf8_lossy(&output).contains("\nunreachable"), "{shell}");
        }
        let (_root, text) = script(vec![], &["false | true"]);
        assert_eq!(run("bash", &text).0, Some(1));
    }

    #[test]
    fn commands_do_not_read_the_script() {
        let (_root, text) = script(vec![], &["cat", "echo after"]);
        let (status, output) = run("bash", &text);
        assert_eq!(status, Some(0));
        assert!(String::from_utf8_lossy(&output).ends_with("after\n"));
    }

    #[test]
    fn file_variables_and_gitlab_env() {
        let key = Variable { file: true, ..variable("KEY", "line 1\nline 2") };
        let (_root, text) = script(vec![key], &["cat \"$KEY\"", "echo B=from env file >> \"$GITLAB_ENV\""]);
        let (status, output) = run("bash", &text);
        assert_eq!(status, Some(0));
        assert!(String::from_utf8_lossy(&output).contains("line 1\nline 2"));
        let again = text.replace("cat ", "echo \"B is $B\"; cat ");
        assert!(String::from_utf8_lossy(&run("bash", &again).1).contains("B is from env file"));
    }

    #[test]
    fn names_that_no_shell_takes_are_left_out() {
        let (_root, text) = script(vec![variable("a-b", "1"), variable("1A", "1"), variable("", "1")], &["echo fine"]);
        assert_eq!(run("bash", &text).0, Some(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Any value arrives in the script's environment byte by byte.
        #[test]
        fn values_survive_quoting(value in "[^\0]{0,40}") {
            for shell in SHELLS {
                let (_root, text) = script(vec![variable("V", &value)], &["printf %s \"$V\""]);
                let (status, output) = run(shell, &text);
                prop_assert_eq!(status, Some(0));
                let expected = format!("\u{1b}[32;1m$ printf %s \"$V\"\u{1b}[0;m\n{value}");
                prop_assert_eq!(String::from_utf8_lossy(&output), expected);
            }
        }
    }
}
