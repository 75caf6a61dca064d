//! `docker build` without BuildKit, as both clients do it against an engine that says it has none.

use std::{fs, path::PathBuf, process::Output};

use crate::daemon::{Docker, Image, each};

const BUSYBOX: &[Image] = &[Image::Busybox];

/// Makes a build context of files and returns its path.
fn context(docker: &Docker<'_>, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let directory = docker.directory().join(docker.name(name));
    for (path, content) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, content).expect("a file");
    }
    directory
}

fn build(docker: &Docker<'_>, context: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = docker.command(&["build"]);
    // The client would look for BuildKit's plugin otherwise.
    command.env("DOCKER_BUILDKIT", "0").args(arguments).arg(context).output().expect("the client runs")
}

fn built(docker: &Docker<'_>, context: &std::path::Path, arguments: &[&str]) -> String {
    let output = build(docker, context, arguments);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

const STAGES: &str = r#"
ARG FROM=busybox
FROM $FROM AS tools
ARG GREETING=hello
RUN mkdir /out && echo "$GREETING from a build" > /out/message && printf '#!/bin/sh\ncat /out/message\n' > /out/show && chmod +x /out/show
FROM busybox
ENV WHERE=/out
WORKDIR /work
COPY --from=tools /out /out
COPY . .
RUN ls > /listed && id -u > /user
USER 1000:1000
LABEL kind=test
CMD ["/out/show"]
"#;

#[test]
fn an_image_is_built_in_stages() {
    each("an_image_is_built_in_stages", BUSYBOX, |docker| {
        let files = [("Dockerfile", STAGES), ("kept", "x"), ("left-out", "y"), (".dockerignore", "left-out\nDockerfile\n")];
        let context = context(docker, "stages", &files);
        let name = docker.name("staged") + ":1";
        let printed = built(docker, &context, &["-t", &name, "--build-arg", "GREETING=greetings", "--label", "from=outside"]);
        assert!(printed.contains(&format!("Successfully tagged {name}")), "{printed}");
        assert_eq!(docker.ok(&["run", "--rm", &name]), "greetings from a build");
        assert_eq!(docker.ok(&["run", "--rm", &name, "sh", "-c", "cat /listed /user; pwd; id -u"]), "kept\n0\n/work\n1000");
        assert_eq!(docker.ok(&["inspect", "-f", "{{.Config.Labels.kind}} {{.Config.Labels.from}}", &name]), "test outside");
        let tools = docker.name("tools");
        built(docker, &context, &["-q", "--target", "tools", "-t", &tools]);
        assert_eq!(docker.ok(&["run", "--rm", &tools, "cat", "/out/message"]), "hello from a build");
        docker.ok(&["rmi", &name, &tools]);
    });
}

/// The steps that a build took from the cache, of those that could be.
fn cached(printed: &str) -> (usize, usize) {
    let steps = printed.lines().filter(|line| line.starts_with("Step ") && !line.contains(": FROM ")).count();
    (printed.matches("---> Using cache").count(), steps)
}

#[test]
fn a_later_engine_finds_every_step() {
    each("a_later_engine_finds_every_step", BUSYBOX, |docker| {
        let unique = format!("FROM busybox\nRUN echo {} > /made\nCOPY file /\nENV A=b\nRUN cat /file >> /made\n", docker.name("cache"));
        let context = context(docker, "cache", &[("Dockerfile", &unique), ("file", "content")]);
        let name = docker.name("cached");
        let first = built(docker, &context, &["-t", &name]);
        assert_eq!(cached(&first).0, 0, "{first}");
        let id = docker.ok(&["inspect", "-f", "{{.Id}}", &name]);
        let before = layers(docker);
        docker.in_new_engine(|docker| {
            docker.ok(&["pull", "-q", "busybox"]);
            let again = built(docker, &context, &["-t", &name]);
            let (hits, steps) = cached(&again);
            assert_eq!(hits, steps, "{again}");
            assert_eq!(docker.ok(&["inspect", "-f", "{{.Id}}", &name]), id);
            assert!(docker.ok(&["run", "--rm", &name, "cat", "/made"]).ends_with("content"));
        });
        // Nothing was written: not one layer, not one blob.
        assert_eq!(layers(docker), before);

        fs::write(context.join("file"), "other content").expect("a file");
        let changed = built(docker, &context, &["-t", &name]);
        assert_eq!(cached(&changed).0, 1, "{changed}");
        let ignored = built(docker, &context, &["-t", &name, "--no-cache"]);
        assert_eq!(cached(&ignored).0, 0, "{ignored}");
        docker.ok(&["rmi", &name]);
    });
}

/// The layers and blobs of the store.
fn layers(docker: &Docker<'_>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![docker.directory().join("home/store/blobs"), docker.directory().join("home/store/layers")];
    while let Some(directory) = pending.pop() {
        let is_layer = directory.parent().is_some_and(|parent| parent.ends_with("layers"));
        if is_layer || directory.is_file() {
            found.push(directory);
            continue;
        }
        pending.extend(fs::read_dir(&directory).expect("a directory").map(|entry| entry.expect("an entry").path()));
    }
    found.sort();
    found
}

#[test]
fn a_failing_step_ends_the_build_with_its_code() {
    each("a_failing_step_ends_the_build_with_its_code", BUSYBOX, |docker| {
        let fails = context(docker, "fails", &[("Dockerfile", "FROM busybox\nRUN echo before && exit 7\n")]);
        let output = build(docker, &fails, &[]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(7), "{errors}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("before\n"));
        assert!(errors.contains("The command '/bin/sh -c echo before && exit 7' returned a non-zero code: 7"), "{errors}");

        for (name, dockerfile, expected) in [
            ("unknown", "FROM busybox\nFOO bar\n", "dockerfile parse error line 2: unknown instruction: FOO"),
            ("missing", "FROM busybox\nCOPY nothing /\n", "COPY failed: file not found in build context or excluded by .dockerignore"),
            ("empty", "# only a comment\n", "file with no instructions"),
            ("user", "FROM busybox\nRUN --mount=type=cache,target=/c true\n", "--mount"),
        ] {
            let context = context(docker, name, &[("Dockerfile", dockerfile)]);
            let output = build(docker, &context, &[]);
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{errors}");
            assert!(errors.contains(expected), "{name}: {errors}");
        }
        assert_eq!(docker.ok(&["ps", "-aq"]), "");
    });
}

#[test]
fn steps_have_the_network_that_was_asked_for() {
    each("steps_have_the_network_that_was_asked_for", BUSYBOX, |docker| {
        let show = format!("FROM busybox\nRUN : {} && ip -o -4 addr && cat /etc/hosts\n", docker.name("network"));
        let context = context(docker, "network", &[("Dockerfile", &show)]);
        let bridged = built(docker, &context, &["--no-cache", "--add-host", "extra:10.1.2.3"]);
        assert!(bridged.contains("inet 172.17.") && bridged.contains("10.1.2.3\textra"), "{bridged}");
        let alone = built(docker, &context, &["--no-cache", "--network", "none"]);
        assert!(!alone.contains("eth0") && alone.contains("127.0.0.1"), "{alone}");
    });
}

#[test]
fn mounts_of_steps_leave_nothing_in_the_image() {
    each("mounts_of_steps_leave_nothing_in_the_image", BUSYBOX, |docker| {
        let dockerfile = "FROM scratch\nCOPY --from=busybox /bin /bin\nVOLUME /data\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo x > /data/lost; echo y > /kept\"]\n";
        let context = context(docker, "mounts", &[("Dockerfile", dockerfile)]);
        let name = docker.name("mounts");
        built(docker, &context, &["-t", &name]);
        let container = docker.ok(&["create", &name, "/bin/busybox"]);
        let archive = docker.directory().join(docker.name("mounts.tar"));
        docker.ok(&["save", "-o", &archive.to_string_lossy(), &name]);
        let listing = "tar -xOf \"$0\" manifest.json | tr ',\"' '\\n\\n' | grep '^blobs' | while read blob; do tar -xOf \"$0\" $blob | tar -t; done 2>/dev/null; true";
        let listed = std::process::Command::new("sh").arg("-c").arg(listing).arg(&archive).output().expect("sh runs");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let entries: Vec<&str> = listed.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/')).collect();
        assert!(entries.contains(&"kept"), "{listed}");
        for absent in ["proc", "sys", "dev", "etc", "etc/hosts", "data/lost"] {
            assert!(!entries.contains(&absent), "{absent} in {listed}");
        }
        docker.ok(&["rm", "-v", &container]);
        docker.ok(&["rmi", &name]);
    });
}
