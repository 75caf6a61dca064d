//! A repository and a home of its own for each test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

pub(crate) struct Project {
    directory: TempDir,
}

impl Project {
    /// Makes a repository whose only commit holds this configuration.
    pub(crate) fn new(configuration: &str) -> Self {
        let project = Self::without_commit();
        project.write(".gitlab-ci.yml", configuration);
        project.git(&["add", "-A"]);
        project.git(&["commit", "-q", "-m", "first"]);
        project
    }

    /// Makes an empty repository.
    pub(crate) fn without_commit() -> Self {
        let project = Self { directory: tempfile::tempdir().expect("temporary directory") };
        for name in ["repo", "home", "user"] {
            fs::create_dir(project.directory.path().join(name)).expect("directory");
        }
        project.git(&["init", "-q", "-b", "main"]);
        project
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.directory.path().join("repo")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.repository().join(name), content).expect("file");
    }

    pub(crate) fn git(&self, arguments: &[&str]) {
        let mut command = self.command(Path::new("git"));
        command.args(["-c", "user.name=Ann", "-c", "user.email=ann@example.invalid"]).args(arguments);
        let output = command.output().expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", text(&output.stderr));
    }

    /// `dockwright` in the repository, with nothing of the caller's environment.
    pub(crate) fn dockwright(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_dockwright")));
        command.args(arguments);
        command
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("PATH"))
            .env("HOME", self.path("user"))
            .env("DOCKWRIGHT_HOME", self.path("home"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .current_dir(self.repository())
            .stdin(Stdio::null());
        command
    }

    /// Runs `dockwright` to its end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Printed {
        Printed::of(self.dockwright(arguments).output().expect("dockwright runs"))
    }
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Printed {
    pub(crate) fn of(output: Output) -> Self {
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Asserts the exit code, and shows what was printed if it is another.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
