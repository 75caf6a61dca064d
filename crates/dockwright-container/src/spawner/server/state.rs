//! What PID 1 knows about containers and processes.

use std::{collections::HashMap, fs, os::fd::OwnedFd};

use rustix::process::Pid;

use crate::{cgroup::Group, process::NamespaceMode, sys};

/// A container whose first process was cloned and not reaped.
pub(super) struct Container {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub group: Group,
    /// Whether it has a pid namespace of its own, whose end ends everything in it.
    pub own_pids: bool,
}

impl Container {
    pub(super) fn new(pid: Pid, pidfd: OwnedFd, group: Group, pids: &NamespaceMode) -> Self {
        Self { pid, pidfd, group, own_pids: *pids == NamespaceMode::Private }
    }

    /// Clears up after its first process ended.
    fn end(&self) {
        if !self.own_pids {
            for pid in self.group.processes().unwrap_or_default() {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    // Gone already is as good.
                    let _ = sys::kill(pid, libc::SIGKILL);
                }
            }
        }
        self.group.remove();
    }
}

/// Why a child exists.
pub(super) enum Member {
    /// The first process of a container.
    First { container: String },
    /// A process that joined a container.
    Joined { id: String, container: String },
    /// A task for a request.
    Task,
}

impl Member {
    /// Returns the id under which its end is reported, if it is.
    pub(super) fn reported_id(&self) -> Option<String> {
        match self {
            Self::First { container } => Some(container.clone()),
            Self::Joined { id, .. } => Some(id.clone()),
            Self::Task => None,
        }
    }

    pub(super) fn oom_killed(&self, containers: &HashMap<String, Container>) -> bool {
        match self {
            Self::First { container } => containers.get(container).is_some_and(|container| container.group.oom_killed()),
            Self::Joined { .. } | Self::Task => false,
        }
    }

    /// Removes what it stood for.
    pub(super) fn forget(&self, containers: &mut HashMap<String, Container>) {
        if let Self::First { container } = self
            && let Some(container) = containers.remove(container)
        {
            container.end();
        }
    }
}

/// One line of `/proc/<pid>/stat`, as far as it is used.
pub(super) struct Stat {
    pub parent: u32,
    pub terminal: u32,
    pub cpu_ticks: u64,
    pub started_ticks: u64,
}

impl Stat {
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may hold anything, parentheses included.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let small = |at: usize| fields.get(at)?.parse::<i64>().ok()?.try_into().ok();
        Some(Self { parent: small(1)?, terminal: small(4).unwrap_or(0), cpu_ticks: number(11)? + number(12)?, started_ticks: number(19)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses() {
        let text = "7 (a) R 1 (b) S 3 7 7 34816 7 4194560 1 0 0 0 5 6 0 0 20 0 1 0 12345 1 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.parent, stat.terminal, stat.cpu_ticks, stat.started_ticks), (3, 34816, 11, 12345));
        assert!(Stat::parse("7 no name").is_none());
    }
}
