//! `--chown`: names and numbers, looked up in the image's own files.

use std::{
    io::{self, Read},
    path::Path,
};

use crate::tree::{Tree, resolve};

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Why a `--chown` value means nothing here.
#[derive(Debug, thiserror::Error)]
pub enum FindOwnerError {
    #[error("unable to convert uid/gid chown string to host mapping: can't find uid for user {0}: no such user: {0}")]
    NoUser(String),
    #[error("unable to convert uid/gid chown string to host mapping: can't find gid for group {0}: no such group: {0}")]
    NoGroup(String),
    #[error("invalid chown string: `{0}`")]
    Malformed(String),
    #[error("read `{file}` of the image")]
    Read {
        file: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Owner {
    /// Whether the value can be understood without the image.
    pub fn is_numeric(text: &str) -> bool {
        text.split(':').all(|part| part.parse::<u32>().is_ok())
    }

    /// Looks up `user[:group]`. A user alone takes the group of the same number or name, as Docker's classic builder has it, and failing
    /// that the user's own group.
    pub fn find(text: &str, root: &dyn Tree) -> Result<Self, FindOwnerError> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        if user.is_empty() || group.is_some_and(|group| group.is_empty() || group.contains(':')) {
            return Err(FindOwnerError::Malformed(text.to_owned()));
        }
        let (uid, own_gid) = match user.parse() {
            Ok(uid) => (uid, uid),
            Err(_) => {
                let fields = find_line(root, "etc/passwd", user)?.ok_or_else(|| FindOwnerError::NoUser(user.to_owned()))?;
                let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
                number(2).zip(number(3)).ok_or_else(|| FindOwnerError::NoUser(user.to_owned()))?
            }
        };
        let gid = match (group, user.parse()) {
            (None, Ok(gid)) => gid,
            (None, Err(_)) => find_group(root, user)?.unwrap_or(own_gid),
            (Some(group), _) => match group.parse() {
                Ok(gid) => gid,
                Err(_) => find_group(root, group)?.ok_or_else(|| FindOwnerError::NoGroup(group.to_owned()))?,
            },
        };
        Ok(Self { uid, gid })
    }
}

fn find_group(root: &dyn Tree, name: &str) -> Result<Option<u32>, FindOwnerError> {
    let fields = find_line(root, "etc/group", name)?;
    Ok(fields.and_then(|fields| fields.get(2)?.parse().ok()))
}

/// Finds the line of a name and returns its fields.
fn find_line(root: &dyn Tree, file: &'static str, name: &str) -> Result<Option<Vec<String>>, FindOwnerError> {
    const MAX_FILE_BYTES: u64 = 4 << 20;
    let failed = |source| FindOwnerError::Read { file, source };
    let path = resolve(root, Path::new(file)).map_err(failed)?;
    if root.metadata(&path).map_err(failed)?.is_none() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    root.open(&path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    Ok(text.lines().map(fields).find(|fields| fields[0] == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Kind, Metadata, SpoolTree};

    #[test]
    fn names_and_numbers() {
        let mut root = SpoolTree::new(Path::new("/tmp")).unwrap();
        let files =
            [("etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:\nbad:x\nbin:x:1:1::/:\n"), ("etc/group", "staff:x:50:\nbin:x:2:\n")];
        for (path, text) in files {
            let metadata = Metadata { kind: Kind::File, ..Metadata::implied_directory() };
            root.add(Path::new(path), metadata, &mut text.as_bytes()).unwrap();
        }
        let find = |text: &str| Owner::find(text, &root).map(|owner| (owner.uid, owner.gid)).map_err(|error| error.to_string());
        assert_eq!(find("web"), Ok((33, 34)));
        assert_eq!(find("web:staff"), Ok((33, 50)));
        assert_eq!(find("bin"), Ok((1, 2)));
        assert_eq!(find("7"), Ok((7, 7)));
        assert_eq!(find("7:8"), Ok((7, 8)));
        assert!(find("nobody").unwrap_err().ends_with("can't find uid for user nobody: no such user: nobody"));
        assert!(find("0:none").unwrap_err().ends_with("no such group: none"));
        assert!(find("bad").is_err() && find("").is_err() && find(":x").is_err() && find("a:").is_err());
    }
}
