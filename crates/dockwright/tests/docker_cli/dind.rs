//! The three ways to Docker in a job: the stand-in for Docker in Docker with and without TLS, and the socket.

use crate::daemon::{Docker, Image, each};

const IMAGES: &[Image] = &[Image::Busybox, Image::DockerClient];

/// Runs a script in a job's container next to a service `docker:dind`.
fn with_service(docker: &Docker<'_>, service: &[&str], job: &[&str], script: &str) -> String {
    let (network, name) = (docker.name("job"), docker.name("service"));
    docker.ok(&["network", "create", &network]);
    let service_run =
        [&["run", "-d", "--name", &name, "--privileged", "--network", &network, "--network-alias", "docker"], service, &["docker:dind"]];
    docker.ok(&service_run.concat());
    let job_run = [&["run", "--rm", "--network", &network][..], job, &["docker:19.03.12", "sh", "-c", script]];
    let printed = docker.ok(&job_run.concat());
    docker.ok(&["rm", "-f", "-v", &name]);
    docker.ok(&["network", "rm", &network]);
    printed
}

#[test]
fn a_job_uses_docker_with_tls() {
    each("a_job_uses_docker_with_tls", IMAGES, |docker| {
        let volume = format!("{}:/certs/client", docker.name("certs"));
        let job =
            ["-v", &volume, "-e", "DOCKER_HOST=tcp://docker:2376", "-e", "DOCKER_TLS_VERIFY=1", "-e", "DOCKER_CERT_PATH=/certs/client"];
        // The last line: without a certificate of one's own nobody gets in.
        let script = "ls /certs/client; docker run --rm busybox echo inner; \
                      mkdir /src; echo mine > /src/f; docker run --rm -v /src:/x busybox cat /x/f; \
                      mkdir /half; cp /certs/client/ca.pem /half; DOCKER_CERT_PATH=/half docker ps >/dev/null 2>&1 || echo refused";
        let printed = with_service(docker, &["-v", &volume, "-e", "DOCKER_TLS_CERTDIR=/certs"], &job, script);
        assert_eq!(printed, "ca.pem\ncert.pem\nkey.pem\ninner\nmine\nrefused");
        docker.ok(&["volume", "rm", &docker.name("certs")]);
    });
}

#[test]
fn a_job_uses_docker_without_tls() {
    each("a_job_uses_docker_without_tls", IMAGES, |docker| {
        let inner = docker.name("inner");
        let script = format!(
            "docker info --format '{{{{.Driver}}}}'; docker run -d -p 8080:80 --name {inner} busybox httpd -f -p 80 -h /etc >/dev/null; \
             until wget -qO /dev/null http://docker:8080/hostname; do sleep 0.1; done; docker rm -f {inner}"
        );
        let service = ["-e", "DOCKER_TLS_CERTDIR=", "-e", "DOCKER_DRIVER=vfs"];
        let printed = with_service(docker, &service, &["-e", "DOCKER_HOST=tcp://docker:2375"], &script);
        assert_eq!(printed, format!("vfs\n{inner}"));
    });
}

#[test]
fn a_bound_socket_is_this_engines() {
    each("a_bound_socket_is_this_engines", IMAGES, |docker| {
        let script = "mkdir /w; echo mine > /w/f; docker run --rm -v /w:/x busybox cat /x/f; docker ps --format '{{.Image}}'";
        let printed = docker.ok(&["run", "--rm", "-v", "/var/run/docker.sock:/var/run/docker.sock", "docker:19.03.12", "sh", "-c", script]);
        assert_eq!(printed, "mine\ndocker:19.03.12");
    });
}
