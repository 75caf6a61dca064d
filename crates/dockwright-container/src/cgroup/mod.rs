//! Control groups: version 1, version 2, or none, behind one type.
//!
//! A sandbox gets a group named `dockwright-<pid of the engine host>-<id>` in every hierarchy where one can be made; what cannot be made
//! is a warning, not an error, as an ordinary user often owns no group. Inside, the sandbox's PID 1 makes one group per container.
//! Groups outlive processes, so they are removed when the sandbox ends, and [`sweep`] removes those of engine hosts that were killed.

mod hierarchy;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use hierarchy::{Hierarchy, Version, hand_down, hierarchies};

use crate::{process::Limits, spawner::Usage};

const PREFIX: &str = "dockwright-";

/// The controllers that are used where version 1 has a hierarchy for them.
pub(crate) const V1_CONTROLLERS: [&str; 6] = ["memory", "cpu", "cpuacct", "pids", "freezer", "cpuset"];

/// How often, and with which pause, a group is tried to be removed that looks as if it had processes.
const REMOVAL_ATTEMPTS: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(2);

/// Microseconds of one scheduling period.
const PERIOD_US: u64 = 100_000;

/// One group, in every hierarchy it could be made in.
#[derive(Debug, Default)]
pub(crate) struct Group {
    directories: Vec<(Hierarchy, PathBuf)>,
}

impl Group {
    /// Makes a group below those of `parents`, which are directories of hierarchies. What fails is left out and reported.
    pub(crate) fn create(parents: &[Hierarchy], name: &str, limits: &Limits) -> (Self, Vec<String>) {
        let mut group = Self::default();
        let mut refused = Vec::new();
        for hierarchy in parents {
            match make(hierarchy, name) {
                Ok(path) => group.directories.push((hierarchy.clone(), path)),
                Err(error) => refused.push(format!("`{}` ({error})", hierarchy.directory.display())),
            }
        }
        let refused = (!refused.is_empty()).then(|| format!("no cgroup can be made in {}", refused.join(", ")));
        let warnings = refused.into_iter().chain(group.limit(limits)).collect();
        (group, warnings)
    }

    /// Returns the hierarchies that it could be made in.
    pub(crate) fn hierarchies(&self) -> Vec<Hierarchy> {
        self.directories.iter().map(|(hierarchy, _)| hierarchy.clone()).collect()
    }

    /// Sets limits; returns one warning for each that cannot be.
    pub(crate) fn limit(&self, limits: &Limits) -> Vec<String> {
        settings(limits)
            .into_iter()
            .filter_map(|setting| {
                let applied = self.directories.iter().any(|(hierarchy, path)| setting.apply(hierarchy.version, path));
                (!applied).then(|| format!("the {} limit is not applied: no cgroup for it", setting.name))
            })
            .collect()
    }

    /// Moves a process into the group, 0 being the caller.
    pub(crate) fn enter(&self, pid: u32) -> io::Result<()> {
        self.directories.iter().try_for_each(|(_, path)| fs::write(path.join("cgroup.procs"), pid.to_string()))
    }

    /// Gives the group to the sandbox's root, which may then make groups below it.
    pub(crate) fn delegate(&self, uid: u32) -> io::Result<()> {
        for (hierarchy, path) in &self.directories {
            let own = |file: &Path| std::os::unix::fs::chown(file, Some(uid), Some(uid));
            own(path)?;
            own(&path.join("cgroup.procs"))?;
            if hierarchy.version == Version::Two {
                own(&path.join("cgroup.subtree_control"))?;
                own(&path.join("cgroup.threads"))?;
            } else {
                own(&path.join("tasks"))?;
            }
        }
        Ok(())
    }

    /// Freezes or thaws; returns whether a hierarchy could do it.
    pub(crate) fn freeze(&self, frozen: bool) -> bool {
        self.directories.iter().any(|(hierarchy, path)| match hierarchy.version {
            Version::One if hierarchy.controls("freezer") => {
                fs::write(path.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" }).is_ok()
            }
            Version::One => false,
            Version::Two => fs::write(path.join("cgroup.freeze"), if frozen { "1" } else { "0" }).is_ok(),
        })
    }

    /// Returns whether the kernel killed a process of the group for want of memory.
    pub(crate) fn oom_killed(&self) -> bool {
        let count = |file: &str| {
            self.directories.iter().find_map(|(_, path)| {
                let text = fs::read_to_string(path.join(file)).ok()?;
                text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
            })
        };
        count("memory.events").or_else(|| count("memory.oom_control")).is_some_and(|kills| kills > 0)
    }

    /// Returns the processes of the group.
    pub(crate) fn processes(&self) -> Option<Vec<u32>> {
        let (_, path) = self.directories.first()?;
        let text = fs::read_to_string(path.join("cgroup.procs")).ok()?;
        Some(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Returns what the group uses.
    pub(crate) fn usage(&self) -> Usage {
        let read = |files: &[&str]| {
            let values = files.iter().flat_map(|file| self.directories.iter().map(move |(_, path)| path.join(file)));
            values.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()).next()
        };
        let stat_us = self.directories.iter().find_map(|(_, path)| {
            let text = fs::read_to_string(path.join("cpu.stat")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse::<u64>().ok())
        });
        let limit = read(&["memory.max", "memory.limit_in_bytes"]).filter(|limit| *limit < 1 << 60);
        Usage {
            cpu_ns: read(&["cpuacct.usage"]).or(stat_us.map(|us| us * 1000)).unwrap_or(0),
            memory_bytes: read(&["memory.current", "memory.usage_in_bytes"]).unwrap_or(0),
            memory_limit_bytes: limit.unwrap_or(0),
            pids: read(&["pids.current"]).unwrap_or(0),
        }
    }

    /// Removes the group and those below it. A group with processes stays; the next [`sweep`] takes it. Blocks for a moment.
    pub(crate) fn remove(&self) {
        self.directories.iter().for_each(|(_, path)| remove_tree(path));
    }
}

fn make(hierarchy: &Hierarchy, name: &str) -> io::Result<PathBuf> {
    let path = hierarchy.directory.join(name);
    fs::create_dir(&path)?;
    if hierarchy.version == Version::One && hierarchy.controls("cpuset") {
        // A new cpuset is empty and takes no process before it has processors and memory nodes.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(path.join(file), fs::read(hierarchy.directory.join(file))?)?;
        }
    }
    Ok(path)
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // Stays if a process is in it. One that has ended and was waited for may still be, for a moment: since Linux 6.18 a task leaves its
    // group only after it was switched out for the last time.
    for _ in 0..REMOVAL_ATTEMPTS {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(REMOVAL_PAUSE),
            _ => return,
        }
    }
}

/// Removes the groups of engine hosts that no longer run.
pub(crate) fn sweep() {
    for hierarchy in hierarchies() {
        for entry in fs::read_dir(&hierarchy.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                remove_tree(&entry.path());
            }
        }
    }
}

/// Returns the name of a sandbox's group.
pub(crate) fn sandbox_name(id: &str) -> String {
    format!("{PREFIX}{}-{id}", std::process::id())
}

/// A limit, as both versions write it.
struct Setting {
    name: &'static str,
    one: Vec<(&'static str, String)>,
    two: Vec<(&'static str, String)>,
}

impl Setting {
    fn apply(&self, version: Version, path: &Path) -> bool {
        let files = if version == Version::One { &self.one } else { &self.two };
        let known: Vec<_> = files.iter().filter(|(file, _)| path.join(file).exists()).collect();
        !known.is_empty() && known.iter().all(|(file, value)| fs::write(path.join(file), value).is_ok())
    }
}

fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory_bytes {
        let value = bytes.to_string();
        settings.push(Setting { name: "memory", one: vec![("memory.limit_in_bytes", value.clone())], two: vec![("memory.max", value)] });
    }
    if let Some(bytes) = limits.memory_and_swap_bytes {
        let swap = bytes.saturating_sub(limits.memory_bytes.unwrap_or(0)).to_string();
        let one = vec![("memory.memsw.limit_in_bytes", bytes.to_string())];
        settings.push(Setting { name: "swap", one, two: vec![("memory.swap.max", swap)] });
    }
    if let Some(nano) = limits.nano_cpus {
        let quota = (nano * (PERIOD_US / 1000) / 1_000_000).max(1000);
        let one = vec![("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota.to_string())];
        settings.push(Setting { name: "processor", one, two: vec![("cpu.max", format!("{quota} {PERIOD_US}"))] });
    }
    if let Some(shares) = limits.cpu_shares {
        // The conversion of runc and crun: 2..262144 onto 1..10000.
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        let one = vec![("cpu.shares", shares.to_string())];
        settings.push(Setting { name: "processor weight", one, two: vec![("cpu.weight", weight.to_string())] });
    }
    if let Some(cpus) = &limits.cpuset_cpus {
        let files = vec![("cpuset.cpus", cpus.clone())];
        settings.push(Setting { name: "cpuset", one: files.clone(), two: files });
    }
    if let Some(pids) = limits.pids {
        let files = vec![("pids.max", pids.to_string())];
        settings.push(Setting { name: "pids", one: files.clone(), two: files });
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_both_versions() {
        let limits = Limits {
            memory_bytes: Some(1 << 20),
            nano_cpus: Some(1_500_000_000),
            cpu_shares: Some(1024),
            pids: Some(7),
            ..Limits::default()
        };
        let text = |version: fn(&Setting) -> &Vec<(&'static str, String)>| {
            let settings = settings(&limits);
            settings.iter().flat_map(version).map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>().join(" ")
        };
        expect_test::expect!["memory.limit_in_bytes=1048576 cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000 cpu.shares=1024 pids.max=7"]
            .assert_eq(&text(|setting| &setting.one));
        expect_test::expect!["memory.max=1048576 cpu.max=150000 100000 cpu.weight=39 pids.max=7"].assert_eq(&text(|setting| &setting.two));
    }
}
