//! The mission's pipelines, byte for byte.

use expect_test::expect;

use crate::{Context, check, check_files};

#[test]
fn shell() {
    check(
        include_str!("samples/shell.gitlab-ci.yml"),
        expect![[r#"
        stage test
          build_image when=on_success
            $ docker info
            $ docker build -t my-docker-image .
            $ docker run my-docker-image /script/to/run/tests
    "#]],
    );
}

#[test]
fn dind_with_tls() {
    check(
        include_str!("samples/dind-tls.gitlab-ci.yml"),
        expect![[r#"
        stage build
          build when=on_success
            image docker:19.03.12 entrypoint=[]
            service docker:19.03.12-dind alias=None command=[]
            DOCKER_TLS_CERTDIR="/certs"
            $ docker info
            $ docker build -t my-docker-image .
            $ docker run my-docker-image /script/to/run/tests
    "#]],
    );
}

#[test]
fn dind_without_tls() {
    check(
        include_str!("samples/dind-plain.gitlab-ci.yml"),
        expect![[r#"
        stage build
          build when=on_success
            image docker:19.03.12 entrypoint=[]
            service docker:19.03.12-dind alias=None command=[]
            DOCKER_HOST="tcp://docker:2375"
            DOCKER_TLS_CERTDIR=""
            $ docker info
            $ docker build -t my-docker-image .
            $ docker run my-docker-image /script/to/run/tests
    "#]],
    );
}

#[test]
fn socket() {
    check(
        include_str!("samples/socket.gitlab-ci.yml"),
        expect![[r#"
        stage build
          build when=on_success
            image docker:19.03.12 entrypoint=[]
            $ docker info
            $ docker build -t my-docker-image .
            $ docker run my-docker-image /script/to/run/tests
    "#]],
    );
}

#[test]
fn layer_cache() {
    check(
        include_str!("samples/layer-cache.gitlab-ci.yml"),
        expect![[r#"
        stage build
          build when=on_success
            image docker:19.03.12 entrypoint=[]
            service docker:19.03.12-dind alias=None command=[]
            DOCKER_HOST="tcp://docker:2376"
            DOCKER_TLS_CERTDIR="/certs"
            $ docker login -u $CI_REGISTRY_USER -p $CI_REGISTRY_PASSWORD $CI_REGISTRY
            $ docker pull $CI_REGISTRY_IMAGE:latest || true
            $ docker build --cache-from $CI_REGISTRY_IMAGE:latest --tag $CI_REGISTRY_IMAGE:$CI_COMMIT_SHA --tag $CI_REGISTRY_IMAGE:latest .
            $ docker push $CI_REGISTRY_IMAGE:$CI_COMMIT_SHA
            $ docker push $CI_REGISTRY_IMAGE:latest
    "#]],
    );
}

/// Alone it has no job, and GitLab refuses it; included, it gives its variable to every job.
#[test]
fn overlay_project_is_a_fragment() {
    check(
        include_str!("samples/overlay-project.gitlab-ci.yml"),
        expect![[r#"
            error[no-visible-job]: jobs config should contain at least one visible job
             --> .gitlab-ci.yml:1:1
              |
            1 | variables:
              | ^^^^^^^^^
              |
              = help: only global keywords and hidden entries are here: add a job, or `include` this file in a configuration that has jobs
        "#]],
    );
    check_files(
        &[
            (".gitlab-ci.yml", "include: overlay.yml\ntest:\n  script: docker info\n"),
            ("overlay.yml", include_str!("samples/overlay-project.gitlab-ci.yml")),
        ],
        Context::push("main"),
        expect![[r#"
            stage test
              test when=on_success
                DOCKER_DRIVER="overlay2"
                $ docker info
        "#]],
    );
}

/// It is the body of a job: GitLab refuses it at the top level, and takes it under a job's name.
#[test]
fn mount_point_is_a_fragment() {
    let sample = include_str!("samples/mount-point.gitlab-ci.yml");
    check(
        sample,
        expect![[r#"
            error[job-without-script]: jobs script config should implement the script:, run:, or trigger: keyword
             --> .gitlab-ci.yml:4:1
              |
            4 | script:
              | ^^^^^^
              |
              = help: `script` is a keyword of jobs: put it, indented, under a job's name
        "#]],
    );
    let body: String = sample.lines().map(|line| format!("  {line}\n")).collect();
    check(
        &format!("test:\n{body}"),
        expect![[r#"
        stage test
          test when=on_success
            MOUNT_POINT="/builds/$CI_PROJECT_PATH/mnt"
            $ mkdir -p "$MOUNT_POINT"
            $ docker run -v "$MOUNT_POINT:/mnt" my-docker-image
    "#]],
    );
}
