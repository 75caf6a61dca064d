//! What a package holds besides the program, as far as the program knows it best: the unit of the service, a first configuration, man
//! pages and completions. `scripts/package-deb` adds the rest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use clap_complete::Shell;
use dockwright_runner::config::SKELETON;

use super::{completion, runner::Unit};
use crate::{
    cli::{Cli, GitlabRunner},
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
};

/// The service, its user and the link to the program.
const RUNNER: &str = "gitlab-runner";
const PROGRAM: &str = "dockwright";

/// Where shells look for completions of packages: shell, directory, and what surrounds the command's name.
const COMPLETIONS: [(Shell, &str, &str, &str); 3] = [
    (Shell::Bash, "usr/share/bash-completion/completions", "", ""),
    (Shell::Zsh, "usr/share/zsh/vendor-completions", "_", ""),
    (Shell::Fish, "usr/share/fish/vendor_completions.d", "", ".fish"),
];

/// Writes the files below a directory as if it were `/`.
pub(super) fn write(root: &Path) -> Result<ExitCode, CommandError> {
    write_file(&root.join("usr/lib/systemd/system").join(format!("{RUNNER}.service")), service().text().as_bytes())?;
    write_file(&root.join("usr/share/dockwright/config.toml"), SKELETON.as_bytes())?;
    write_man_pages(&root.join("usr/share/man/man1"))?;
    for (shell, directory, prefix, suffix) in COMPLETIONS {
        let mut of_runner = Vec::new();
        clap_complete::generate(shell, &mut GitlabRunner::command(), RUNNER, &mut of_runner);
        for (name, script) in [(PROGRAM, completion::script(shell).into_bytes()), (RUNNER, of_runner)] {
            write_file(&root.join(directory).join(format!("{prefix}{name}{suffix}")), &script)?;
        }
    }
    Ok(ExitCode::Success)
}

/// The service of a packaged runner.
fn service() -> Unit {
    Unit {
        program: PathBuf::from("/usr/bin").join(PROGRAM),
        config: "/etc/gitlab-runner/config.toml".into(),
        working_directory: "/home/gitlab-runner".into(),
        name: RUNNER.to_owned(),
        user: Some(RUNNER.to_owned()),
    }
}

/// One page a command, and a page `gitlab-runner` that is that of `dockwright runner`.
fn write_man_pages(directory: &Path) -> Result<(), CommandError> {
    let failed = || format!("write man pages to `{}`", directory.display());
    fs::create_dir_all(directory).explain(ErrorKind::Environment, failed)?;
    clap_mangen::generate_to(Cli::command(), directory).explain(ErrorKind::Environment, failed)?;
    write_file(&directory.join(format!("{RUNNER}.1")), format!(".so man1/{PROGRAM}-runner.1\n").as_bytes())
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), CommandError> {
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, content)
    };
    write().explain(ErrorKind::Environment, || format!("write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_both_names_are_completed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        write(root.path()).expect("the files are written");
        let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        for page in ["dockwright", "dockwright-run", "dockwright-runner", "dockwright-runner-register", "gitlab-runner"] {
            let text = read(&format!("usr/share/man/man1/{page}.1"));
            assert!(text.contains(".TH ") || text == ".so man1/dockwright-runner.1\n", "{page}: {text}");
        }
        for script in [
            "usr/share/bash-completion/completions/gitlab-runner",
            "usr/share/zsh/vendor-completions/_dockwright",
            "usr/share/fish/vendor_completions.d/dockwright.fish",
        ] {
            assert!(read(script).contains("register"), "{script}");
        }
        assert!(read("usr/lib/systemd/system/gitlab-runner.service").contains("\nUser=gitlab-runner\n"));
        assert_eq!(read("usr/share/dockwright/config.toml"), SKELETON);
    }
}
