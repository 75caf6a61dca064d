//! What an ordinary user needs besides the kernel: sub-ids, the programs that map them, a way out to the network.

use std::{fs, path::Path};

use super::{finding::Finding, programs::version_of};

/// Ids that one engine's containers use.
const NEEDED_SUB_IDS: u64 = 65_536;

/// The user as `/etc/subuid` may name it.
struct User {
    id: u32,
    name: Option<String>,
}

pub(super) fn check() -> Vec<Finding> {
    if rustix::process::geteuid().is_root() {
        return vec![Finding::good("user", "root: engines get id ranges of their own")];
    }
    let id = rustix::process::geteuid().as_raw();
    let user = User { id, name: name_of(id, &fs::read_to_string("/etc/passwd").unwrap_or_default()) };
    vec![
        sub_ids("sub-uids", Path::new("/etc/subuid"), &user),
        sub_ids("sub-gids", Path::new("/etc/subgid"), &user),
        id_mapper("newuidmap"),
        id_mapper("newgidmap"),
        network_helper(),
    ]
}

fn name_of(id: u32, passwd: &str) -> Option<String> {
    let entry = passwd.lines().find(|line| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(id))?;
    entry.split(':').next().map(str::to_owned)
}

fn sub_ids(check: &'static str, file: &Path, user: &User) -> Finding {
    let text = fs::read_to_string(file).unwrap_or_default();
    let count = granted(&text, user);
    if count >= NEEDED_SUB_IDS {
        return Finding::good(check, format!("{count} in {}", file.display()));
    }
    let name = user.name.clone().unwrap_or_else(|| user.id.to_string());
    let (first, last) = free_range(&text);
    Finding::problem(
        check,
        format!("{count} in {}, containers need {NEEDED_SUB_IDS}", file.display()),
        format!("sudo usermod --add-{}s {first}-{last} {name}", check.replacen("sub-", "sub", 1).trim_end_matches('s')),
    )
}

/// Entries of the file: who, first id, how many.
fn entries(text: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        Some((fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn granted(text: &str, user: &User) -> u64 {
    let id = user.id.to_string();
    entries(text).filter(|(who, ..)| *who == id || Some(*who) == user.name.as_deref()).map(|(_, _, count)| count).max().unwrap_or(0)
}

/// Returns a range that nobody has, above all that are taken.
fn free_range(text: &str) -> (u64, u64) {
    const FIRST: u64 = 100_000;
    let first = entries(text).map(|(_, first, count)| first.saturating_add(count)).fold(FIRST, u64::max);
    (first, first + NEEDED_SUB_IDS - 1)
}

fn id_mapper(program: &'static str) -> Finding {
    match find_on_path(program) {
        Some(path) => Finding::good(program, path),
        None => Finding::problem(program, "not installed; it maps the sub-ids", "sudo apt-get install uidmap"),
    }
}

fn find_on_path(program: &str) -> Option<String> {
    let path = crate::environment::read("PATH")?;
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|candidate| candidate.is_file())?;
    Some(found.display().to_string())
}

fn network_helper() -> Finding {
    const CHECK: &str = "network-helper";
    if fs::metadata("/dev/net/tun").is_err() {
        return Finding::remark(CHECK, "/dev/net/tun is missing; containers have no way out to the network", "sudo modprobe tun");
    }
    let installed = ["pasta", "slirp4netns"].into_iter().find(|program| version_of(program, &["--version"]).is_some());
    match installed {
        Some(program) => Finding::good(CHECK, program),
        None => Finding::remark(
            CHECK,
            "neither pasta nor slirp4netns is installed; containers have no way out to the network",
            "sudo apt-get install passt",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::finding::Status;

    fn ann() -> User {
        User { id: 1000, name: Some("ann".to_owned()) }
    }

    #[test]
    fn sub_ids_may_be_granted_by_name_or_number() {
        assert_eq!(granted("bob:100000:65536\nann:165536:65536\n", &ann()), 65_536);
        assert_eq!(granted("1000:165536:70000\nbroken\n", &ann()), 70_000);
        assert_eq!(granted("bob:100000:65536\n", &ann()), 0);
    }

    #[test]
    fn the_remedy_names_a_free_range() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("subuid");
        fs::write(&file, "bob:100000:65536\n").expect("file");
        let finding = sub_ids("sub-uids", &file, &ann());
        assert_eq!(finding.status, Status::Problem);
        assert_eq!(finding.remedy.as_deref(), Some("sudo usermod --add-subuids 165536-231071 ann"));
    }

    #[test]
    fn names_come_from_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(1000, passwd).as_deref(), Some("ann"));
        assert_eq!(name_of(7, passwd), None);
    }
}
