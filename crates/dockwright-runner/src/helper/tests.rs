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
        run(request, Input::Stream(&mut &*input), &mut output, &mut log)?;
        Ok((output, String::from_utf8(log).expect("text")))
    }

    fn archive(&self, paths: &[&str], exclude: &[&str]) -> (Vec<u8>, String) {
        let selection = Selection {
            directory: self.root.path().to_owned(),
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            exclude: exclude.iter().map(|&path| path.to_owned()).collect(),
            untracked: false,
        };
        self.run(&HelperRequest::Archive { selection, options: ArchiveOptions::new(Format::Zip, Level::Default) }, b"").expect("an archive")
    }

    fn extract(&self, archive: &[u8]) -> Result<(), HelperError> {
        self.run(&HelperRequest::Extract { directory: self.root.path().to_owned() }, archive).map(|_| ())
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
    let (output, _) = project
        .run(&HelperRequest::Archive { selection, options: ArchiveOptions::new(Format::Gzip, Level::Default) }, b"")
        .expect("a report");
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(output.as_slice()).read_to_string(&mut text).expect("gzip");
    assert_eq!(text, "A=1\n");
}

#[test]
fn a_broken_archive_is_an_error() {
    assert!(matches!(Project::new(&[]).extract(b"not a zip"), Err(HelperError::ReadArchive(_))));
}

fn archive_with(project: &Project, options: ArchiveOptions) -> Vec<u8> {
    let selection = Selection { directory: project.root.path().to_owned(), paths: vec!["kept".to_owned()], ..Selection::default() };
    project.run(&HelperRequest::Archive { selection, options }, b"").expect("an archive").0
}

/// Text, then noise, then text: blocks of both kinds.
fn large_content() -> Vec<u8> {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let text = |from: u32| (from..from + 300_000).flat_map(|number| format!("{number}\n").into_bytes());
    text(0).chain((0..3_000_000).map(|_| noise())).chain(text(7_000_000)).collect()
}

#[test]
fn large_files_are_cut_and_come_back() {
    let project = Project::new(&[("kept/small", "s")]);
    let content = large_content();
    fs::write(project.root.path().join("kept/large"), &content).expect("a file");
    for (format, level) in [(Format::Zip, Level::Default), (Format::Zip, Level::Fastest), (Format::TarZstd, Level::Fast)] {
        let archive = archive_with(&project, ArchiveOptions::new(format, level));
        let shrinks = archive.len() < content.len() * 4 / 5;
        assert_eq!(shrinks, level != Level::Fastest, "{format:?} {level:?}: {} bytes", archive.len());
        let to = Project::new(&[]);
        to.extract(&archive).expect("it extracts");
        assert_eq!(to.read("kept/small").as_deref(), Some("s"));
        assert!(fs::read(to.root.path().join("kept/large")).expect("the file") == content, "{format:?} {level:?}");
    }
}

#[test]
fn unzip_reads_our_archives() {
    dockwright_testing::requires!(Command("unzip"));
    let from = Project::new(&[("kept/ä ö", "umlauts"), ("kept/empty", ""), ("kept/run", "#!/bin/sh")]);
    let root = from.root.path();
    fs::write(root.join("kept/large"), large_content()).expect("a file");
    fs::set_permissions(root.join("kept/run"), fs::Permissions::from_mode(0o755)).expect("a mode");
    symlink("run", root.join("kept/link")).expect("a link");
    let to = Project::new(&[]);
    let file = to.root.path().join("a.zip");
    fs::write(&file, archive_with(&from, ArchiveOptions::new(Format::Zip, Level::Default))).expect("a file");
    let output = std::process::Command::new("unzip").arg("-q").arg(&file).current_dir(to.root.path()).output().expect("unzip runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(to.read("kept/ä ö").as_deref(), Some("umlauts"));
    assert_eq!(to.read("kept/empty").as_deref(), Some(""));
    assert!(fs::read(to.root.path().join("kept/large")).expect("the file") == large_content());
    let link = to.root.path().join("kept/link");
    assert_eq!(fs::read_link(&link).expect("a link"), Path::new("run"));
    assert_eq!(fs::metadata(link).expect("its target").permissions().mode() & 0o777, 0o755);
}

#[test]
fn an_entry_that_names_a_place_outside_is_refused() {
    let archive = archive_with(&Project::new(&[("kept/evil", "x")]), ArchiveOptions::new(Format::Zip, Level::Default));
    // Of the same length, so that nothing else changes.
    let names: [(&[u8], &[u8]); 2] = [(b"kept/evil", b"../x/evil"), (b"kept/evil", b"/tmp/evil")];
    for (from, to) in names {
        let mut changed = archive.clone();
        while let Some(at) = changed.windows(from.len()).position(|window| window == from) {
            changed[at..at + to.len()].copy_from_slice(to);
        }
        let project = Project::new(&[]);
        assert!(matches!(project.extract(&changed), Err(HelperError::Escapes { .. })), "{}", String::from_utf8_lossy(to));
    }
}

#[test]
fn what_has_not_changed_is_not_archived_again() {
    let project = Project::new(&[("kept/a", "a"), ("kept/b", "b")]);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let age = |name: &str| {
        let file = fs::File::options().write(true).open(project.root.path().join(name)).expect("a file");
        file.set_modified(old).expect("a time");
    };
    let again =
        |unless| archive_with(&project, ArchiveOptions { fingerprint: true, unless, ..ArchiveOptions::new(Format::Zip, Level::Default) });
    let fingerprint_of = |archive: &[u8]| {
        let file = project.root.path().join("archive");
        fs::write(&file, archive).expect("a file");
        fingerprint::read(&file).expect("it can be read")
    };
    assert_eq!(fingerprint_of(&again(None)), None, "files of this second may still change unnoticed");
    age("kept/a");
    age("kept/b");
    let known = fingerprint_of(&again(None));
    assert!(known.is_some());
    assert_eq!(again(known.clone()), UNCHANGED);
    fs::remove_file(project.root.path().join("kept/b")).expect("removed");
    assert_ne!(again(known.clone()), UNCHANGED, "what was deleted is noticed");
    fs::write(project.root.path().join("kept/b"), "c").expect("a file");
    assert_ne!(again(known), UNCHANGED);
}

#[test]
fn nothing_is_written_through_a_link_of_the_same_archive() {
    let outside = tempfile::tempdir().expect("a temporary directory");
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).expect("an encoder"));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "out", outside.path()).expect("a link");
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    tar.append_data(&mut header, "out/file", &b"evil"[..]).expect("a file");
    let archive = tar.into_inner().and_then(zstd::Encoder::finish).expect("an archive");
    let to = Project::new(&[]);
    let error = to.extract(&archive).expect_err("`out` cannot be both");
    assert!(matches!(error, HelperError::File { action: "replace", .. }), "{error:?}");
    assert_eq!(fs::read_dir(outside.path()).expect("it is there").count(), 0);
}
