//! The configuration samples of GitLab's page "Building Docker images with GitLab CI/CD", byte for byte.

use crate::world::for_each_world;

const DOCKERFILE: &[u8] =
    b"FROM busybox\nRUN mkdir /app && echo made-by-run > /app/message\nCOPY script/ /script/\nCMD [\"ls\", \"/mnt\"]\n";
const TESTS: &[u8] = b"#!/bin/sh\nset -e\ngrep -q made-by-run /app/message\necho the tests ran in the image\n";

macro_rules! sample {
    ($name:literal) => {
        include_bytes!(concat!("samples/", $name))
    };
}
pub(crate) use sample;

/// A repository with the page's Dockerfile and tests, and the given configuration.
pub(crate) fn files<'a>(configuration: &'a [u8], more: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    let mut files = vec![(".gitlab-ci.yml", configuration), ("Dockerfile", DOCKERFILE), ("script/to/run/tests", TESTS)];
    files.extend_from_slice(more);
    files
}

pub(crate) fn assert_builds_and_tests(printed: &str) {
    for expected in [
        "Server Version:",
        "Successfully built",
        "Successfully tagged my-docker-image:latest",
        "the tests ran in the image",
        "Job succeeded",
    ] {
        assert!(printed.contains(expected), "`{expected}` is missing in:\n{printed}");
    }
}

#[test]
fn shell() {
    for_each_world("samples::shell", |world| {
        let repository = world.repository("shell", &files(sample!("shell.gitlab-ci.yml"), &[]));
        assert_builds_and_tests(&world.run_green(&repository, &[]));
    });
}

#[test]
fn dind_tls() {
    for_each_world("samples::dind_tls", |world| {
        let repository = world.repository("dind-tls", &files(sample!("dind-tls.gitlab-ci.yml"), &[]));
        assert_builds_and_tests(&world.run_green(&repository, &[]));
    });
}

#[test]
fn dind_plain() {
    for_each_world("samples::dind_plain", |world| {
        let repository = world.repository("dind-plain", &files(sample!("dind-plain.gitlab-ci.yml"), &[]));
        assert_builds_and_tests(&world.run_green(&repository, &[]));
    });
}

#[test]
fn socket() {
    for_each_world("samples::socket", |world| {
        let repository = world.repository("socket", &files(sample!("socket.gitlab-ci.yml"), &[]));
        assert_builds_and_tests(&world.run_green(&repository, &[]));
    });
}

/// With a shared socket this command mounts a directory of the host; here it is the job's own `src`. Its `-t` needs a terminal, which a
/// job has not, so the job gives it one with busybox's `script`.
#[test]
fn socket_bind_mount() {
    const CONFIGURATION: &[u8] = b"image: docker:19.03.12
build:
  script:
    - docker build -t test-image:latest .
    - script -q -c 'sh ./socket-bind-mount.sh' /dev/null
";
    const IMAGE: &[u8] = b"FROM busybox\nCOPY run_app_tests /bin/run_app_tests\nRUN chmod 0755 /bin/run_app_tests\n";
    let more: &[(&str, &[u8])] = &[
        ("socket-bind-mount.sh", sample!("socket-bind-mount.sh")),
        ("src/app.txt", b"only in the checkout of this job\n"),
        ("run_app_tests", b"#!/bin/sh\ncat /home/app/src/app.txt\n"),
    ];
    for_each_world("samples::socket_bind_mount", |world| {
        let mut files = files(CONFIGURATION, more);
        files[1].1 = IMAGE;
        let repository = world.repository("bind", &files);
        let printed = world.run_green(&repository, &[]);
        assert!(printed.contains("only in the checkout of this job"), "{printed}");
    });
}

/// The page shows the keys of a job without its name; they stand here below one, every line as printed.
#[test]
fn mount_point() {
    let sample = std::str::from_utf8(sample!("mount-point.gitlab-ci.yml")).expect("text");
    let job: String = sample.lines().map(|line| format!("  {line}\n")).collect();
    let configuration = format!(
        "image: docker:19.03.12\nservices: [\"docker:19.03.12-dind\"]\nbefore_script:\n  - docker build -t my-docker-image .\n  \
         - mkdir -p \"$MOUNT_POINT\" && touch \"$MOUNT_POINT/a-file-of-the-job\"\nmount:\n{job}"
    );
    for_each_world("samples::mount_point", |world| {
        let repository = world.repository("mount-point", &files(configuration.as_bytes(), &[]));
        let printed = world.run_green(&repository, &[]);
        assert!(printed.lines().any(|line| line.trim_end().ends_with("a-file-of-the-job") && !line.contains("touch")), "{printed}");
    });
}

#[test]
fn overlay_project() {
    const CONFIGURATION: &[u8] = b"include:
  - local: overlay-project.yml
  - local: dind-tls.yml
";
    let more: &[(&str, &[u8])] =
        &[("overlay-project.yml", sample!("overlay-project.gitlab-ci.yml")), ("dind-tls.yml", sample!("dind-tls.gitlab-ci.yml"))];
    for_each_world("samples::overlay_project", |world| {
        let repository = world.repository("overlay", &files(CONFIGURATION, more));
        let printed = world.run_green(&repository, &[]);
        assert_builds_and_tests(&printed);
        assert!(printed.contains("Storage Driver: overlay2"), "{printed}");
    });
}

/// The second run finds every step in the cache, and pushing again copies nothing.
#[test]
fn layer_cache() {
    for_each_world("samples::layer_cache", |world| {
        let repository = world.repository("layer-cache", &files(sample!("layer-cache.gitlab-ci.yml"), &[]));
        let first = world.run_green(&repository, &[]);
        assert!(first.contains("Login Succeeded"), "{first}");
        assert!(first.contains("latest: digest: sha256:"), "{first}");
        let second = world.run_green(&repository, &[]);
        // FROM is no step that could be cached; RUN, COPY and CMD are.
        assert_eq!(second.matches("Using cache").count(), 3, "{second}");
        assert!(!second.contains("Running in"), "{second}");
        assert!(second.contains("Layer already exists"), "{second}");
        assert!(!second.contains(": Pushed"), "{second}");
        let digest = |printed: &str| {
            let line = printed.lines().find(|line| line.contains("latest: digest: sha256:")).expect("digest line").to_owned();
            line[line.find("sha256:").expect("digest")..].to_owned()
        };
        assert_eq!(digest(&first), digest(&second), "the same image was pushed");
    });
}
