//! Who a process runs as: `user[:group]` looked up in the container's own files.
//!
//! The lookup runs inside the container's root, after it became the process's root, so no path can lead out of it. Names are matched
//! before numbers, as Docker does: a user called `1000` wins over the uid.

use std::{fs::File, io::Read as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use super::Refusal;

/// The most of a passwd or group file that is read.
const FILE_LIMIT_BYTES: u64 = 8 << 20;

/// Ids above this are refused, as Docker does.
const MAX_ID: u32 = 0x7fff_ffff;

/// Ids and home of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, sorted; the primary one is among them.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Looks a user up in the files of the root directory.
pub(crate) fn look_up(user: &str, additional_groups: &[String]) -> Result<Identity, Refusal> {
    resolve(user, additional_groups, &read(Path::new("/etc/passwd")), &read(Path::new("/etc/group")))
}

/// Missing or odd files are empty ones: images without users are ordinary.
fn read(path: &Path) -> String {
    // Not blocking: the image may have put a pipe there.
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let mut bytes = Vec::new();
    if let Ok(file) = opened
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        // A file that cannot be read to the end counts as far as it was read.
        let _ = file.take(FILE_LIMIT_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let number = |at: usize| fields.get(at)?.parse().ok();
        Some(User { name: fields[0], uid: number(2)?, gid: number(3)?, home: fields.get(5).copied().unwrap_or("") })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let gid = fields.get(2)?.parse().ok()?;
        let members = fields.get(3).map(|members| members.split(',').collect()).unwrap_or_default();
        Some(Group { name: fields[0], gid, members })
    })
}

fn resolve(user: &str, additional_groups: &[String], passwd: &str, group: &str) -> Result<Identity, Refusal> {
    let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));
    let wanted = if user_part.is_empty() { "0" } else { user_part };
    let number = id(wanted);
    let found = users(passwd).find(|user| user.name == wanted).or_else(|| users(passwd).find(|user| Some(user.uid) == number));
    let (name, uid, own_gid, home) = match (&found, number) {
        (Some(user), _) => (user.name, user.uid, user.gid, user.home),
        (None, Some(uid)) => ("", uid, 0, ""),
        (None, None) => return Err(Refusal::invalid(format!("unable to find user {wanted}: no matching entries in passwd file"))),
    };
    let gid = if group_part.is_empty() { own_gid } else { group_id(group_part, group)? };
    let mut supplementary: Vec<u32> = additional_groups.iter().map(|name| group_id(name, group)).collect::<Result<_, _>>()?;
    // A group that was named replaces the user's memberships, as with Docker.
    if group_part.is_empty() && !name.is_empty() {
        supplementary.extend(groups(group).filter(|group| group.members.contains(&name)).map(|group| group.gid));
    }
    if [uid, gid].iter().chain(&supplementary).any(|id| *id > MAX_ID) {
        return Err(Refusal::invalid(format!("uids and gids must be in range 0-{MAX_ID}")));
    }
    // Without it, giving up the primary group would get around permissions that the group is denied (CVE-2022-36109).
    supplementary.push(gid);
    supplementary.sort_unstable();
    supplementary.dedup();
    let home = if home.is_empty() { "/" } else { home };
    Ok(Identity { uid, gid, groups: supplementary, home: home.to_owned() })
}

fn group_id(wanted: &str, group: &str) -> Result<u32, Refusal> {
    let named = groups(group).find(|group| group.name == wanted).map(|group| group.gid);
    named
        .or_else(|| id(wanted))
        .ok_or_else(|| Refusal::invalid(format!("unable to find group {wanted}: no matching entries in group file")))
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/srv/app:/bin/sh\n1000:x:7:8::/seven:\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nwheel:x:10:root,app\naudio:x:29:app\n";

    fn check(user: &str, additional: &[&str], expected: &str) {
        let additional: Vec<String> = additional.iter().map(|name| (*name).to_owned()).collect();
        let text = match resolve(user, &additional, PASSWD, GROUP) {
            Ok(found) => format!("{}:{} {:?} {}", found.uid, found.gid, found.groups, found.home),
            Err(refusal) => refusal.message,
        };
        assert_eq!(text, expected, "{user}");
    }

    #[test]
    fn names_numbers_and_groups() {
        check("", &[], "0:0 [0, 10] /root");
        check("app", &[], "1000:1001 [10, 29, 1001] /srv/app");
        check("1000", &[], "7:8 [8] /seven");
        check("app:audio", &[], "1000:29 [29] /srv/app");
        check("app:5", &["wheel", "77"], "1000:5 [5, 10, 77] /srv/app");
        check("4242", &[], "4242:0 [0] /");
        check("nobody", &[], "unable to find user nobody: no matching entries in passwd file");
        check("app:nogroup", &[], "unable to find group nogroup: no matching entries in group file");
        check("4294967295", &[], "uids and gids must be in range 0-2147483647");
    }
}
