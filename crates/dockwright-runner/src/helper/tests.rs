use std::os::unix::fs::symlink;

use super::*;

struct Project {
    root: tempfile::TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
            fs::write(path, content).expect("a file");
        }
        Self { root }
    }

    fn run(&self, request: &HelperRequest, input: &[u8]) -> Result<(Vec<u8>, String), HelperError> {
        let (mut output, mut log) = (Vec::new(), Vec::new());
        run(request, &mut &*input, &mut output, &mut log)?;
        Ok((output, String::from_utf8(log).expect("text")))
    }

    fn archive(&self, paths: &[&str], exclude: &[&str]) -> (Vec<u8>, String) {
        let selection = Selection {
            directory: self.root.path().to_owned(),
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            exclude: exclude.iter().map(|&path| path.to_owned()).collect(),
            untracked: false,
        };
        self.run(&HelperRequest::Archive { selection, format: ArtifactFormat::Zip }, b"").expect("an archive")
    }

    fn extract(&self, archive: &[u8]) -> Result<(), HelperError> {
        self.run(&HelperRequest::ExtractZip { directory: self.root.path().to_owned() }, archive).map(|_| ())
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.path().join(path)).ok()
    }
}

#[test]
fn what_is_archived_comes_back() {
    let from = Project::new(&[("dist/a.txt", "a"), ("dist/sub/b.sh", "b"), ("dist/skip.log", "x"), ("other", "o")]);
    let script = from.root.path().join("dist/sub/b.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
    symlink("a.txt", from.root.path().join("dist/link")).expect("a link");
    let (archive, log) = from.archive(&["dist/", "missing/*.txt", "../outside"], &["**/*.log"]);
    assert!(log.contains("dist/: found 6 matching artifact files and directories"), "{log}");
    assert!(log.contains("missing/*.txt: no matching files"), "{log}");
    assert!(log.contains("../outside: artifact path is not a subpath"), "{log}");
    assert!(log.contains("**/*.log: excluded 1 files"), "{log}");

    let to = Project::new(&[("dist/a.txt", "old")]);
    to.extract(&archive).expect("it extracts");
    assert_eq!(to.read("dist/a.txt").as_deref(), Some("a"));
    assert_eq!(to.read("dist/link").as_deref(), Some("a"));
    assert_eq!(to.read("dist/skip.log"), None);
    assert_eq!(to.read("other"), None);
    let mode = fs::metadata(to.root.path().join("dist/sub/b.sh")).expect("the script").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn nothing_selected_is_nothing_written() {
    let (archive, _) = Project::new(&[("a", "a")]).archive(&["b"], &[]);
    assert!(archive.is_empty());
}

#[test]
fn links_do_not_lead_out() {
    let outside = tempfile::tempdir().expect("a temporary directory");
    let from = Project::new(&[("out/file", "evil")]);
    let (archive, _) = from.archive(&["out/file"], &[]);
    let to = Project::new(&[]);
    symlink(outside.path(), to.root.path().join("out")).expect("a link");
    assert!(matches!(to.extract(&archive), Err(HelperError::Escapes { .. })));
    assert!(!outside.path().join("file").exists());
}

#[test]
fn a_link_in_the_place_of_a_file_is_replaced() {
    let outside = tempfile::tempdir().expect("a temporary directory");
    let victim = outside.path().join("victim");
    fs::write(&victim, "precious").expect("a file");
    let (archive, _) = Project::new(&[("file", "new")]).archive(&["file"], &[]);
    let to = Project::new(&[]);
    symlink(&victim, to.root.path().join("file")).expect("a link");
    to.extract(&archive).expect("it extracts");
    assert_eq!(to.read("file").as_deref(), Some("new"));
    assert_eq!(fs::read_to_string(victim).expect("still there"), "precious");
}

#[test]
fn sources_are_writable_for_everybody() {
    let sources = Project::new(&[("run.sh", "#!/bin/sh"), ("dir/file", "x")]);
    fs::set_permissions(sources.root.path().join("run.sh"), fs::Permissions::from_mode(0o700)).expect("a mode");
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all("", sources.root.path()).expect("a tar");
    let archive = builder.into_inner().expect("a tar");
    let to = Project::new(&[]);
    let directory = to.root.path().join("builds/group/project");
    to.run(&HelperRequest::ExtractTar { directory: directory.clone() }, &archive).expect("it extracts");
    let mode = |path: &str| fs::metadata(directory.join(path)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!([mode("run.sh"), mode("dir"), mode("dir/file"), mode("")], [0o777, 0o777, 0o666, 0o777]);
}

#[test]
fn reports_are_compressed_alone() {
    let project = Project::new(&[("build.env", "A=1\n")]);
    let selection = Selection { directory: project.root.path().to_owned(), paths: vec!["build.env".to_owned()], ..Selection::default() };
    let (output, _) = project.run(&HelperRequest::Archive { selection, format: ArtifactFormat::Gzip }, b"").expect("a report");
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(output.as_slice()).read_to_string(&mut text).expect("gzip");
    assert_eq!(text, "A=1\n");
}

#[test]
fn a_broken_archive_is_an_error() {
    assert!(matches!(Project::new(&[]).extract(b"not a zip"), Err(HelperError::ReadArchive(_))));
}
