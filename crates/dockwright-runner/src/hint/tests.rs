use expect_test::{Expect, expect};

use super::*;

fn observe(output: &str) -> BTreeSet<Observation> {
    let mut watcher = Watcher::default();
    for piece in output.as_bytes().chunks(7) {
        watcher.push(piece);
    }
    watcher.push(b"\n");
    watcher.observations().clone()
}

fn dind(tls_certdir: Option<&str>) -> DockerSetup {
    DockerSetup {
        tls_certdir: tls_certdir.map(str::to_owned),
        client_uses_tls: true,
        services: vec![ServiceSetup {
            image: "docker:19.03.12-dind".to_owned(),
            aliases: vec!["docker".to_owned()],
            is_dind: true,
            tls_certdir: None,
        }],
        ..DockerSetup::default()
    }
}

fn check(setup: &DockerSetup, output: &str, expected: Expect) {
    let hint = explain(setup, &observe(output)).map(|hint| format!("{hint}\n")).unwrap_or_default();
    expected.assert_eq(&hint);
}

fn with_host(setup: DockerSetup, host: &str) -> DockerSetup {
    DockerSetup { docker_host: Some(host.to_owned()), ..setup }
}

const REFUSED_2375: &str = "Cannot connect to the Docker daemon at tcp://docker:2375. Is the docker daemon running?";

#[test]
fn plain_port_of_a_service_with_tls() {
    check(
        &with_host(dind(None), "tcp://docker:2375"),
        REFUSED_2375,
        expect![[r#"
            hint: the service `docker:19.03.12-dind` listens with TLS on 2376 because DOCKER_TLS_CERTDIR is not set, and the image's default is "/certs", but DOCKER_HOST is `tcp://docker:2375`;
                  set DOCKER_HOST: "tcp://docker:2376", or set DOCKER_TLS_CERTDIR: "" to disable TLS
        "#]],
    );
    check(
        &dind(Some("/certs")),
        REFUSED_2375,
        expect![[r#"
            hint: the service `docker:19.03.12-dind` listens with TLS on 2376 because DOCKER_TLS_CERTDIR is "/certs", but DOCKER_HOST is `tcp://docker:2375`;
                  set DOCKER_HOST: "tcp://docker:2376", or set DOCKER_TLS_CERTDIR: "" to disable TLS
        "#]],
    );
}

#[test]
fn tls_port_of_a_plain_service() {
    check(
        &with_host(dind(Some("")), "tcp://docker:2376"),
        "error during connect: Get \"http://docker:2376/v1.24/info\": dial tcp 172.18.0.2:2376: connect: connection refused",
        expect![[r#"
            hint: the service `docker:19.03.12-dind` listens without TLS on 2375 because DOCKER_TLS_CERTDIR is "", but DOCKER_HOST is `tcp://docker:2376`;
                  set DOCKER_HOST: "tcp://docker:2375", or set DOCKER_TLS_CERTDIR: "/certs" to use TLS
        "#]],
    );
}

#[test]
fn no_daemon_service_at_all() {
    let without = DockerSetup { own_endpoint: Some("unix:///var/run/docker.sock".to_owned()), ..DockerSetup::default() };
    check(
        &with_host(without, "tcp://docker:2375"),
        "error during connect: Get http://docker:2375/v1.40/info: dial tcp: lookup docker on 127.0.0.11:53: no such host",
        expect![[r#"
            hint: DOCKER_HOST is `tcp://docker:2375`, but no service of this job is a Docker daemon;
                  remove DOCKER_HOST: this job has a Docker engine of its own at `unix:///var/run/docker.sock`
        "#]],
    );
    check(
        &with_host(DockerSetup::default(), "tcp://docker:2375"),
        REFUSED_2375,
        expect![[r#"
            hint: DOCKER_HOST is `tcp://docker:2375`, but no service of this job is a Docker daemon;
                  add a service with the alias `docker`, such as `services: [{name: "docker:dind", alias: "docker"}]`
        "#]],
    );
}

#[test]
fn another_alias() {
    let mut setup = dind(Some("/certs"));
    setup.services[0].aliases = vec!["docker".to_owned(), "builder".to_owned()];
    check(
        &with_host(setup.clone(), "tcp://dind:2376"),
        "error during connect: Get https://dind:2376/v1.40/info: dial tcp: lookup dind on 127.0.0.11:53: no such host",
        expect![[r#"
            hint: DOCKER_HOST names the host `dind`, but the service `docker:19.03.12-dind` is called `docker`, `builder`;
                  set DOCKER_HOST: "tcp://docker:2376", or give the service the alias `dind`
        "#]],
    );
    check(
        &with_host(setup, "tcp://localhost:2375"),
        "Cannot connect to the Docker daemon at tcp://localhost:2375. Is the docker daemon running?",
        expect![[r#"
            hint: DOCKER_HOST is `tcp://localhost:2375`, but the daemon runs in another container, the service `docker`, `builder`;
                  set DOCKER_HOST: "tcp://docker:2376", or give the service the alias `localhost`
        "#]],
    );
}

#[test]
fn client_without_tls() {
    let server_says = "Error response from daemon: Client sent an HTTP request to an HTTPS server.";
    let client_says = "Get \"http://docker:2376/v1.24/containers/json\": net/http: HTTP/1.x transport connection broken: malformed HTTP response.\n\
                       * Are you trying to connect to a TLS-enabled daemon without TLS?";
    for message in [server_says, client_says] {
        check(
            &with_host(dind(Some("/certs")), "tcp://docker:2376"),
            message,
            expect![[r#"
                hint: the service `docker:19.03.12-dind` listens with TLS on 2376 because DOCKER_TLS_CERTDIR is "/certs", but the client does not use TLS;
                      set DOCKER_TLS_VERIFY: "1" and DOCKER_CERT_PATH: "/certs/client"
            "#]],
        );
    }
}

#[test]
fn certificates_elsewhere() {
    check(
        &with_host(dind(Some("/tls")), "tcp://docker:2376"),
        "unable to resolve docker endpoint: open /certs/client/ca.pem: no such file or directory",
        expect![[r#"
            hint: the client looks for `/certs/client/ca.pem`, but the service `docker:19.03.12-dind` puts its certificates into `/tls/client`;
                  set DOCKER_CERT_PATH: "/tls/client", and see that this directory is a volume of the job and its services
        "#]],
    );
}

#[test]
fn sockets() {
    check(
        &DockerSetup::default(),
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        expect![[r#"
            hint: no Docker daemon answers at `unix:///var/run/docker.sock`, and no service of this job is one;
                  add `services: ["docker:dind"]` and set DOCKER_HOST: "tcp://docker:2376" and DOCKER_TLS_CERTDIR: "/certs"
        "#]],
    );
    check(
        &DockerSetup::default(),
        "Got permission denied while trying to connect to the Docker daemon socket: dial unix /var/run/docker.sock: connect: permission denied",
        expect![[r#"
            hint: the user of this job may not use the socket `/var/run/docker.sock`;
                  run the job as root (`image:docker:user`), or give the user the socket's group
        "#]],
    );
}

#[test]
fn everything_agrees_but_nothing_answers() {
    check(
        &with_host(dind(Some("")), "tcp://docker:2375"),
        REFUSED_2375,
        expect![[r#"
            hint: DOCKER_HOST `tcp://docker:2375` and DOCKER_TLS_CERTDIR agree with the service `docker:19.03.12-dind`, but it does not answer;
                  its own log may say why; set CI_DEBUG_SERVICES: "true" to see it
        "#]],
    );
}

#[test]
fn other_failures_get_no_hint() {
    check(&dind(None), "make: *** [Makefile:2: test] Error 1\ndial tcp 10.0.0.1:5432: i/o timeout", expect![""]);
}
