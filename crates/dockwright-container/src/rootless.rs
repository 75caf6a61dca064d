//! Working as an ordinary user: the engine host's own user namespace.
//!
//! [`enter_host_namespace`] is called first thing in a process, before any thread. Root stays where it is. Anybody else moves into a
//! user namespace in which the user is root and the ids given to the user in `/etc/subuid` and `/etc/subgid` are 1, 2, 3, …; from there
//! on the engine host works as root does. Mapping more than the own id takes the set-uid programs `newuidmap` and `newgidmap`, which must
//! run in the parent namespace, so a child forked before does that:
//!
//! ```text
//! engine host                        child, in the parent namespace
//!   fork ─────────────────────────►
//!   unshare(user, mount)
//!   ── "unshared" ────────────────►  newuidmap, newgidmap
//!   ◄──────────────────── exit 0 ──
//!   setuid(0)
//! ```

use std::{fs, io, os::fd::AsFd as _, process::Command};

use rustix::{
    mount::{MountPropagationFlags, mount_change},
    process::{WaitId, WaitIdOptions, getgid, getpid, getuid, waitid},
    thread::UnshareFlags,
};

use crate::{
    sandbox::{RANGE_IDS, become_root},
    sys::{self, Fork},
};

/// Entering the namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The user has no subordinate ids.
    #[error("user `{user}` has no range of {RANGE_IDS} ids in `{file}`")]
    NoRange {
        /// The user's name, or number where there is none.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
    },
    /// The programs that write the id maps are missing.
    #[error("`{program}` is not installed")]
    NoProgram {
        /// `newuidmap` or `newgidmap`.
        program: &'static str,
    },
    /// They refused.
    #[error("`{program}` refused to map the ids: {message}")]
    Refused {
        /// `newuidmap` or `newgidmap`.
        program: &'static str,
        /// What it printed.
        message: String,
    },
    /// The kernel does not let this user make user namespaces.
    #[error("make a user namespace")]
    NoNamespace(#[source] io::Error),
    /// Anything else.
    #[error("{step}")]
    System {
        /// What was being done.
        step: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

impl EnterError {
    /// Returns what to do about it: a command where there is one.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NoRange { user, .. } => Some(format!(
                "run `sudo usermod --add-subuids 100000-{0} --add-subgids 100000-{0} {user}` (any free range of {RANGE_IDS} ids will do)",
                100_000 + RANGE_IDS - 1
            )),
            Self::NoProgram { .. } => Some("run `sudo apt-get install uidmap` (other systems: the package with `newuidmap`)".to_owned()),
            Self::NoNamespace(_) => Some(
                "run `sudo sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000`; on Ubuntu also \
                 `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`; in a container, start it with `--security-opt seccomp=unconfined`"
                    .to_owned(),
            ),
            Self::Refused { .. } => Some("check that `newuidmap` and `newgidmap` are set-uid root".to_owned()),
            Self::System { .. } => None,
        }
    }
}

/// Makes this process, which must have one thread, root of a namespace in which it can make sandboxes. Does nothing for root.
pub fn enter_host_namespace() -> Result<(), EnterError> {
    if getuid().is_root() {
        return Ok(());
    }
    let user = user_name();
    let uids = range(&user, "/etc/subuid")?;
    let gids = range(&user, "/etc/subgid")?;
    let (uid, gid, pid) = (getuid().as_raw(), getgid().as_raw(), getpid().as_raw_nonzero());
    let system = |step| move |source| EnterError::System { step, source };
    let (unshared, unsharing) = io::pipe().map_err(system("make a pipe"))?;
    let (complaint, complaining) = io::pipe().map_err(system("make a pipe"))?;
    // SAFETY: the caller's process has one thread.
    match unsafe { sys::fork(0) }.map_err(system("fork"))? {
        Fork::Child => {
            drop((unsharing, complaint));
            // Ends when the parent has unshared, or is gone; then the programs fail.
            let _ = rustix::io::read(&unshared, &mut [0_u8; 1]);
            let mapped = map("newuidmap", pid, uid, uids).and_then(|()| map("newgidmap", pid, gid, gids));
            sys::exit_now(match mapped {
                Ok(()) => 0,
                Err((program, message)) => {
                    let _ = rustix::io::write(&complaining, format!("{program}\n{message}").as_bytes());
                    1
                }
            })
        }
        Fork::Parent(_, child) => {
            drop((unshared, complaining));
            let moved = sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS);
            drop(unsharing);
            let complained = io::read_to_string(complaint).map_err(system("read from the mapping process"))?;
            let status = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED);
            moved.map_err(|errno| EnterError::NoNamespace(errno.into()))?;
            let mapped = status.is_ok_and(|status| status.is_some_and(|status| status.exit_status() == Some(0)));
            if !mapped {
                return Err(refusal(&complained));
            }
        }
    }
    become_root().map_err(|errno| system("become root of the namespace")(errno.into()))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| system("make mounts private")(errno.into()))
}

/// Tells whether this process is root of the host, or at least of the namespace that its user namespace is the first of, rather than
/// root of a namespace that [`enter_host_namespace`] made.
pub fn is_host_root() -> bool {
    getuid().is_root() && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| owns_many(&map))
}

/// Ranges of ids for sandboxes need room beyond the first 65,536.
fn owns_many(map: &str) -> bool {
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    counts.sum::<u64>() >= 1 << 24
}

fn refusal(complained: &str) -> EnterError {
    let (program, message) = complained.split_once('\n').unwrap_or((complained, ""));
    let program = if program == "newgidmap" { "newgidmap" } else { "newuidmap" };
    if message == NOT_FOUND {
        return EnterError::NoProgram { program };
    }
    EnterError::Refused { program, message: message.trim().to_owned() }
}

const NOT_FOUND: &str = "not found";

fn map(program: &'static str, pid: impl ToString, own: u32, first: u32) -> Result<(), (&'static str, String)> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).args(["0", &own.to_string(), "1", "1", &first.to_string(), &RANGE_IDS.to_string()]);
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err((program, String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err((program, NOT_FOUND.to_owned())),
        Err(error) => Err((program, error.to_string())),
    }
}

/// The user's name by the password file; tools that keep users elsewhere put numbers into the range files too.
fn user_name() -> String {
    let uid = getuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

fn range(user: &str, file: &'static str) -> Result<u32, EnterError> {
    let text = fs::read_to_string(file).unwrap_or_default();
    find_range(&text, user, getuid().as_raw()).ok_or_else(|| EnterError::NoRange { user: user.to_owned(), file })
}

/// Returns the first id of the user's first range that is large enough.
fn find_range(text: &str, user: &str, uid: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse::<u32>().ok()?);
        ((owner == user || owner.parse() == Ok(uid)) && count >= RANGE_IDS).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_name_and_number() {
        let text = "# comment\nother:1:65536\nme:5:10\nme:100000:65536\n1000:300000:70000\n";
        assert_eq!(find_range(text, "me", 1), Some(100_000));
        assert_eq!(find_range(text, "nobody", 1000), Some(300_000));
        assert_eq!(find_range(text, "nobody", 2), None);
    }

    #[test]
    fn what_the_programs_say_becomes_the_error() {
        let absent = refusal("newgidmap\nnot found");
        assert!(matches!(absent, EnterError::NoProgram { program: "newgidmap" }));
        assert_eq!(
            refusal("newuidmap\nuid range [1-2) -> [3-4) not allowed\n").to_string(),
            "`newuidmap` refused to map the ids: uid range [1-2) -> [3-4) not allowed"
        );
    }
}
