//! The same as an ordinary user.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

use dockwright_testing::requires;

use crate::harness::{make_busybox_root, probe};

/// A user made for one test, with sub-ids; removed with its home at the end.
struct User {
    name: String,
    home: tempfile::TempDir,
}

impl User {
    fn create(name: &str, sub_ids: bool) -> Self {
        let name = format!("dw{name}{}", std::process::id());
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new("useradd");
        command.args(["--no-create-home", "--home-dir"]).arg(home.path());
        if !sub_ids {
            command.args(["-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0"]);
        }
        assert!(command.arg(&name).status().unwrap().success(), "useradd");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(probe(), home.path().join("probe")).unwrap();
        make_busybox_root(&home.path().join("root"));
        assert!(Command::new("chown").args(["-R", &name]).arg(home.path()).status().unwrap().success());
        Self { name, home }
    }

    fn run(&self, script: &str) -> Output {
        let root = self.home.path().join("root");
        let probe = self.home.path().join("probe");
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &self.name, "--regid", &self.name, "--clear-groups", "--"]);
        command.arg(probe).arg("run").arg(root).args(["/bin/sh", "-c", script]).env("TMPDIR", self.home.path());
        command.output().unwrap()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // A user that stays behind does no harm to another run: names hold the process's id.
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

#[test]
fn a_container_runs_as_an_ordinary_user() {
    requires!(Root, UserNamespace, Command("useradd"), Command("setpriv"), Command("newuidmap"));
    let user = User::create("a", true);
    let output =
        user.run("id -u; wc -l < /proc/self/uid_map; grep Seccomp: /proc/self/status; echo $$; touch /made && chown 5:6 /made; exit 4");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), text.as_str()), (Some(4), "0\n2\nSeccomp:\t2\n1\n"), "{errors}");
    assert!(user.home.path().join("root/made").exists());
}

#[test]
fn missing_sub_ids_are_explained_with_the_command_that_adds_them() {
    requires!(Root, UserNamespace, Command("useradd"), Command("setpriv"));
    let user = User::create("b", false);
    let output = user.run("true");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let name = &user.name;
    assert!(errors.contains(&format!("user `{name}` has no range of 65536 ids in `/etc/subuid`")), "{errors}");
    assert!(errors.contains(&format!("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}")), "{errors}");
}
