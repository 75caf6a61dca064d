//! Development only: what tests of several crates share.
//!
//! A test says what it needs with [`requires!`]; where the machine lacks it, the test ends early, says so on standard error, and appends
//! a line to the file named by `DOCKWRIGHT_SKIP_LOG`, which the test command prints and counts at the end. A green run is then never
//! mistaken for a complete one.

mod fault;

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

pub use self::fault::{FaultRow, documented_fault, documented_faults};

/// Something a test needs from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// The test runs as root.
    Root,
    /// A new user namespace can be made.
    UserNamespace,
    /// A Docker command line client is installed; the first one on PATH is used.
    DockerCli,
    /// A command of this name is on PATH.
    Command(&'static str),
}

impl Requirement {
    /// Returns why the machine lacks it, or `None` when it is there.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "not root".to_owned()),
            Self::UserNamespace => {
                let made = Command::new("unshare").args(["--user", "true"]).status().is_ok_and(|status| status.success());
                (!made).then(|| "user namespaces are not available".to_owned())
            }
            Self::DockerCli => Self::Command("docker").missing(),
            Self::Command(name) => find_command(name).is_none().then(|| format!("`{name}` is not installed")),
        }
    }
}

/// Returns the path of a command on PATH.
pub fn find_command(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

/// Reports a skipped test on standard error and in the skip log.
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED: {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(log) = std::env::var_os("DOCKWRIGHT_SKIP_LOG") {
        append(Path::new(&log), &line);
    }
}

fn append(log: &Path, line: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(log).expect("the skip log can be written");
    file.write_all(line.as_bytes()).expect("the skip log can be written");
}

/// Ends the calling test early, aloud, when the machine lacks a requirement: `requires!(Root, Command("runc"))`.
#[macro_export]
macro_rules! requires {
    ($($requirement:ident $(($argument:expr))?),+ $(,)?) => {
        $(
            if let Some(reason) = $crate::Requirement::$requirement$(($argument))?.missing() {
                let test = std::thread::current().name().unwrap_or(module_path!()).to_owned();
                $crate::skip(&test, &reason);
                return;
            }
        )+
    };
}
