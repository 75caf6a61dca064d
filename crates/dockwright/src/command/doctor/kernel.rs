//! The kernel: its version, its switches, its cgroups.

use std::{fs, path::Path};

use super::finding::Finding;

/// Overlay mounts inside user namespaces, with `userxattr`.
const OLDEST_KERNEL: (u32, u32) = (5, 11);
/// Idmapped mounts, which root needs so that jobs share layers.
const OLDEST_KERNEL_FOR_ROOT: (u32, u32) = (5, 12);

const MAX_USER_NAMESPACES: &str = "/proc/sys/user/max_user_namespaces";
/// Debian's and Ubuntu's own switches.
const USERNS_CLONE: &str = "/proc/sys/kernel/unprivileged_userns_clone";
const APPARMOR_USERNS: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

pub(super) fn check() -> Vec<Finding> {
    let root = rustix::process::geteuid().is_root();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let switches = Switches {
        max_user_namespaces: read_number(MAX_USER_NAMESPACES),
        userns_clone: read_number(USERNS_CLONE),
        apparmor_userns: read_number(APPARMOR_USERNS),
    };
    vec![kernel_version(&release, root), user_namespaces(&switches, root), cgroups(Path::new("/sys/fs/cgroup"))]
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn kernel_version(release: &str, root: bool) -> Finding {
    let oldest = if root { OLDEST_KERNEL_FOR_ROOT } else { OLDEST_KERNEL };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    match numbers.next().zip(numbers.next()) {
        Some(version) if version < oldest => Finding::problem(
            "kernel",
            format!("Linux {release} is too old for containers without privileges"),
            format!("install Linux {}.{} or newer", oldest.0, oldest.1),
        ),
        _ => Finding::good("kernel", format!("Linux {release}")),
    }
}

/// Kernel switches about user namespaces; `None` where the kernel has no such switch.
#[derive(Default)]
struct Switches {
    max_user_namespaces: Option<u64>,
    userns_clone: Option<u64>,
    apparmor_userns: Option<u64>,
}

fn user_namespaces(switches: &Switches, root: bool) -> Finding {
    const CHECK: &str = "user-namespaces";
    let switch = |message: &str, setting: &str| {
        let remedy = format!("echo '{setting}' | sudo tee /etc/sysctl.d/60-dockwright.conf && sudo sysctl --system");
        Finding::problem(CHECK, message, remedy)
    };
    match switches {
        Switches { max_user_namespaces: None, .. } => {
            Finding::problem(CHECK, "this kernel has no user namespaces", "use a kernel built with CONFIG_USER_NS")
        }
        Switches { max_user_namespaces: Some(0), .. } => switch("switched off", "user.max_user_namespaces=15000"),
        Switches { userns_clone: Some(0), .. } if !root => switch("switched off for users", "kernel.unprivileged_userns_clone=1"),
        Switches { apparmor_userns: Some(1), .. } if !root => {
            switch("AppArmor keeps them from users", "kernel.apparmor_restrict_unprivileged_userns=0")
        }
        Switches { max_user_namespaces: Some(most), .. } => Finding::good(CHECK, format!("up to {most}")),
    }
}

fn cgroups(mount: &Path) -> Finding {
    const CHECK: &str = "cgroups";
    let no_limits = "jobs run all the same; `docker run --memory` and other limits may have no effect";
    if mount.join("cgroup.controllers").is_file() {
        return Finding::good(CHECK, "version 2");
    }
    let has_hierarchies = fs::read_dir(mount).is_ok_and(|mut entries| entries.next().is_some());
    match has_hierarchies {
        true => Finding::remark(CHECK, "version 1", no_limits),
        false => Finding::remark(CHECK, "not mounted", no_limits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::finding::Status;

    #[test]
    fn old_kernels_are_named() {
        assert_eq!(kernel_version("4.18.0-553.el8_10.x86_64", false).status, Status::Problem);
        assert_eq!(kernel_version("5.11.0", false).status, Status::Good);
        assert_eq!(kernel_version("5.11.0", true).status, Status::Problem);
        assert_eq!(kernel_version("6.1.0-18-amd64", true).status, Status::Good);
    }

    #[test]
    fn each_switch_has_its_own_remedy() {
        let on = || Switches { max_user_namespaces: Some(100), ..Switches::default() };
        let cases = [
            (Switches { max_user_namespaces: Some(0), ..on() }, "user.max_user_namespaces"),
            (Switches { userns_clone: Some(0), ..on() }, "unprivileged_userns_clone=1"),
            (Switches { apparmor_userns: Some(1), ..on() }, "apparmor_restrict_unprivileged_userns=0"),
            (Switches::default(), "CONFIG_USER_NS"),
        ];
        for (switches, remedy) in cases {
            let finding = user_namespaces(&switches, false);
            assert!(finding.remedy.as_deref().is_some_and(|text| text.contains(remedy)), "{finding:?}");
        }
        assert_eq!(user_namespaces(&on(), false).status, Status::Good);
        assert_eq!(user_namespaces(&Switches { userns_clone: Some(0), ..on() }, true).status, Status::Good);
    }

    #[test]
    fn cgroup_versions_are_told_apart() {
        let directory = tempfile::tempdir().expect("temporary directory");
        assert_eq!(cgroups(directory.path()).message, "not mounted");
        fs::create_dir(directory.path().join("memory")).expect("directory");
        assert_eq!(cgroups(directory.path()).message, "version 1");
        fs::write(directory.path().join("cgroup.controllers"), "cpu").expect("file");
        assert_eq!(cgroups(directory.path()).message, "version 2");
    }
}
