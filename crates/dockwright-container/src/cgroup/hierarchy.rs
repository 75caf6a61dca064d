//! Where the control group hierarchies are, and where in them this process is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::V1_CONTROLLERS;

/// The version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    One,
    Two,
}

/// A hierarchy and a directory in it, below which groups are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hierarchy {
    pub version: Version,
    /// Names of controllers; of version 2, all that its root offers.
    pub controllers: Vec<String>,
    pub directory: PathBuf,
}

impl Hierarchy {
    pub(crate) fn controls(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Returns the hierarchies to make sandboxes' groups in: version 1 where it has controllers we use, version 2 where it is the only one.
pub(crate) fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found = find(&mounts, &own);
    for hierarchy in found.iter_mut().filter(|hierarchy| hierarchy.version == Version::Two) {
        prepare_v2(hierarchy);
    }
    found
}

/// Version 2 gives controllers only to groups whose parent hands them down, and a group other than the root hands down nothing while it
/// has processes. So root uses the root group; who is not root uses the parent of the own group, which systemd delegates.
fn prepare_v2(hierarchy: &mut Hierarchy) {
    let is_root = rustix::process::geteuid().is_root() && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_full_map(&map));
    let directory = if is_root { mount_point(&hierarchy.directory) } else { hierarchy.directory.parent().map(Path::to_owned) };
    if let Some(directory) = directory.filter(|directory| directory.join("cgroup.controllers").exists()) {
        hierarchy.directory = directory;
    }
    let offered = fs::read_to_string(hierarchy.directory.join("cgroup.controllers")).unwrap_or_default();
    hierarchy.controllers = offered.split_whitespace().map(str::to_owned).collect();
    hand_down(hierarchy);
}

/// Lets groups below have every controller we use that can be had. Best effort: what fails shows when a limit is set.
pub(crate) fn hand_down(hierarchy: &Hierarchy) {
    for controller in hierarchy.controllers.iter().filter(|name| V1_CONTROLLERS.contains(&name.as_str())) {
        let _ = fs::write(hierarchy.directory.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn is_full_map(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Returns the topmost directory of the hierarchy that `directory` is in.
fn mount_point(directory: &Path) -> Option<PathBuf> {
    directory.ancestors().filter(|path| path.join("cgroup.procs").exists()).last().map(Path::to_owned)
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn find(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let mut seen = BTreeSet::new();
    let mut one = Vec::new();
    let mut two = None;
    for line in mounts.lines() {
        let Some(mount) = Mount::parse(line) else { continue };
        let Some(directory) = mount.directory_of(own) else { continue };
        if mount.kind == "cgroup2" {
            two.get_or_insert(Hierarchy { version: Version::Two, controllers: Vec::new(), directory });
        } else {
            let controllers: Vec<String> = mount.controllers().into_iter().map(str::to_owned).collect();
            if controllers.iter().any(|name| V1_CONTROLLERS.contains(&name.as_str())) && seen.insert(controllers.clone()) {
                one.push(Hierarchy { version: Version::One, controllers, directory });
            }
        }
    }
    // On a hybrid machine version 2 has no controller of ours, so it would only cost a directory.
    if one.is_empty() { two.into_iter().collect() } else { one }
}

struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut file_system = file_system.split(' ');
        let kind = file_system.next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?;
        Some(Self { root: mount.next()?, point: mount.next()?, kind, options: file_system.nth(1)? })
    }

    fn controllers(&self) -> Vec<&'a str> {
        self.options.split(',').filter(|option| !matches!(*option, "rw" | "ro" | "xattr" | "clone_children")).collect()
    }

    /// Returns the directory of the own group, if it is below the part of the hierarchy that is mounted.
    fn directory_of(&self, own: &str) -> Option<PathBuf> {
        let wanted = self.controllers();
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let same =
                if self.kind == "cgroup2" { controllers.is_empty() } else { controllers.split(',').any(|name| wanted.contains(&name)) };
            same.then_some(path)
        })?;
        let below = Path::new(path).strip_prefix(self.root).ok()?;
        Some(Path::new(self.point).join(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mounts: &str, own: &str, expected: expect_test::Expect) {
        let found = find(mounts, own);
        let text: Vec<String> =
            found.iter().map(|h| format!("{:?} {} {}", h.version, h.controllers.join("+"), h.directory.display())).collect();
        expected.assert_eq(&text.join("\n"));
    }

    #[test]
    fn version_one_with_an_empty_version_two_beside_it() {
        check(
            "30 25 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
             31 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             32 25 0:29 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n\
             33 25 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "4:memory:/agent/x\n2:cpu,cpuacct:/\n3:blkio:/\n0::/\n",
            expect_test::expect![[r#"
                One memory /sys/fs/cgroup/memory/agent/x
                One cpu+cpuacct /sys/fs/cgroup/cpu,cpuacct/"#]],
        );
    }

    #[test]
    fn version_two_of_a_service() {
        check(
            "30 25 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/user.slice/user-1000.slice\n",
            expect_test::expect!["Two  /sys/fs/cgroup/user.slice/user-1000.slice"],
        );
    }

    #[test]
    fn a_group_outside_what_is_mounted_is_of_no_use() {
        check(
            "30 25 0:27 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "4:memory:/docker/b\n",
            expect_test::expect![""],
        );
    }
}
