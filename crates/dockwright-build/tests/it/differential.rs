//! The same Dockerfiles built by us and by the machine's dockerd (classic builder): configuration, history and files must agree. Once with
//! the solver alone, on an engine of temporary directories, and once with the whole engine, where the binary was built before.
//!
//! What differs on purpose is taken out first: `Image` and the host name fields of the configuration, `docker_version`, `container` and
//! `container_config`. Texts of history entries hold the sums of copied files, so those are compared too, except for `COPY --from`, where
//! dockerd adds the names that its host has for the files' owners. Set-user-id bits are not tried: dockerd loses them.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use dockwright_build::{ignore::IgnorePatterns, request::BuildOptions};
use dockwright_testing::requires;
use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, SavedImage, describe},
    fake::FakeEngine,
};

/// Builds, one after the other: name of the result, Dockerfile, further flags.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "base",
        r#"FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY passwd group /etc/
WORKDIR /tmp
CMD ["sh"]
"#,
        &[],
    ),
    (
        "run-forms",
        r#"FROM base
RUN echo "shell  $0" > /a && \
    # a comment in between
    echo b \
      c >> /a
RUN ["sh", "-c", "echo exec > /b"]
SHELL ["/bin/sh", "-e", "-c"]
RUN false || echo alive > /c
RUN true
"#,
        &[],
    ),
    (
        "arguments",
        r#"ARG FIRST=base
FROM $FIRST
ARG FIRST
ARG given
ARG default="with blanks"
ARG none
ENV default=environment
RUN echo "$FIRST $given $default ${none:-nothing} $HTTP_PROXY" > /out
ARG late=1
RUN echo $late
LABEL given=$given
"#,
        &["--build-arg", "given=request", "--build-arg", "HTTP_PROXY=http://proxy", "--build-arg", "late=2"],
    ),
    (
        "expansion",
        r##"FROM base
ENV a=1 b="two words" c=three\ words d='$a'
ENV e=$a f="${b}" g=${none:-default} h=${a:+set} i=${none:+set} j=\$a
ENV old  style value with $a
ENV a=2 k=$a
LABEL "quoted key"="v $a" multi="one" \
      line='two'
EXPOSE $a ${none:-81}/udp
USER ${none:-5:6}
VOLUME /$a "/${k}"
STOPSIGNAL ${none:-SIGUSR1}
"##,
        &[],
    ),
    (
        "workdirs",
        r#"FROM base
ENV sub=x/y
WORKDIR rel
WORKDIR $sub
WORKDIR ../z
WORKDIR /bin
RUN pwd > /where
WORKDIR /
"#,
        &[],
    ),
    (
        "copies",
        r#"FROM base
COPY a.txt /
COPY a.txt /renamed
COPY a.txt /new/dir/
COPY dir /d
COPY dir/ /d/again/
COPY *.txt dir/x /many/
COPY ["with blank", "/blank file"]
COPY a.txt b.txt ./
COPY run.sh /bin/
COPY . /everything/
"#,
        &[],
    ),
    (
        "owners",
        r#"FROM base
COPY --chown=5:6 a.txt /n
COPY --chown=web dir /d
COPY --chown=web:staff a.txt /made/here/f
COPY --chown=7 a.txt /s
USER 5:6
COPY a.txt /still-root
WORKDIR /made-by-user
"#,
        &[],
    ),
    (
        "links",
        r#"FROM base
RUN mkdir -p /real/dir && ln -s real /alias && ln -s /real/dir /real/absolute && ln -s /nowhere/file /dangling
COPY a.txt /alias/
COPY a.txt /real/absolute/b
COPY link-to-a /followed
COPY link-to-dir /followed-dir
COPY dir-with-link /kept
"#,
        &[],
    ),
    (
        "archives",
        r#"FROM base
ADD archive.tar /t
ADD archive.tar.gz /gz/
ADD archive.tar.xz /xz
ADD archive.tar.bz2 /bz2
ADD a.txt /plain/
COPY archive.tar.gz /packed/
"#,
        &[],
    ),
    (
        "stages",
        r#"FROM base AS one
RUN mkdir /out && echo 1 > /out/f && chown 5:6 /out/f && chmod 600 /out/f
FROM base AS Two
COPY --from=one /out /out
RUN echo 2 >> /out/f
FROM base
COPY --from=0 /out/f /from-number
COPY --from=two /out /from-name
COPY --from=base /etc/passwd /from-image
COPY --from=one --chown=8:9 /out /owned
COPY --from=one /out/* /wild/
"#,
        &[],
    ),
    ("target", "FROM base AS first\nENV a=1\nFROM base AS second\nRUN false\n", &["--target", "FIRST"]),
    (
        "metadata",
        r#"FROM base
MAINTAINER somebody <some@body>
EXPOSE 80 443/UDP 9000-9001 127.0.0.1:81:82
HEALTHCHECK --interval=5m --timeout=1.5s --start-period=100ms --retries=3 CMD curl "x"
LABEL a="b c" d=e
ENV x="1 2" y=3
VOLUME /v /w
SHELL ["/bin/sh", "-c"]
CMD echo hi
ENTRYPOINT ["a", "b \"c\"", "é"]
STOPSIGNAL 9
USER 1:2
ARG foo=1
"#,
        &["--label", "z=last", "--label", "b=first"],
    ),
    ("no-health", "FROM metadata\nHEALTHCHECK NONE\nENTRYPOINT []\nENV x=changed\nLABEL a=changed\n", &[]),
    ("exec-health", "FROM base\nHEALTHCHECK --interval=1h CMD [\"a\", \"b\"]\nCMD []\n", &[]),
    ("entrypoint", "FROM metadata\nENTRYPOINT top\n", &[]),
    ("entrypoint-and-command", "FROM metadata\nCMD [\"x\"]\nENTRYPOINT [\"top\"]\n", &[]),
    (
        "with-triggers",
        "FROM base\nONBUILD ENV trigger=1\nONBUILD COPY a.txt /triggered\nONBUILD RUN echo $trigger > /ran\nONBUILD LABEL a=\"b\"\n",
        &[],
    ),
    ("triggered", "FROM with-triggers\nENV child=$trigger\n", &[]),
    (
        "removals",
        r#"FROM base
RUN mkdir -p /r/s && echo x > /r/s/f && echo y > /r/g
RUN rm -r /r/s && chmod 4755 /r/g && ln /r/g /r/hard && ln -s g /r/soft
RUN rm -r /r && mkdir /r && echo new > /r/n
"#,
        &[],
    ),
    ("windows-escape", "# escape=`\nFROM base\nENV path=c:\\x`\n\\y\nRUN echo 'back\\slash' `\n  && true > /f\n", &[]),
    ("same-base", "FROM base\n", &[]),
];

/// Builds that need real containers.
const ENGINE_CASES: &[(&str, &str, &[&str])] = &[
    (
        "volumes",
        r#"FROM base
RUN mkdir /v && echo kept > /v/before
VOLUME /v /unmade
RUN echo lost > /v/after && echo lost > /unmade/x && echo kept > /beside
COPY a.txt /v/copied
"#,
        &[],
    ),
    (
        "users",
        r#"FROM base
RUN chmod 1777 /tmp
USER web
RUN id -u > /tmp/uid; id -g > /tmp/gid; touch /tmp/owned; echo $HOME > /tmp/home
USER 5:6
RUN id > /tmp/id
"#,
        &[],
    ),
    (
        "nothing-changes",
        "FROM base\nRUN true\nRUN cat /etc/hosts /etc/resolv.conf > /dev/null\nRUN touch /dev/shm/x /proc/self/comm || true\n",
        &[],
    ),
    ("from-nothing", "FROM scratch\nCOPY busybox /busybox\nRUN [\"/busybox\", \"true\"]\nRUN [\"/busybox\", \"touch\", \"/x\"]\n", &[]),
];

/// Dockerfiles that both refuse with the same words.
const REFUSED: &[&str] = &[
    "FROM base\nRUN exit 3\n",
    "FROM base\nRUN [\"sh\", \"-c\", \"exit 4\"]\n",
    "FROM base\nCOPY missing /\n",
    "FROM base\nCOPY no* /\n",
    "FROM base\nCOPY --from=base /missing /\n",
    "FROM base\nFOO bar\n",
    "RUN x\n",
    "FROM base\nENV a\n",
    "FROM base\nCMD [1]\n",
    "FROM base\nSTOPSIGNAL SIGFOO\n",
    "FROM base\nONBUILD ONBUILD RUN x\n",
    "FROM base\nONBUILD FROM x\n",
    "FROM base\nENV a=${\n",
    "# escape=x\nFROM base\n",
    "FROM $nothing\n",
    "FROM a b\n",
    "FROM scratch\n",
];

#[test]
fn dockerd_agrees() {
    requires!(Root, Command("dockerd"), DockerCli, Command("busybox"), Command("unshare"), Command("xz"), Command("bzip2"));
    let context = make_context();
    let (dockerd, engine) = (Daemon::dockerd(), FakeEngine::new());
    let mut differences = String::new();
    for (name, file, flags) in CASES {
        let theirs = build_there(&dockerd, context.path(), file, &[*flags, &["--tag", name]].concat());
        assert!(theirs.is_ok(), "{name}: dockerd refused: {theirs:?}");
        if let Err(error) = build_here(&engine, context.path(), file, name, flags) {
            differences += &["== ", name, ": refused here: ", &error, "\n"].concat();
            continue;
        }
        let ours = serde_json::to_value(engine.config(name)).unwrap();
        compare_images(&mut differences, name, &dockerd.save(name), &ours, &files_here(&engine, name));
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn dockerd_refuses_with_the_same_words() {
    requires!(Root, Command("dockerd"), DockerCli, Command("busybox"), Command("unshare"), Command("xz"), Command("bzip2"));
    let context = make_context();
    let (dockerd, engine) = (Daemon::dockerd(), FakeEngine::new());
    let (name, base, _) = CASES[0];
    build_there(&dockerd, context.path(), base, &["--tag", name]).unwrap();
    build_here(&engine, context.path(), base, name, &[]).unwrap();
    let mut differences = String::new();
    for file in REFUSED {
        let theirs = build_there(&dockerd, context.path(), file, &[]).expect_err("dockerd refuses");
        let ours = build_here(&engine, context.path(), file, "refused", &[]).expect_err("refused here");
        compare(&mut differences, file, "message", without_place(&theirs), without_place(&ours));
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn the_whole_engine_agrees_with_dockerd() {
    requires!(Root, Command("dockerd"), DockerCli, Command("busybox"), Command("xz"), Command("bzip2"));
    let Some(program) = built_binary() else {
        return dockwright_testing::skip("the_whole_engine_agrees_with_dockerd", "the binary is not built: `cargo build -p dockwright`");
    };
    let context = make_context();
    let (dockerd, dockwright) = (Daemon::dockerd(), Daemon::dockwright(&program));
    let mut differences = String::new();
    for (name, file, flags) in CASES.iter().chain(ENGINE_CASES) {
        let flags = [*flags, &["--tag", name]].concat();
        build_there(&dockerd, context.path(), file, &flags).unwrap_or_else(|error| panic!("{name}: dockerd refused: {error}"));
        if let Err(error) = build_there(&dockwright, context.path(), file, &flags) {
            differences += &["== ", name, ": refused here: ", &error, "\n"].concat();
            continue;
        }
        let ours = dockwright.save(name);
        compare_images(&mut differences, name, &dockerd.save(name), &ours.config, &lines(&ours));
    }
    assert!(differences.is_empty(), "{differences}");
}

/// The binary beside the tests, as `cargo build` leaves it.
pub(crate) fn built_binary() -> Option<PathBuf> {
    let tests = std::env::current_exe().ok()?;
    Some(tests.parent()?.parent()?.join("dockwright")).filter(|path| path.exists())
}

fn lines(image: &SavedImage) -> String {
    image.files.iter().map(|(path, text)| format!("{text} {}\n", path.display())).collect()
}

fn compare_images(differences: &mut String, name: &str, theirs: &SavedImage, our_config: &Value, our_files: &str) {
    let summary = |config| if name == "stages" { without_sums(&summary(config)) } else { summary(config) };
    compare(differences, name, "configuration", &summary(&theirs.config), &summary(our_config));
    compare(differences, name, "files", &lines(theirs), our_files);
}

/// dockerd names the line of some mistakes only.
fn without_place(message: &str) -> &str {
    let message = message.strip_prefix("failed to parse Dockerfile.case: ").unwrap_or(message);
    let rest = message.strip_prefix("dockerfile parse error line ").and_then(|rest| rest.split_once(": "));
    rest.map_or(message, |(_, message)| message)
}

fn compare(differences: &mut String, name: &str, what: &str, theirs: &str, ours: &str) {
    let (their_lines, our_lines): (Vec<&str>, Vec<&str>) = (theirs.lines().collect(), ours.lines().collect());
    let lost = their_lines.iter().filter(|line| !our_lines.contains(line)).map(|line| format!("  dockerd: {line}\n"));
    let added = our_lines.iter().filter(|line| !their_lines.contains(line)).map(|line| format!("  ours:    {line}\n"));
    let text: String = lost.chain(added).collect();
    if !text.is_empty() {
        *differences += &["== ", name, ": ", what, "\n", &text].concat();
    } else if their_lines != our_lines {
        *differences += &["== ", name, ": ", what, " in another order\n"].concat();
    }
}

/// What both must say of an image, one fact a line.
fn summary(config: &Value) -> String {
    const NOT_COMPARED: [&str; 8] =
        ["Image", "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "ArgsEscaped", "StdinOnce"];
    let mut lines = Vec::new();
    for (key, value) in config["config"].as_object().unwrap() {
        let empty = matches!(value, Value::Null | Value::Bool(false)) || *value == json!({}) || *value == json!("") || *value == json!([]);
        if !NOT_COMPARED.contains(&key.as_str()) && !empty {
            lines.push(format!("{key} = {value}"));
        }
    }
    lines.sort();
    for key in ["architecture", "os", "author"] {
        lines.push(format!("{key} = {}", config.get(key).unwrap_or(&Value::Null)));
    }
    for entry in config["history"].as_array().unwrap() {
        let layer = if entry["empty_layer"] == json!(true) { "-" } else { "+" };
        lines.push(format!("{layer} {} {}", entry["created_by"], entry["author"]));
    }
    lines.push(format!("layers = {}", config["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len)));
    lines.join("\n")
}

fn without_sums(text: &str) -> String {
    let sum = regex::Regex::new("(file|dir):[0-9a-f]{64}").unwrap();
    sum.replace_all(text, "$1").into_owned()
}

fn build_there(daemon: &Daemon, context: &Path, file: &str, flags: &[&str]) -> Result<(), String> {
    fs::write(context.join("Dockerfile.case"), file).unwrap();
    let path = context.join("Dockerfile.case").display().to_string();
    let context = context.display().to_string();
    let output = daemon.docker(&[&["build", "--network=none", "--file", &path][..], flags, &[&context]].concat());
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    let said = |line: &&str| !line.starts_with("DEPRECATED") && !line.starts_with("hint:") && !line.trim().is_empty();
    let message = error.lines().rfind(said).unwrap_or_default();
    Err(message.strip_prefix("Error response from daemon: ").unwrap_or(message).to_owned())
}

fn build_here(engine: &FakeEngine, context: &Path, file: &str, name: &str, flags: &[&str]) -> Result<(), String> {
    fs::write(context.join("Dockerfile.case"), file).unwrap();
    let mut options = BuildOptions { dockerfile: "Dockerfile.case".to_owned(), tags: vec![name.to_owned()], ..BuildOptions::default() };
    for flag in flags.chunks(2) {
        let (key, value) = flag[1].split_once('=').unwrap_or((flag[1], ""));
        match flag[0] {
            "--build-arg" => drop(options.build_args.insert(key.to_owned(), Some(value.to_owned()))),
            "--label" => drop(options.labels.insert(key.to_owned(), value.to_owned())),
            "--target" => options.target = Some(flag[1].to_owned()),
            other => panic!("flag {other}"),
        }
    }
    engine.build_tar(&pack(context), options).result.map(drop).map_err(|error| error.to_string())
}

/// Sends what Docker's client sends: all that is not ignored, and the two files that always are sent.
fn pack(context: &Path) -> Vec<u8> {
    let ignore = IgnorePatterns::parse(&fs::read_to_string(context.join(".dockerignore")).unwrap()).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        let mut names: Vec<_> = fs::read_dir(context.join(&directory)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let path = directory.join(name);
            let always = path == Path::new(".dockerignore") || path == Path::new("Dockerfile.case");
            if context.join(&path).is_dir() && !context.join(&path).is_symlink() {
                pending.push(path.clone());
            }
            if always || !ignore.excludes(&path) {
                builder.append_path_with_name(context.join(&path), &path).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn files_here(engine: &FakeEngine, name: &str) -> String {
    let root = engine.merge(&engine.config(name).rootfs.diff_ids);
    let mut paths = Vec::new();
    let mut pending = vec![root.path().to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                pending.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    let line = |path: &PathBuf| {
        let stat = fs::symlink_metadata(path).unwrap();
        let content = match () {
            () if stat.is_symlink() => format!("-> {}", fs::read_link(path).unwrap().display()).into_bytes(),
            () if stat.is_file() => fs::read(path).unwrap(),
            () => Vec::new(),
        };
        let text = describe(stat.mode(), stat.uid().into(), stat.gid().into(), stat.mtime(), &content);
        format!("{text} {}\n", path.strip_prefix(root.path()).unwrap().display())
    };
    paths.iter().map(line).collect()
}

fn make_context() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for directory in ["dir/sub", "dir-with-link", "ignored/kept"] {
        fs::create_dir_all(path(directory)).unwrap();
    }
    let busybox = dockwright_testing::find_command("busybox").expect("checked by the caller");
    fs::copy(busybox, path("busybox")).unwrap();
    for (name, content) in [
        ("a.txt", "A\n"),
        ("b.txt", "B\n"),
        ("with blank", "blank\n"),
        ("dir/x", "X\n"),
        ("dir/sub/y", "Y\n"),
        ("run.sh", "#!/bin/sh\n"),
        ("passwd", "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n"),
        ("group", "root:x:0:\nweb:x:35:\nstaff:x:50:\n"),
        ("ignored/f", ""),
        ("ignored/kept/f", ""),
        ("x.tmp", ""),
        ("dir/x.tmp", ""),
        (".dockerignore", "# comment\n.dockerignore\nDockerfile*\nignored\n!ignored/kept\n**/*.tmp\n!dir/x.tmp\n"),
    ] {
        fs::write(path(name), content).unwrap();
    }
    fs::set_permissions(path("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(path("dir/sub"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(path("b.txt"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("a.txt", path("link-to-a")).unwrap();
    symlink("dir", path("link-to-dir")).unwrap();
    symlink("/nowhere", path("dir-with-link/dangling")).unwrap();
    let shell = "find . -type f -exec touch -h -d 2001-02-03T04:05:06Z {} + && \
                 tar --owner=7 --group=8 -cf archive.tar dir link-to-a && gzip -nk archive.tar && xz -k archive.tar && bzip2 -k archive.tar";
    assert!(Command::new("sh").args(["-c", shell]).current_dir(dir.path()).status().unwrap().success());
    dir
}
