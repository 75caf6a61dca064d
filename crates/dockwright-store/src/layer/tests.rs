//! Extraction and writing are inverse to each other, and nothing in a tar reaches outside of its layer.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
};

use dockwright_testing::requires;
use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;
use crate::{Depth, faults::fail_each_step, store::file_names};

/// Builds hostile and friendly tars entry by entry; names are written as given, which the tar crate would refuse.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", b"")
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", content.as_bytes())
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, b"")
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    fn apply(&self, tar: Tar) -> Result<PathBuf, ApplyLayerError> {
        let applied = self.store.apply_layer(tar.finish().as_slice(), LayerOrigin::Foreign)?;
        Ok(self.store.layer_dir(&applied.diff_id)?.unwrap())
    }
}

fn is_whiteout(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path).unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    tree::opacity(File::open(path).unwrap()).unwrap() == tree::Opacity::Opaque
}

#[test]
fn an_ordinary_layer_is_extracted_with_all_its_metadata() {
    requires!(Root);
    let fixture = Fixture::new();
    let tar = Tar::default()
        .dir("./")
        .dir("etc/")
        .file("etc/passwd", "root")
        .symlink("etc/link", "passwd")
        .hard_link("etc/hard", "etc/passwd")
        .file("/absolute", "below the root")
        .file("no/parents", "x");
    let root = fixture.apply(tar).unwrap();
    assert_eq!(fs::read_to_string(root.join("etc/passwd")).unwrap(), "root");
    assert_eq!(fs::read_link(root.join("etc/link")).unwrap(), Path::new("passwd"));
    assert_eq!(fs::metadata(root.join("etc/hard")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(root.join("etc")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::read_to_string(root.join("absolute")).unwrap(), "below the root");
    assert_eq!(fs::metadata(root.join("no")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn blank_numbers_are_zero() {
    requires!(Root);
    let fixture = Fixture::new();
    let mut tar = Tar::default();
    let mut header = Header::new_gnu();
    header.set_path("blank").unwrap();
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    assert!(header.uid().is_err(), "the fields are blank");
    tar.0.extend(header.as_bytes());
    let blank = fs::metadata(fixture.apply(tar).unwrap().join("blank")).unwrap();
    assert_eq!((blank.uid(), blank.gid(), blank.mtime()), (0, 0, 0));
}

#[test]
fn whiteouts_take_overlayfs_form_wherever_they_stand() {
    requires!(Root);
    let fixture = Fixture::new();
    let tar = Tar::default()
        .dir("a/")
        .file("a/.wh.gone", "")
        .dir("b/")
        .file("b/kept", "x")
        .file("b/.wh..wh..opq", "")
        .file(".wh.replaced", "")
        .dir("replaced/")
        .dir("hidden/")
        .file(".wh.hidden", "")
        .file(".wh..wh.plnk", "");
    let root = fixture.apply(tar).unwrap();
    assert!(is_whiteout(&root.join("a/gone")));
    assert!(is_opaque(&root.join("b")) && root.join("b/kept").is_file());
    assert!(is_opaque(&root.join("replaced")), "a directory after its own whiteout hides the lower one");
    assert!(is_opaque(&root.join("hidden")), "and so does one before it");
    assert_eq!(file_names(&root).unwrap(), ["a", "b", "hidden", "replaced"]);
}

#[test]
fn later_entries_replace_earlier_ones() {
    requires!(Root);
    let fixture = Fixture::new();
    let tar = Tar::default()
        .dir("d/")
        .file("d/inner", "1")
        .file("d", "now a file")
        .file("f", "file")
        .dir("f/")
        .file("f/inner", "2")
        .symlink("s", "/etc")
        .file("s", "now a file");
    let root = fixture.apply(tar).unwrap();
    assert_eq!(fs::read_to_string(root.join("d")).unwrap(), "now a file");
    assert_eq!(fs::read_to_string(root.join("f/inner")).unwrap(), "2");
    assert_eq!(fs::read_to_string(root.join("s")).unwrap(), "now a file");
}

#[test]
fn nothing_leaves_the_root() {
    requires!(Root);
    let fixture = Fixture::new();
    let outside = fixture.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let target = outside.to_str().unwrap();
    let up = format!("../../../../../..{target}");
    let cases = [
        ("dots", Tar::default().file(&format!("{up}/new"), "x")),
        ("inner dots", Tar::default().file("a/../../new", "x")),
        ("absolute", Tar::default().file(&format!("{target}/new"), "x")),
        ("absolute symlink", Tar::default().symlink("l", target).file("l/new", "x")),
        ("relative symlink", Tar::default().symlink("l", &up).file("l/new", "x")),
        ("two symlinks", Tar::default().symlink("l", &up).symlink("m", "l").file("m/new", "x")),
        ("overwriting a symlink", Tar::default().symlink("l", &format!("{target}/secret")).file("l", "x")),
        ("hard link with dots", Tar::default().hard_link("h", &format!("{up}/secret")).file("h", "x")),
        ("absolute hard link", Tar::default().hard_link("h", &format!("{target}/secret"))),
        ("hard link through a symlink", Tar::default().symlink("l", target).hard_link("h", "l/secret")),
        ("opaque marker through a symlink", Tar::default().symlink("l", target).file("l/.wh..wh..opq", "")),
        ("whiteout through a symlink", Tar::default().symlink("l", target).file("l/.wh.secret", "")),
        ("whiteout of the parent", Tar::default().dir("d/").file("d/.wh...", "")),
        ("directory over a symlink", Tar::default().symlink("l", target).dir("l/").file("l/new", "x")),
    ];
    for (case, tar) in cases {
        let outcome = fixture.apply(tar);
        if let Ok(root) = &outcome {
            assert!(!root.join("h").exists(), "{case}: a link to the outside was made");
        }
        assert_eq!(file_names(&outside).unwrap(), ["secret"], "{case}");
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret", "{case}");
        assert!(!is_opaque(&outside), "{case}");
    }
}

#[test]
fn refusals_name_the_entry() {
    requires!(Root);
    let fixture = Fixture::new();
    let check = |tar: Tar, expected: &str| {
        let error = fixture.apply(tar).err().unwrap_or_else(|| panic!("not refused: {expected}"));
        assert_eq!(error.to_string(), expected);
    };
    check(Tar::default().file("../x", ""), "entry `../x` in the layer leaves the root");
    check(Tar::default().hard_link("h", "../x"), "entry `h` in the layer leaves the root");
    check(Tar::default().hard_link("h", "x"), "entry `h` in the layer is a hard link to `x`, which is not in the layer");
    check(Tar::default().file("f", "").file("f/x", ""), "entry `f/x` in the layer lies below something that is not a directory");
    check(Tar::default().symlink("l", "nowhere").file("l/x", ""), "entry `l/x` in the layer lies below something that is not a directory");
    check(Tar::default().entry(EntryType::new(b'Z'), "z", "", b""), "entry `z` in the layer has the unknown type `Z`");
    assert!(fixture.store.apply_layer(b"no tar at all, but long enough".repeat(40).as_slice(), LayerOrigin::Foreign).is_err());
    assert_eq!(fixture.store.verify(Depth::Digests).unwrap(), []);
    assert!(file_names(&fixture.store.dir().join("layers")).unwrap().is_empty());
}

#[test]
fn foreign_layers_keep_their_bytes_and_own_ones_are_made_again() {
    requires!(Root);
    let fixture = Fixture::new();
    let store = &fixture.store;
    // GNU headers: not what we would write.
    let foreign = Tar::default().dir("d/").file("d/f", "content").finish();
    let applied = store.apply_layer(foreign.as_slice(), LayerOrigin::Foreign).unwrap();
    assert_eq!(applied.diff_id, DiffId(Digest::of(&foreign)));
    let mut again = Vec::new();
    store.copy_layer_tar(&applied.diff_id, &mut again).unwrap();
    assert_eq!(again, foreign);
    assert_eq!(store.compressed_layer(&applied.diff_id).unwrap().digest, applied.blob.unwrap());

    let dir = store.layer_dir(&applied.diff_id).unwrap().unwrap();
    let mut own = Vec::new();
    write_layer_tar(File::open(dir).unwrap().as_fd(), &LayerTarOptions::default(), &mut own).unwrap();
    let applied = store.apply_layer(own.as_slice(), LayerOrigin::Own).unwrap();
    assert_eq!((applied.blob, applied.diff_id), (None, DiffId(Digest::of(&own))));
    let first = store.compressed_layer(&applied.diff_id).unwrap();
    assert_eq!(store.compressed_layer(&applied.diff_id).unwrap(), first);
    again.clear();
    store.copy_layer_tar(&applied.diff_id, &mut again).unwrap();
    assert_eq!(again, own);
}

#[test]
fn what_the_header_cannot_hold_goes_through_extensions() {
    requires!(Root);
    let fixture = Fixture::new();
    let upper = fixture.dir.path().join("upper");
    let long = "n".repeat(120);
    fs::create_dir_all(upper.join(&long)).unwrap();
    let file = upper.join(&long).join("file");
    fs::write(&file, "x").unwrap();
    // A user namespace has no such user; there the field's own range must do.
    let user = [5_000_000, 5_000].into_iter().find(|user| std::os::unix::fs::chown(&file, Some(*user), Some(7)).is_ok()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), upper.join("symlink")).unwrap();
    let early = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: -2, tv_nsec: 750_000_000 },
        last_modification: rustix::fs::Timespec { tv_sec: -2, tv_nsec: 750_000_000 },
    };
    rustix::fs::utimensat(rustix::fs::CWD, &file, &early, rustix::fs::AtFlags::empty()).unwrap();
    rustix::fs::setxattr(&file, "user.note", b"kept\0binary", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(&upper, tree::OPAQUE, b"y", rustix::fs::XattrFlags::empty()).unwrap();
    tree::make_whiteout(File::open(&upper).unwrap(), b"gone").unwrap();

    let write = |dir: &Path| {
        let mut tar = Vec::new();
        write_layer_tar(File::open(dir).unwrap().as_fd(), &LayerTarOptions::default(), &mut tar).unwrap();
        tar
    };
    let tar = write(&upper);
    let applied = fixture.store.apply_layer(tar.as_slice(), LayerOrigin::Own).unwrap();
    assert_eq!(applied.omitted, Vec::<String>::new());
    let dir = fixture.store.layer_dir(&applied.diff_id).unwrap().unwrap();
    let metadata = fs::metadata(dir.join(&long).join("file")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.permissions().mode() & 0o7777), (user, 7, 0o4755));
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 750_000_000));
    assert!(is_opaque(&dir) && is_whiteout(&dir.join("gone")));
    assert_eq!(write(&dir), tar);
}

#[test]
fn whiteouts_by_attribute_are_written_like_devices() {
    requires!(Root);
    let dir = tempfile::tempdir().unwrap();
    tree::make_whiteout_file(File::open(dir.path()).unwrap(), b"gone").unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    let mut tar = Vec::new();
    write_layer_tar(File::open(dir.path()).unwrap().as_fd(), &LayerTarOptions::default(), &mut tar).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    let names: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(names, [Path::new("empty"), Path::new(".wh.gone")]);
}

#[test]
fn options_leave_out_paths_and_clamp_times() {
    requires!(Root);
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("etc/inner")).unwrap();
    fs::write(dir.path().join("etc/hosts"), "x").unwrap();
    let options = LayerTarOptions { exclude: vec!["etc/inner".into()], newest_mtime_secs: Some(1000) };
    let mut tar = Vec::new();
    let summary = write_layer_tar(File::open(dir.path()).unwrap().as_fd(), &options, &mut tar).unwrap();
    assert_eq!(summary, LayerTarSummary { entries: 2, content_bytes: 1 });
    let mut archive = tar::Archive::new(tar.as_slice());
    assert!(archive.entries().unwrap().all(|entry| entry.unwrap().header().mtime().unwrap() == 1000));
}

#[test]
fn a_directory_without_changes_has_no_entries() {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = Vec::new();
    let summary = write_layer_tar(File::open(dir.path()).unwrap().as_fd(), &LayerTarOptions::default(), &mut tar).unwrap();
    assert_eq!((summary.entries, tar.len()), (0, 1024));
}

#[test]
fn a_failed_step_leaves_no_layer() {
    requires!(Root);
    let fixture = Fixture::new();
    let tar = Tar::default().dir("d/").file("d/f", "content").file("d/g", "more").finish();
    let diff_id = DiffId(Digest::of(&tar));
    fail_each_step(
        &fixture.store,
        || fixture.store.apply_layer(tar.as_slice(), LayerOrigin::Foreign),
        |outcome| {
            assert_eq!(fixture.store.has_layer(&diff_id).unwrap(), outcome.is_some());
            assert_eq!(fixture.store.verify(Depth::Digests).unwrap(), []);
        },
    );
    let dir = fixture.store.layer_dir(&diff_id).unwrap().unwrap();
    assert_eq!(fs::read_to_string(dir.join("d/g")).unwrap(), "more");
}

#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, u32),
    Symlink(String),
    Dir(Vec<(String, Node)>),
    Whiteout,
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..600), 0u32..0o10000).prop_map(|(bytes, mode)| Node::File(bytes, mode)),
        "[a-z/.]{1,140}".prop_map(Node::Symlink),
        Just(Node::Whiteout),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| proptest::collection::vec(("[a-zA-Z0-9 _é]{1,12}", inner), 0..5).prop_map(Node::Dir))
}

fn build(path: &Path, node: &Node) {
    let parent = File::open(path.parent().unwrap()).unwrap();
    match node {
        Node::File(bytes, mode) => {
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        Node::Symlink(target) => std::os::unix::fs::symlink(target, path).unwrap(),
        Node::Whiteout => {
            let name: &std::ffi::OsStr = path.file_name().unwrap();
            tree::make_whiteout(parent, name.as_encoded_bytes()).unwrap();
        }
        Node::Dir(children) => {
            fs::create_dir(path).unwrap();
            for (name, child) in children {
                if !path.join(name).exists() && fs::symlink_metadata(path.join(name)).is_err() {
                    build(&path.join(name), child);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_layer_made_of_a_directory_gives_the_directory_again(children in proptest::collection::vec(("[a-z]{1,6}", node()), 0..5)) {
        if !rustix::process::geteuid().is_root() {
            dockwright_testing::skip("layer properties", "not root");
            return Ok(());
        }
        let fixture = Fixture::new();
        let upper = fixture.dir.path().join("upper");
        build(&upper, &Node::Dir(children));
        let mut tar = Vec::new();
        write_layer_tar(File::open(&upper).unwrap().as_fd(), &LayerTarOptions::default(), &mut tar).unwrap();
        let applied = fixture.store.apply_layer(tar.as_slice(), LayerOrigin::Own).unwrap();
        let dir = fixture.store.layer_dir(&applied.diff_id).unwrap().unwrap();
        let mut again = Vec::new();
        write_layer_tar(File::open(&dir).unwrap().as_fd(), &LayerTarOptions::default(), &mut again).unwrap();
        prop_assert_eq!(again, tar);
    }

    #[test]
    fn damaged_tars_are_refused_or_applied_but_never_panic(position in 0usize..3000, byte in any::<u8>()) {
        if !rustix::process::geteuid().is_root() {
            dockwright_testing::skip("layer properties", "not root");
            return Ok(());
        }
        let fixture = Fixture::new();
        let mut tar = Tar::default().dir("d/").file("d/f", "content").symlink("l", "d").finish();
        let position = position % tar.len();
        tar[position] = byte;
        let _ = fixture.store.apply_layer(tar.as_slice(), LayerOrigin::Foreign);
        prop_assert_eq!(fixture.store.verify(Depth::Digests).unwrap(), []);
    }
}
