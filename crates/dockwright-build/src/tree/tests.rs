use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn file(permissions: u32, size: usize) -> Metadata {
    Metadata { kind: Kind::File, permissions, size: size as u64, ..Metadata::implied_directory() }
}

fn spool(files: &[(&str, &str)], links: &[(&str, &str)]) -> SpoolTree {
    let mut tree = SpoolTree::new(Path::new("/tmp")).unwrap();
    for (path, content) in files {
        tree.add(Path::new(path), file(0o644, content.len()), &mut content.as_bytes()).unwrap();
    }
    for (path, target) in links {
        let metadata = Metadata { kind: Kind::Symlink(target.into()), ..Metadata::implied_directory() };
        tree.add(Path::new(path), metadata, &mut io::empty()).unwrap();
    }
    tree
}

fn read(tree: &dyn Tree, path: &str) -> String {
    let mut text = String::new();
    tree.open(Path::new(path)).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn links_never_leave_the_tree() {
    let tree = spool(&[("a/file", "x")], &[("up", "../../../a"), ("abs", "/a/file"), ("loop", "loop"), ("a/back", "../abs")]);
    let resolved = |path: &str| resolve(&tree, Path::new(path)).map(|path| path.display().to_string());
    assert_eq!(resolved("up/file").unwrap(), "a/file");
    assert_eq!(resolved("abs").unwrap(), "a/file");
    assert_eq!(resolved("../../etc/passwd").unwrap(), "etc/passwd");
    assert_eq!(resolved("a/back").unwrap(), "a/file");
    assert_eq!(resolved("loop").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_spool_answers_like_a_directory() {
    let tree = spool(&[("b", "bb"), ("d/a", "aa"), ("d/e/f", "")], &[]);
    assert_eq!(tree.names(Path::new("")).unwrap(), ["b", "d"]);
    assert_eq!(read(&tree, "d/a"), "aa");
    let paths: Vec<String> = walk(&tree, Path::new("")).unwrap().iter().map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(paths, ["b", "d", "d/a", "d/e", "d/e/f"]);
}

#[test]
fn paths_are_replaced_linked_and_removed() {
    let mut tree = spool(&[("d/a", "old"), ("d/b", "b")], &[]);
    tree.link(Path::new("hard"), Path::new("d/b")).unwrap();
    assert_eq!(read(&tree, "hard"), "b");
    let id = |path: &str| tree.metadata(Path::new(path)).unwrap().unwrap().link_id;
    assert!(id("hard").is_some() && id("hard") == id("d/b"));
    tree.add(Path::new("d"), file(0o600, 3), &mut &b"new"[..]).unwrap();
    assert_eq!(read(&tree, "d"), "new");
    assert_eq!(tree.metadata(Path::new("d/a")).unwrap(), None);
    tree.remove(Path::new("d"));
    assert_eq!(tree.names(Path::new("")).unwrap(), ["hard"]);
    let below_a_file = tree.add(Path::new("hard/x"), file(0o644, 0), &mut io::empty());
    assert_eq!(below_a_file.unwrap_err().to_string(), "`hard/x` lies below `hard`, which is no directory");
}

#[test]
fn sums_see_what_matters() {
    let sum = |path: &str, metadata: Metadata, content: &str| {
        let mut tree = spool(&[], &[]);
        tree.add(Path::new(path), metadata, &mut content.as_bytes()).unwrap();
        tree.sum(Path::new(path)).unwrap()
    };
    let plain = sum("a", file(0o644, 1), "x");
    assert_eq!(sum("a", Metadata { modified: Modified { seconds: 5, nanos: 0 }, ..file(0o644, 1) }, "x"), plain, "a time does not matter");
    assert_eq!(sum("a", file(0o644, 99), "x"), plain, "a wrong size is mended");
    assert_ne!(sum("a", file(0o755, 1), "x"), plain);
    assert_ne!(sum("a", file(0o644, 1), "y"), plain);
    assert_ne!(sum("b", file(0o644, 1), "x"), plain);
    // Docker 20.10 wrote this one: `COPY f /` of a file with "hello\n", mode 0644.
    assert_eq!(sum("f", file(0o644, 6), "hello\n"), EXPECTED_BY_DOCKER);
}

const EXPECTED_BY_DOCKER: &str = "5697a964c9d6acb61b6bba691aff08d8c2220a01cac55de3a1ebe5d33b5dc45b";

#[test]
fn a_root_answers_like_a_spool() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    std::fs::write(dir.path().join("d/f"), "hello\n").unwrap();
    std::fs::set_permissions(dir.path().join("d/f"), std::fs::Permissions::from_mode(0o644)).unwrap();
    symlink("/etc/passwd", dir.path().join("escape")).unwrap();
    symlink("/", dir.path().join("d/root")).unwrap();
    let tree = RootTree::new(std::fs::File::open(dir.path()).unwrap());
    assert_eq!(tree.names(Path::new("")).unwrap(), ["d", "escape"]);
    assert_eq!(read(&tree, "d/root/d/f"), "hello\n");
    assert!(matches!(tree.metadata(Path::new("escape")).unwrap().unwrap().kind, Kind::Symlink(_)));
    assert_eq!(resolve(&tree, Path::new("escape")).unwrap(), Path::new("etc/passwd"));
    assert_eq!(tree.metadata(Path::new("etc/passwd")).unwrap(), None);
    let mut same = spool(&[], &[]);
    let metadata = tree.metadata(Path::new("d/f")).unwrap().unwrap();
    same.add(Path::new("d/f"), metadata, &mut &b"hello\n"[..]).unwrap();
    assert_eq!(tree.sum(Path::new("d/f")).unwrap(), same.sum(Path::new("d/f")).unwrap());
}
