//! The Debian package and the container image, made from this program. The package: installed in a root file system of its own, used, upgraded,
//! removed.

mod image;

use std::process::{Command, Output};

use dockwright_testing::{requires, skip};
use expect_test::expect;

/// The script's exit code where the machine cannot make a root file system.
const NO_ROOT: i32 = 77;

#[test]
fn the_package_is_installed_runs_a_job_and_goes() {
    requires!(Root, Command("dpkg-deb"), Command("useradd"), Command("newuidmap"), Command("deb-systemd-helper"), DockerCli);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut build = Command::new("scripts/package-deb");
    build.current_dir(top).arg(directory.path()).arg(env!("CARGO_BIN_EXE_dockwright")).env("COMPRESSION", "none");
    let package = succeeded(&build.output().expect("bash runs"));
    let place = directory.path().join("machine");
    std::fs::create_dir(&place).expect("a directory");
    let mut install = Command::new("unshare");
    install.args(["--mount", "--pid", "--fork", "--kill-child", "bash"]);
    install.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/package/install.sh")).arg(place).arg(package.trim());
    let output = install.output().expect("unshare runs");
    if output.status.code() == Some(NO_ROOT) {
        return skip("the_package_is_installed_runs_a_job_and_goes", "an overlay of the root file system cannot be mounted");
    }
    let found = succeeded(&output);
    let runner = found.split("builds/").nth(1).and_then(|rest| rest.split('/').next()).expect("a runner's short token");
    expect![[r##"
        # Installed
        700 gitlab-runner:gitlab-runner /etc/gitlab-runner
        600 gitlab-runner:gitlab-runner /etc/gitlab-runner/config.toml
        700 gitlab-runner:gitlab-runner /home/gitlab-runner
        755 root:root /var/lib/dockwright
        755 root:root /usr/bin/dockwright
        644 root:root /usr/lib/systemd/system/gitlab-runner.service
        gitlab-runner:Dockwright runner:/home/gitlab-runner:/bin/bash
        /etc/subuid 65536
        /etc/subgid 65536
        /usr/lib/systemd/system/gitlab-runner.service
        ConfigFile=/etc/gitlab-runner/config.toml
        # Registered and run
        600 gitlab-runner:gitlab-runner /etc/gitlab-runner/config.toml
        job: "status":"success"
         01O job of gitlab-runner in /home/gitlab-runner/builds/[token]/0/group/app
         01O engine for linux
        # Upgraded
        configuration and account are kept
        the service runs on
        job: "status":"success"
         01O job of gitlab-runner in /home/gitlab-runner/builds/[token]/0/group/app
         01O engine for linux
        # Removed
        600 gitlab-runner:gitlab-runner /etc/gitlab-runner/config.toml
        # Purged
        no files
        no account
        no sub-ids
        no unit
    "##]]
    .assert_eq(&found.replace(runner, "[token]"));
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}
