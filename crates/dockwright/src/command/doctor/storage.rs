//! Where dockwright keeps its files: room, kind of file system, and whether the store is sound.

use std::path::{Path, PathBuf};

use dockwright_store::{Depth, Store};
use rustix::fs::{Access, access, statfs, statvfs};

use super::finding::Finding;
use crate::{
    error::{CommandError, ErrorKind, Explain as _},
    paths::Paths,
    wire::host_namespace,
};

/// A base image and what a job adds to it.
const COMFORTABLE_FREE_BYTES: u64 = 5_000_000_000;

const OVERLAY_MAGIC: u64 = 0x794c_7630;
const NFS_MAGIC: u64 = 0x6969;
const FUSE_MAGIC: u64 = 0x6573_5546;

const STORE: &str = "store";

pub(super) fn check(paths: &Paths) -> Vec<Finding> {
    let place = existing_ancestor(&paths.home);
    let mut findings = vec![writable(&paths.home, &place), room(&place), file_system(&place)];
    findings.extend(store(paths, Depth::Shallow));
    findings
}

/// Reads every blob of the store.
pub(super) fn check_thoroughly(paths: &Paths) -> Vec<Finding> {
    store(paths, Depth::Digests)
}

fn existing_ancestor(path: &Path) -> PathBuf {
    path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn writable(home: &Path, place: &Path) -> Finding {
    const CHECK: &str = "home";
    match access(place, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::good(CHECK, home.display().to_string()),
        Err(error) => Finding::problem(
            CHECK,
            format!("cannot write below `{}`: {error}", place.display()),
            "export DOCKWRIGHT_HOME=$HOME/.dockwright, or another directory of yours",
        ),
    }
}

fn room(place: &Path) -> Finding {
    const CHECK: &str = "disk";
    let Ok(numbers) = statvfs(place) else {
        return Finding::remark(CHECK, format!("cannot tell the free space of `{}`", place.display()), "look at `df`");
    };
    let free_bytes = numbers.f_bavail.saturating_mul(numbers.f_frsize);
    let message = format!("{:.1} GB free", free_bytes as f64 / 1e9);
    match free_bytes >= COMFORTABLE_FREE_BYTES {
        true => Finding::good(CHECK, message),
        false => Finding::remark(CHECK, message, "make room, or set DOCKWRIGHT_HOME to a larger disk"),
    }
}

fn file_system(place: &Path) -> Finding {
    const CHECK: &str = "file-system";
    let elsewhere = "set DOCKWRIGHT_HOME to a directory on a local disk (ext4, xfs, btrfs)";
    let Ok(numbers) = statfs(place) else {
        return Finding::remark(CHECK, format!("cannot tell the file system of `{}`", place.display()), elsewhere);
    };
    let kind = match numbers.f_type.cast_unsigned() {
        OVERLAY_MAGIC => "overlay",
        NFS_MAGIC => "NFS",
        FUSE_MAGIC => "FUSE",
        _ => return Finding::good(CHECK, "fit for overlay mounts"),
    };
    Finding::problem(CHECK, format!("`{}` is on {kind}, where containers cannot write", place.display()), elsewhere)
}

fn store(paths: &Paths, depth: Depth) -> Vec<Finding> {
    let directory = paths.store();
    if !directory.is_dir() {
        return vec![Finding::good(STORE, "empty")];
    }
    match problems(&directory, depth) {
        Ok(problems) if problems.is_empty() => vec![Finding::good(STORE, "sound")],
        Ok(problems) => problems.into_iter().map(|problem| Finding::problem(STORE, problem, remove(&directory))).collect(),
        Err(error) => {
            let parts = error.parts();
            let message = std::iter::once(parts.message).chain(parts.causes).collect::<Vec<_>>().join(": ");
            vec![Finding::problem(STORE, message, parts.hint.unwrap_or_else(|| remove(&directory)))]
        }
    }
}

/// The files belong to ids that only the namespace has.
fn remove(directory: &Path) -> String {
    match rustix::process::geteuid().is_root() {
        true => format!("rm -rf {} (images are pulled again)", directory.display()),
        false => format!("unshare --map-auto --map-root-user rm -rf {} (images are pulled again)", directory.display()),
    }
}

fn problems(directory: &Path, depth: Depth) -> Result<Vec<String>, CommandError> {
    host_namespace::enter()?;
    let doing = || format!("check the store `{}`", directory.display());
    let store = Store::open(directory).explain(ErrorKind::Environment, doing)?;
    let problems = store.verify(depth).explain(ErrorKind::Environment, doing)?;
    Ok(problems.iter().map(ToString::to_string).collect())
}
