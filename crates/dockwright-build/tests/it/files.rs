//! Where COPY and ADD put what.

use dockwright_build::request::BuildOptions;
use dockwright_testing::requires;
use expect_test::{Expect, expect};

use crate::fake::FakeEngine;

const FILES: [(&str, &str); 4] = [("a.txt", "A"), ("b.txt", "B"), ("dir/x", "X"), ("dir/sub/y", "Y")];

fn tagged() -> BuildOptions {
    BuildOptions { tags: vec!["t".to_owned()], ..BuildOptions::default() }
}

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
#[track_caller]
fn check(steps: &str, expected: Expect) {
    let engine = FakeEngine::new();
    let file = format!("FROM scratch\n{steps}");
    let files: Vec<(&str, &str)> = [("Dockerfile", file.as_str())].into_iter().chain(FILES).collect();
    engine.build(&files, tagged()).result.unwrap();
    expected.assert_eq(&engine.files("t"));
}

#[test]
fn destinations() {
    requires!(Root);
    check(
        "COPY a.txt /",
        expect![[r#"
        100644 0:0 [A] a.txt
    "#]],
    );
    check(
        "COPY a.txt /new",
        expect![[r#"
        100644 0:0 [A] new
    "#]],
    );
    check(
        "COPY a.txt /new/",
        expect![[r#"
        040755 0:0 [] new
        100644 0:0 [A] new/a.txt
    "#]],
    );
    check(
        "WORKDIR /w\nCOPY a.txt b.txt ./",
        expect![[r#"
        040755 0:0 [] w
        100644 0:0 [A] w/a.txt
        100644 0:0 [B] w/b.txt
    "#]],
    );
    check(
        "WORKDIR /w\nCOPY a.txt .",
        expect![[r#"
        040755 0:0 [] w
        100644 0:0 [A] w/a.txt
    "#]],
    );
    check(
        "COPY dir /",
        expect![[r#"
        040755 0:0 [] sub
        100644 0:0 [Y] sub/y
        100644 0:0 [X] x
    "#]],
    );
    check(
        "COPY dir/ /into",
        expect![[r#"
        040755 0:0 [] into
        040755 0:0 [] into/sub
        100644 0:0 [Y] into/sub/y
        100644 0:0 [X] into/x
    "#]],
    );
    check(
        "COPY *.txt dir/x /all/",
        expect![[r#"
        040755 0:0 [] all
        100644 0:0 [A] all/a.txt
        100644 0:0 [B] all/b.txt
        100644 0:0 [X] all/x
    "#]],
    );
    check(
        "COPY a.txt /f\nCOPY b.txt /f",
        expect![[r#"
        100644 0:0 [B] f
    "#]],
    );
}

#[test]
fn flags() {
    requires!(Root);
    check(
        "COPY --chmod=u=rwX,go= dir /d",
        expect![[r#"
        040755 0:0 [] d
        040700 0:0 [] d/sub
        100600 0:0 [Y] d/sub/y
        100600 0:0 [X] d/x
    "#]],
    );
    check(
        "COPY --chown=3:4 dir /d/e",
        expect![[r#"
        040755 3:4 [] d
        040755 3:4 [] d/e
        040755 3:4 [] d/e/sub
        100644 3:4 [Y] d/e/sub/y
        100644 3:4 [X] d/e/x
    "#]],
    );
    check(
        "COPY --exclude=sub --exclude=*.txt . /d",
        expect![[r#"
        040755 0:0 [] d
        100644 0:0 [FROM scratch|COPY --exclude=sub --exclude=*.txt . /d] d/Dockerfile
        040755 0:0 [] d/dir
        040755 0:0 [] d/dir/sub
        100644 0:0 [Y] d/dir/sub/y
        100644 0:0 [X] d/dir/x
    "#]],
    );
}

#[test]
fn owners_are_looked_up_in_the_image() {
    requires!(Root);
    let engine = FakeEngine::new();
    let file = "FROM scratch\nCOPY passwd group /etc/\nCOPY --chown=web:staff passwd /x\nCOPY --chown=web passwd /y\n";
    let files = [("Dockerfile", file), ("passwd", "web:x:33:34::/:/bin/sh\n"), ("group", "staff:x:50:\n")];
    engine.build(&files, tagged()).result.unwrap();
    let owners: Vec<String> =
        engine.files("t").lines().filter(|line| line.ends_with(['x', 'y'])).map(|line| line[7..12].to_owned()).collect();
    assert_eq!(owners, ["33:50", "33:34"]);
}

#[test]
fn add_unpacks_archives_and_fetches_urls() {
    requires!(Root);
    let mut inner = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_uid(5);
    header.set_gid(5);
    header.set_size(2);
    inner.append_data(&mut header, "in/side", &b"hi"[..]).unwrap();
    let inner = inner.into_inner().unwrap();

    let file = "FROM scratch\nADD inner.tar /tar\nADD --unpack=false inner.tar /plain/\nADD https://example.test/d/f.txt?x=1 /got/\n\
                ADD --checksum=sha256:4c4c7d5a25ec70ce6d8e5ea2b2b6b3ebbbb2b29bf09ed3b3d1e0a8d7b9c5bd43 https://example.test/d/f.txt /got/bad\n";
    let mut outer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    for (path, content) in [("Dockerfile", file.as_bytes()), ("inner.tar", &inner[..])] {
        header.set_size(content.len() as u64);
        outer.append_data(&mut header.clone(), path, content).unwrap();
    }
    let engine = FakeEngine::new();
    engine.add_url("https://example.test/d/f.txt?x=1", "fetched");
    engine.add_url("https://example.test/d/f.txt", "other");
    let outer = outer.into_inner().unwrap();
    let error = engine.build_tar(&outer, tagged()).result.unwrap_err().to_string();
    assert!(error.starts_with("checksum of https://example.test/d/f.txt: expected sha256:4c4c7d5a"), "{error}");

    let stop_before_the_bad_one = file.rsplit_once("ADD").unwrap().0;
    let mut outer = tar::Builder::new(Vec::new());
    for (path, content) in [("Dockerfile", stop_before_the_bad_one.as_bytes()), ("inner.tar", &inner[..])] {
        header.set_size(content.len() as u64);
        outer.append_data(&mut header.clone(), path, content).unwrap();
    }
    engine.build_tar(&outer.into_inner().unwrap(), tagged()).result.unwrap();
    let lines: Vec<String> = engine.files("t").lines().filter(|line| !line.contains("plain/inner.tar")).map(str::to_owned).collect();
    expect![[r#"
        040755 0:0 [] got
        100600 0:0 [fetched] got/f.txt
        040755 0:0 [] plain
        040755 0:0 [] tar
        040755 0:0 [] tar/in
        100600 5:5 [hi] tar/in/side"#]]
    .assert_eq(&lines.join("\n"));
    assert_eq!(engine.files("t").lines().count(), lines.len() + 1, "the archive itself lies in /plain");
}

#[test]
fn ignored_dockerfiles_are_not_copied() {
    requires!(Root);
    let engine = FakeEngine::new();
    let files = [("Dockerfile", "FROM scratch\nCOPY . /"), (".dockerignore", "Docker*\n"), ("x", "")];
    engine.build(&files, tagged()).result.unwrap();
    assert_eq!(engine.files("t"), "100644 0:0 [Docker*|] .dockerignore\n100644 0:0 [] x\n");
}
