use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use dockwright_testing::requires;

use super::*;
use crate::tree::SpoolTree;

fn spool() -> SpoolTree {
    SpoolTree::new(Path::new("/tmp")).unwrap()
}

fn file(permissions: u32) -> Metadata {
    Metadata { kind: Kind::File, permissions, modified: Modified { seconds: 1000, nanos: 5 }, ..Metadata::implied_directory() }
}

struct Root {
    dir: tempfile::TempDir,
    handle: File,
}

impl Root {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        Self { dir, handle }
    }

    fn write(&self, action: impl FnOnce(&mut RootWriter<'_>) -> Result<(), WriteError>) -> Result<(), WriteError> {
        let mut writer = RootWriter::new(self.handle.as_fd(), Some(Modified { seconds: 77, nanos: 0 }));
        action(&mut writer)?;
        writer.finish()
    }

    fn stat(&self, path: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.dir.path().join(path)).unwrap()
    }
}

fn put(writer: &mut RootWriter<'_>, tree: &SpoolTree, source: &str, to: &str, appearance: &Appearance) -> Result<PathBuf, WriteError> {
    let metadata = tree.metadata(Path::new(source)).unwrap().unwrap();
    writer.put(tree, Path::new(source), &metadata, Path::new(to), appearance)
}

#[test]
fn a_file_keeps_mode_and_time_and_the_directory_its_time() {
    requires!(Root);
    let (root, mut tree) = (Root::new(), spool());
    tree.add(Path::new("f"), file(0o4755), &mut &b"hi"[..]).unwrap();
    let before = root.stat("").mtime();
    root.write(|writer| put(writer, &tree, "f", "f", &Appearance::default()).map(drop)).unwrap();
    let stat = root.stat("f");
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.mtime(), stat.mtime_nsec()), (0o4755, 0, 1000, 5));
    assert_eq!(root.stat("").mtime(), before);
    // Again, with another owner and mode, over the old one.
    let appearance = Appearance { owner: Ownership::Given(Owner { uid: 5, gid: 6 }), mode: Some(ModeChange::Octal(0o600)) };
    root.write(|writer| put(writer, &tree, "f", "f", &appearance).map(drop)).unwrap();
    let stat = root.stat("f");
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o600, 5, 6));
}

#[test]
fn directories_on_the_way_are_made() {
    requires!(Root);
    let root = Root::new();
    root.write(|writer| writer.make_directories(Path::new("a/b"), &Appearance::default())).unwrap();
    assert_eq!((root.stat("a/b").mode() & 0o7777, root.stat("a/b").mtime(), root.stat("a").mtime()), (0o755, 77, 77));
    std::fs::write(root.dir.path().join("f"), "").unwrap();
    let error = root.write(|writer| writer.make_directories(Path::new("f/x"), &Appearance::default())).unwrap_err();
    assert_eq!(error.to_string(), "cannot replace file `/f` with a directory");
}

#[test]
fn links_in_the_image_stay_in_the_image() {
    requires!(Root);
    let (root, mut tree) = (Root::new(), spool());
    tree.add(Path::new("lib/x"), file(0o644), &mut &b"x"[..]).unwrap();
    std::fs::create_dir_all(root.dir.path().join("usr/lib")).unwrap();
    symlink("/usr/lib", root.dir.path().join("lib")).unwrap();
    symlink("/../../../../../../tmp", root.dir.path().join("escape")).unwrap();
    root.write(|writer| {
        let lib = put(writer, &tree, "lib", "lib", &Appearance::default())?;
        assert_eq!(lib, Path::new("usr/lib"));
        put(writer, &tree, "lib/x", "usr/lib/x", &Appearance::default())?;
        assert_eq!(writer.resolve(Path::new("escape/y"))?, Path::new("tmp/y"));
        Ok(())
    })
    .unwrap();
    assert!(root.stat("lib").is_symlink());
    assert_eq!(std::fs::read(root.dir.path().join("usr/lib/x")).unwrap(), b"x");
}

#[test]
fn hard_links_and_soft_links_stay_links() {
    requires!(Root);
    let (root, mut tree) = (Root::new(), spool());
    tree.add(Path::new("a"), file(0o644), &mut &b"x"[..]).unwrap();
    tree.link(Path::new("b"), Path::new("a")).unwrap();
    let link = Metadata { kind: Kind::Symlink("nowhere".into()), ..file(0o777) };
    tree.add(Path::new("s"), link, &mut io::empty()).unwrap();
    root.write(|writer| ["a", "b", "s"].iter().try_for_each(|name| put(writer, &tree, name, name, &Appearance::default()).map(drop)))
        .unwrap();
    assert_eq!(root.stat("a").ino(), root.stat("b").ino());
    assert_eq!(std::fs::read_link(root.dir.path().join("s")).unwrap(), Path::new("nowhere"));
}

#[test]
fn kinds_are_not_swapped() {
    requires!(Root);
    let (root, mut tree) = (Root::new(), spool());
    tree.add(Path::new("d/f"), file(0o644), &mut io::empty()).unwrap();
    std::fs::create_dir(root.dir.path().join("x")).unwrap();
    std::fs::write(root.dir.path().join("y"), "").unwrap();
    std::fs::set_permissions(root.dir.path().join("y"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let file_over = root.write(|writer| put(writer, &tree, "d/f", "x", &Appearance::default()).map(drop)).unwrap_err();
    assert_eq!(file_over.to_string(), "cannot replace directory `/x` with a file");
    let directory_over = root.write(|writer| put(writer, &tree, "d", "y", &Appearance::default()).map(drop)).unwrap_err();
    assert_eq!(directory_over.to_string(), "cannot replace file `/y` with a directory");
}

#[test]
fn scripts_come_and_go() {
    let root = Root::new();
    put_script(root.handle.as_fd(), "s", "#!/bin/sh\n").unwrap();
    assert_eq!(root.stat("s").mode() & 0o7777, 0o755);
    remove_script(root.handle.as_fd(), "s").unwrap();
    assert!(std::fs::symlink_metadata(root.dir.path().join("s")).is_err());
}
