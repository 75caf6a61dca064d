//! The store of an ordinary user: owned by the root of a user namespace.
//!
//! The test runs itself again in such a namespace, with a root file system as a distribution has it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
    process::{Child, Command, Stdio},
};

use dockwright_store::{Depth, LayerOrigin, Store, layer};
use dockwright_testing::requires;

const DIR: &str = "DOCKWRIGHT_TEST_NAMESPACE_DIR";
const FIRST_ID: u32 = 300_000;
/// Revision 2, effective, CAP_NET_RAW: what `ping` has.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A layer with everything that needs privilege somewhere.
fn foreign_layer() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, name: &str, change: &dyn Fn(&mut tar::Header)| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(0);
        change(&mut header);
        header.set_path(name).unwrap();
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
    };
    add(tar::EntryType::Directory, "bin/", &|_| {});
    add(tar::EntryType::Regular, "bin/su", &|header| header.set_mode(0o4755));
    add(tar::EntryType::Regular, "owned", &|header| {
        header.set_uid(1000);
        header.set_gid(65_000);
    });
    add(tar::EntryType::Char, "null", &|header| {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    });
    add(tar::EntryType::Regular, ".wh.gone", &|_| {});
    builder.append_pax_extensions([("SCHILY.xattr.security.capability", CAPABILITY)]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("bin/ping").unwrap();
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(1);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

fn inside(dir: &Path) {
    let store = Store::open(&dir.join("store")).unwrap();
    let foreign = foreign_layer();
    let applied = store.apply_layer(foreign.as_slice(), LayerOrigin::Foreign).unwrap();
    assert_eq!(applied.omitted, ["device null (1:3)"]);
    let root = store.layer_dir(&applied.diff_id).unwrap().unwrap();
    let owned = fs::metadata(root.join("owned")).unwrap();
    assert_eq!((owned.uid(), owned.gid()), (1000, 65_000));
    assert_eq!(fs::metadata(root.join("bin/su")).unwrap().mode() & 0o7777, 0o4755);
    // The original bytes, although a device is missing from the directory.
    let mut again = Vec::new();
    store.copy_layer_tar(&applied.diff_id, &mut again).unwrap();
    assert_eq!(again, foreign);

    // A layer made of the directory has the capability in the form that means the same everywhere.
    let mut own = Vec::new();
    let options = layer::LayerTarOptions::default();
    layer::write_layer_tar(fs::File::open(&root).unwrap().as_fd(), &options, &mut own).unwrap();
    assert!(own.windows(CAPABILITY.len()).any(|window| window == CAPABILITY));
    let applied = store.apply_layer(own.as_slice(), LayerOrigin::Own).unwrap();
    assert_eq!(applied.omitted, Vec::<String>::new());
    store.compressed_layer(&applied.diff_id).unwrap();
    assert_eq!(store.verify(Depth::Digests).unwrap(), []);
}

#[test]
fn layers_as_root_of_a_user_namespace() {
    requires!(Root, UserNamespace);
    if let Some(dir) = std::env::var_os(DIR) {
        return inside(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(FIRST_ID), Some(FIRST_ID)).unwrap();
    // Where the ordinary user of the namespace can read it.
    let program = dir.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let namespace = Namespace::new();
    let status = Command::new("nsenter")
        .args(["--user", "--setuid=0", "--setgid=0", "--target", &namespace.holder.id().to_string()])
        .arg(&program)
        .args(["--exact", "user_namespace::layers_as_root_of_a_user_namespace", "--nocapture"])
        .env(DIR, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}

/// A user namespace with 65,536 ids, as `newuidmap` makes it for an ordinary user; alive as long as its holder.
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "sh", "-c", "echo ready; read _"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", holder.id()), format!("0 {FIRST_ID} 65536")).unwrap();
        }
        Self { holder }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The holder ends when its pipe is closed, which `wait` does.
        let _ = self.holder.wait();
    }
}
