//! Settings of `[runners.docker]` that decide on networks, services and volumes, on a real dockerd.

use std::{fs, path::Path, sync::Arc};

use dockwright_job::{Image, JobPayload};
use dockwright_runner::{
    FixedEndpoint, RunnerConfig,
    config::{ContainerSettings, Device, GpuRequest},
};
use dockwright_testing::requires;
use tokio::net::{TcpListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::{
    dockerd::Dockerd,
    support::{Place, Recorder, image, run, variable},
    tls,
};

fn job(place: &Place, id: u64, script: &[&str]) -> JobPayload {
    JobPayload { image: Some(image("busybox")), ..place.payload(id, script) }
}

/// Other tests share the daemon, so names and volumes are this place's own.
fn unique(place: &Place) -> String {
    place.root.path().file_name().expect("a name").to_string_lossy().replace('.', "").to_lowercase()
}

/// Runs one job and returns its trace.
async fn trace(daemon: &Dockerd, place: &Place, payload: JobPayload, change: impl FnOnce(&mut RunnerConfig)) -> String {
    let id = payload.id.0;
    let recorder = Recorder::with([payload]);
    let mut config = place.config();
    config.short_token = unique(place);
    change(&mut config);
    run(&recorder, FixedEndpoint::new(daemon.endpoint()), config, 1, &CancellationToken::new()).await;
    recorder.trace(id)
}

/// A container of somebody else's, removed when dropped.
struct Neighbour<'a> {
    daemon: &'a Dockerd,
    name: String,
}

impl<'a> Neighbour<'a> {
    fn start(daemon: &'a Dockerd, name: String, network: &str) -> Self {
        daemon.docker(&["run", "-d", "--name", &name, "--network", network, "web:1"]);
        Self { daemon, name }
    }
}

impl Drop for Neighbour<'_> {
    fn drop(&mut self) {
        let _ = self.daemon.client(&["rm", "-f", &self.name]).output();
    }
}

fn has_succeeded(trace: &str) -> bool {
    trace.ends_with("Job succeeded\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_the_runner_come_before_those_of_the_job() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let ask = "wget -q -O - http://always:8080/; wget -q -O - http://answer:7000/env";
    let payload = || JobPayload { services: vec![image("web:1")], ..job(&place, 1, &[ask]) };
    let serve = "mkdir /srv; echo \"$OWN and $CI_PROJECT_DIR.\" > /srv/env; exec httpd -f -p 7000 -h /srv";
    let own = vec![
        Image { alias: "always".to_owned(), ..image("web:1") },
        Image {
            alias: "answer".to_owned(),
            entrypoint: vec!["sh".to_owned(), "-c".to_owned()],
            command: vec![serve.to_owned()],
            variables: vec![variable("OWN", "of $CI_JOB_IMAGE"), variable("HEALTHCHECK_TCP_PORT", "7000")],
            ..image("$BUSY:latest")
        },
    ];
    let with_services = |config: &mut RunnerConfig| {
        config.docker.services.clone_from(&own);
        config.environment = vec![variable("BUSY", "busybox")];
        // Those of the runner are always allowed, and a job may name them, too.
        config.docker.restrictions.services = vec!["postgres:*".to_owned()];
    };
    let shown = trace(&daemon, &place, payload(), with_services).await;
    let order = ["Starting service web:1...", "Starting service busybox:latest...", "the alias web belongs to another service"];
    let places: Vec<_> = order.map(|text| shown.find(text)).into_iter().collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{shown}");
    assert!(shown.contains("it works\nof busybox and /builds/group/project.\n") && has_succeeded(&shown), "{shown}");

    let limited = |config: &mut RunnerConfig| {
        with_services(config);
        config.docker.services_limit = Some(2);
    };
    let refused = trace(&daemon, &place, payload(), limited).await;
    assert!(refused.ends_with("ERROR: Job failed (system failure): too many services requested: 3, only 2 allowed\n"), "{refused}");
    assert!(!refused.contains("Starting service"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_a_network_that_is_there() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let (network, neighbour) = (format!("net-{}", unique(&place)), format!("web-{}", unique(&place)));
    daemon.docker(&["network", "create", &network]);
    let running = Neighbour::start(&daemon, neighbour.clone(), &network);
    let ask = format!("wget -q -O - http://{neighbour}:8080/; wget -q -O - http://web:8080/; echo \"own: $CI_BUILD_NETWORK_NAME.\"");
    let payload = JobPayload { services: vec![image("web:1")], ..job(&place, 1, &[&ask]) };
    let shown = trace(&daemon, &place, payload, |config| config.docker.network.mode = Some(network.clone())).await;
    drop(running);
    daemon.docker(&["network", "rm", &network]);
    assert!(shown.contains("it works\nit works\nown: .\n") && has_succeeded(&shown), "{shown}");

    let payload = job(&place, 2, &["echo never"]);
    let missing = trace(&daemon, &place, payload, |config| config.docker.network.mode = Some("gone".to_owned())).await;
    assert!(missing.ends_with("ERROR: Job failed: use the network `gone`: network gone not found\n"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_network_and_those_of_every_engine() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let ask = "wget -q -O - http://web:8080/; wget -q -O - http://second:8080/; grep -c -e web -e second /etc/hosts";
    let payload = |id, more: &[&str]| {
        let script: Vec<&str> = [ask].into_iter().chain(more.iter().copied()).collect();
        JobPayload { services: vec![Image { alias: "second".to_owned(), ..image("web:1") }], ..job(&place, id, &script) }
    };
    let mode = |mode: &str| {
        let mode = mode.to_owned();
        move |config: &mut RunnerConfig| config.docker.network.mode = Some(mode)
    };
    let bridge = trace(&daemon, &place, payload(1, &[]), mode("bridge")).await;
    assert!(bridge.contains("it works\nit works\n2\n") && !bridge.contains("probably didn't start"), "{bridge}");
    let host = trace(&daemon, &place, payload(2, &["ls /sys/class/net"]), mode("host")).await;
    assert!(host.contains("it works\nit works\n2\n") && host.contains("docker0\n") && has_succeeded(&host), "{host}");
    let none = trace(&daemon, &place, job(&place, 3, &["ls /sys/class/net"]), mode("none")).await;
    assert!(none.contains("\nlo\n") && !none.contains("eth0"), "{none}");

    let per_build = |value: &str, mut payload: JobPayload| {
        payload.variables = vec![variable("FF_NETWORK_PER_BUILD", value)];
        payload
    };
    let shared = trace(&daemon, &place, per_build("false", payload(4, &["echo \"own: $CI_BUILD_NETWORK_NAME.\""])), |_| {}).await;
    assert!(shared.contains("it works\nit works\n2\n") && shared.contains("\nown: .\n"), "{shared}");
    let own = per_build("true", job(&place, 5, &["echo \"own: $CI_BUILD_NETWORK_NAME.\"; cat /sys/class/net/eth0/mtu"]));
    let own = trace(&daemon, &place, own, |config| config.docker.network.mtu = 1400).await;
    assert!(own.contains(&format!("\nown: runner-{}-1-0-5-", unique(&place))) && own.contains("\n1400\n"), "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_to_containers_of_others() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let neighbour = Neighbour::start(&daemon, format!("linked-{}", unique(&place)), "bridge");
    let payload = job(&place, 1, &["wget -q -O - http://database:8080/"]);
    let link = format!("{}:database", neighbour.name);
    let shown = trace(&daemon, &place, payload, |config| config.docker.network.links = vec![link]).await;
    assert!(shown.contains("it works\n") && has_succeeded(&shown), "{shown}");
    let payload = job(&place, 2, &["echo never"]);
    let gone = trace(&daemon, &place, payload, |config| config.docker.network.links = vec!["gone:database".to_owned()]).await;
    assert!(gone.ends_with("ERROR: Job failed: link the container `gone`: No such container: gone\n"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_directories_or_of_a_driver() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let directory = place.root.path().join("volumes");
    let user = |id, script: &str| {
        let mut payload = job(&place, id, &[script]);
        payload.image = Some(image("user:1"));
        payload
    };
    let in_directory = |config: &mut RunnerConfig| {
        config.docker.volumes = vec!["/data".to_owned()];
        config.docker.volume_settings.cache_dir = Some(directory.display().to_string());
    };
    let written = trace(&daemon, &place, user(1, "echo kept > /data/file"), in_directory).await;
    assert!(has_succeeded(&written), "{written}");
    let kept = fs::read_dir(&directory).expect("a directory").next().expect("one").expect("an entry").path().join("file");
    assert_eq!(fs::read_to_string(kept).expect("a file"), "kept\n");
    let read = trace(&daemon, &place, user(2, "cat /data/file"), in_directory).await;
    assert!(read.contains("\nkept\n"), "{read}");

    let of_driver = |config: &mut RunnerConfig| {
        config.docker.volumes = vec!["/data".to_owned()];
        config.docker.keep_cache_volumes = false;
        config.docker.volume_settings.driver = "local".to_owned();
        let options = [("type", "none"), ("device", directory.to_str().expect("text")), ("o", "bind")];
        config.docker.volume_settings.driver_options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    };
    let bound = trace(&daemon, &place, job(&place, 3, &["echo bound > /data/bound"]), of_driver).await;
    assert!(has_succeeded(&bound) && directory.join("bound").is_file() && directory.join("group/project").is_dir(), "{bound}");

    for keep in [true, false] {
        let mut payload = job(&place, 4, &["grep ' /vol ' /proc/self/mountinfo | sed 's,.*volumes/\\([0-9a-f]*\\)/.*,volume: \\1,'"]);
        payload.image = Some(image("volume:1"));
        let shown = trace(&daemon, &place, payload, |config| config.docker.volume_settings.keep_anonymous = keep).await;
        let name = shown.lines().find_map(|line| line.strip_prefix("volume: ")).unwrap_or_else(|| panic!("{shown}"));
        assert_eq!(daemon.docker(&["volume", "ls", "-q"]).lines().any(|volume| volume == name), keep, "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_have_what_the_runner_gives_them() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let device = Device { host: "/dev/null".to_owned(), container: "/dev/extra".to_owned(), permissions: "rw".to_owned() };
    let settings = || ContainerSettings {
        pid_mode: "host".to_owned(),
        log_options: [("labels".to_owned(), "team".to_owned())].into(),
        services_devices: [("busybox:*".to_owned(), vec![device.clone()])].into(),
        ..ContainerSettings::default()
    };
    let mut payload = job(&place, 1, &["tr '\\0' ' ' < /proc/1/cmdline; echo; test -c /dev/extra || echo not here"]);
    payload.variables = vec![variable("CI_DEBUG_SERVICES", "true"), variable("TEAM", "blue")];
    let command = ["sh", "-c", "test -c /dev/extra && echo there; sleep 1000"].map(str::to_owned).to_vec();
    payload.services = vec![Image { command, alias: "helping".to_owned(), ..image("busybox:latest") }];
    // The service is looked at while it runs.
    payload.steps[0].script.push("sleep 1000".to_owned());
    let recorder = Recorder::with([payload]);
    recorder.cancel_on("not here\n", &recorder.signals.cancel);
    let mut config = place.config();
    config.short_token = unique(&place);
    config.docker.containers = settings();
    config.docker.wait_for_services = std::time::Duration::ZERO;
    config.docker.labels = [("team".to_owned(), "$TEAM-team".to_owned())].into();
    let label = format!("label=com.gitlab.gitlab-runner.runner.id={}", config.short_token);
    let watch = async {
        let mut seen = String::new();
        while !recorder.signals.cancel.is_cancelled() {
            let filters = ["ps", "-q", "--filter", &label, "--filter", "label=com.gitlab.gitlab-runner.service=busybox"];
            let id = daemon.docker(&filters);
            if !id.is_empty() {
                let format = "{{.Config.Labels.team}} {{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Config}}";
                seen = daemon.docker(&["inspect", "-f", format, &id]);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        seen
    };
    let stop = CancellationToken::new();
    let running = run(&recorder, FixedEndpoint::new(daemon.endpoint()), config, 1, &stop);
    let ((), seen) = tokio::join!(running, watch);
    let shown = recorder.trace(1);
    assert_eq!(seen, "blue-team json-file map[labels:team]", "{shown}");
    assert!(shown.contains("dockerd --host ") && shown.contains("\nnot here\n"), "{shown}");
    assert!(shown.contains("[service:busybox-helping] there\n"), "{shown}");

    let gpus = GpuRequest { count: -1, capabilities: vec!["gpu".to_owned()], ..GpuRequest::default() };
    let wanted = trace(&daemon, &place, job(&place, 2, &["echo never"]), |config| config.docker.containers.gpus = Some(gpus)).await;
    assert!(wanted.contains("could not select device driver \"\" with capabilities: [[gpu]]"), "{wanted}");
}

/// Passes on what a client with a certificate of the authority says to the daemon.
async fn serve_tls(daemon: &Dockerd, authority: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (acceptor, socket) = (tls::acceptor(authority), daemon.endpoint().replace("unix://", ""));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut engine = UnixStream::connect(socket).await.expect("the daemon listens");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut engine).await;
            });
        }
    });
    port
}

fn write_certificates(directory: &Path, authority: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>) {
    let (certificate, key) = tls::pair(authority);
    fs::write(directory.join("ca.pem"), authority.pem()).expect("a file");
    fs::write(directory.join("cert.pem"), certificate).expect("a file");
    fs::write(directory.join("key.pem"), key).expect("a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_behind_tls() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[("hello.txt", "hello\n")]));
    let (authority, other) = (tls::authority(), tls::authority());
    let port = serve_tls(&daemon, &authority).await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (certificates_of, works) in [(&authority, true), (&other, false)] {
        write_certificates(directory.path(), certificates_of);
        let recorder = Recorder::with([job(&place, 1, &["cat hello.txt; read line || echo no input"])]);
        let endpoint = FixedEndpoint::new(format!("tcp://localhost:{port}")).with_certificates(Some(directory.path().to_owned()));
        run(&Arc::clone(&recorder), endpoint, place.config(), 1, &CancellationToken::new()).await;
        let shown = recorder.trace(1);
        assert_eq!(has_succeeded(&shown) && shown.contains("\nhello\nno input\n"), works, "{shown}");
        assert_eq!(shown.contains(&format!("connect to the Docker engine at tcp://localhost:{port}")), !works, "{shown}");
    }
}
