//! Jobs with an image, on a real dockerd.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dockwright_job::{Artifact, Cache, FailureReason, Hook, HookName, Image, JobPayload, JobState, Variable};
use dockwright_runner::{
    AcquireEngineError, EngineLease, EngineProvider, EngineRequest, FixedEndpoint,
    config::{ContainerSettings, PullPolicy, Restrictions, Ulimit},
};
use dockwright_testing::requires;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio_util::sync::CancellationToken;

use crate::{
    dockerd::Dockerd,
    support::{Place, Recorder, helper_binary, image, run, step, variable},
};

fn job(place: &Place, id: u64, image_name: &str, script: &[&str]) -> JobPayload {
    JobPayload { image: Some(image(image_name)), ..place.payload(id, script) }
}

/// Runs jobs and checks that nothing of them is left.
async fn run_jobs(daemon: &Dockerd, place: &Place, recorder: &Arc<Recorder>, stop: &CancellationToken) {
    let mut config = place.config();
    // Other tests share the daemon.
    config.short_token = place.root.path().file_name().expect("a name").to_string_lossy().replace('.', "").to_lowercase();
    let label = format!("label=com.gitlab.gitlab-runner.runner.id={}", config.short_token);
    run(recorder, FixedEndpoint::new(daemon.endpoint()), config, 2, stop).await;
    assert_eq!(daemon.docker(&["ps", "-aq", "--filter", &label]), "", "containers are left");
    assert_eq!(daemon.docker(&["network", "ls", "-q", "--filter", &label]), "", "networks are left");
    let volumes = daemon.docker(&["volume", "ls", "-q", "--filter", &label]);
    assert!(volumes.lines().all(|name| name.starts_with("runner-") && !name.contains("-project-")), "volumes are left: {volumes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_a_container() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[("hello.txt", "hello\n")]));
    let mut payload =
        job(&place, 1, "busybox", &["cat hello.txt; pwd; cat \"$KEY\"", "echo left > /tmp/left; echo $CI_DISPOSABLE_ENVIRONMENT"]);
    payload.variables = vec![Variable { file: true, ..variable("KEY", "of a file\n") }];
    payload.steps.push(step("after_script", &["cat /tmp/left; echo \"after $CI_JOB_STATUS\""]));
    let recorder = Recorder::with([payload]);
    run_jobs(&daemon, &place, &recorder, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    for expected in [
        "Preparing the \"docker\" executor\nUsing Docker executor with image busybox ...\n",
        "Using effective pull policy of [if-not-present] for container busybox\nUsing locally found image version due to \"if-not-present\" pull policy\nUsing docker image sha256:",
        "Checking out ",
        "hello\n/builds/group/project\nof a file\n",
        "\ntrue\n",
        "\nleft\nafter success\n",
    ] {
        assert!(trace.contains(expected), "{expected}\n---\n{trace}");
    }
    assert!(trace.ends_with("Job succeeded\n"), "{trace}");
    assert_eq!(recorder.final_update(1).state, JobState::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_around_the_sources_run_in_the_jobs_container() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[("hello.txt", "hello\n")]));
    let mut payload = job(&place, 1, "busybox", &["cat /tmp/before /tmp/behind"]);
    let hook = |name, line: &str| Hook { name, script: vec![line.to_owned()] };
    payload.hooks = vec![
        hook(HookName::PreGetSourcesScript, "echo \"before, in $(hostname | cut -c1-7)\" > /tmp/before"),
        hook(HookName::PostGetSourcesScript, "cp hello.txt /tmp/behind"),
    ];
    let recorder = Recorder::with([payload]);
    run_jobs(&daemon, &place, &recorder, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("\nbefore, in runner-\nhello\n"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_entry_points_and_users() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let cleared = JobPayload {
        image: Some(Image { entrypoint: vec![String::new()], ..image("entry:1") }),
        ..place.payload(3, &["echo \"entry: $FROM_ENTRY_POINT.\""])
    };
    let recorder = Recorder::with([
        job(&place, 1, "busybox", &["(exit 42)"]),
        job(&place, 2, "entry:1", &["echo \"entry: $FROM_ENTRY_POINT.\""]),
        cleared,
        job(&place, 4, "user:1", &["id -u; echo mine > file; mkdir -p sub; ls -l file"]),
    ]);
    run_jobs(&daemon, &place, &recorder, &CancellationToken::new()).await;
    assert!(recorder.trace(1).ends_with("ERROR: Job failed: exit code 42\n"), "{}", recorder.trace(1));
    assert_eq!(recorder.final_update(1).exit_code, Some(42));
    assert!(recorder.trace(2).contains("entry: yes.\n"), "{}", recorder.trace(2));
    assert!(recorder.trace(3).contains("entry: .\n"), "{}", recorder.trace(3));
    assert!(recorder.trace(4).contains("\n1000\n") && recorder.trace(4).ends_with("Job succeeded\n"), "{}", recorder.trace(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_answer_by_name() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let mut payload = job(&place, 1, "busybox", &["wget -q -O - http://web:8080/", "wget -q -O - http://second:8080/"]);
    payload.services = vec![image("web:1"), Image { alias: "second".to_owned(), ..image("web:1") }];
    let recorder = Recorder::with([payload]);
    run_jobs(&daemon, &place, &recorder, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("Starting service web:1...\n"), "{trace}");
    assert!(trace.contains("the alias web belongs to another service"), "{trace}");
    assert!(trace.contains("Waiting for services to be up and running (timeout 30 seconds)...\n"), "{trace}");
    assert_eq!(trace.matches("it works\n").count(), 2, "{trace}");
    assert!(!trace.contains("probably didn't start properly"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_start_is_a_warning_with_its_log() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let mut payload = job(&place, 1, "busybox", &["echo done"]);
    payload.services = vec![image("deaf:1")];
    let recorder = Recorder::with([payload]);
    let mut config = place.config();
    config.docker.wait_for_services = std::time::Duration::from_secs(1);
    run(&recorder, FixedEndpoint::new(daemon.endpoint()), config, 1, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("*** WARNING: Service deaf probably didn't start properly."), "{trace}");
    assert!(trace.contains("I refuse\n"), "{trace}");
    assert!(trace.ends_with("Job succeeded\n"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_and_caches_of_containers() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[("tracked", "t")]));
    let cache = Cache { key: "deps".to_owned(), paths: vec!["deps/".to_owned()], ..Cache::default() };
    let mut first = job(&place, 1, "busybox", &["mkdir deps; echo d > deps/d; echo new > untracked; echo built > out.txt"]);
    first.cache = vec![cache.clone()];
    first.artifacts = vec![Artifact { paths: vec!["*.txt".to_owned()], untracked: true, ..Artifact::default() }];
    let recorder = Recorder::with([first]);
    run_jobs(&daemon, &place, &recorder, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("*.txt: found 1 matching artifact files and directories\nuntracked: found 3 files\n"), "{trace}");

    let mut second = job(&place, 2, "busybox", &["cat deps/d out.txt untracked"]);
    second.cache = vec![cache];
    second.dependencies = vec![dockwright_job::Dependency {
        id: dockwright_job::JobId(1),
        name: "job-1".to_owned(),
        artifacts_file: dockwright_job::DependencyFile { filename: "artifacts.zip".to_owned(), size: 1 },
        ..dockwright_job::Dependency::default()
    }];
    let again = Recorder::with([second]);
    *again.artifacts.lock().expect("not poisoned") = recorder.artifacts.lock().expect("not poisoned").clone();
    run_jobs(&daemon, &place, &again, &CancellationToken::new()).await;
    let trace = again.trace(2);
    assert!(trace.contains("\nd\nbuilt\nnew\n"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let mut never = job(&place, 1, "missing:1", &["echo never"]);
    never.image = Some(Image { pull_policy: vec!["never".to_owned()], ..image("missing:1") });
    let recorder = Recorder::with([never, job(&place, 2, "localhost:1/missing:1", &["echo never"])]);
    run_jobs(&daemon, &place, &recorder, &CancellationToken::new()).await;
    let (never, refused) = (recorder.trace(1), recorder.trace(2));
    assert!(never.contains("ERROR: Job failed: failed to pull image \"missing:1\" with specified policies [never]: "), "{never}");
    assert_eq!(recorder.final_update(1).failure_reason, Some(FailureReason::ScriptFailure));
    assert!(refused.contains("WARNING: Failed to pull image with policy \"if-not-present\": "), "{refused}");
    assert!(refused.contains("ERROR: Job failed (system failure): failed to pull") || refused.contains("connection refused"), "{refused}");
    assert_eq!(recorder.final_update(2).failure_reason, Some(FailureReason::RunnerSystemFailure));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_runner_does_not_allow() {
    let place = Place::new(&[]);
    let mut config = place.config();
    config.docker.default_image = Some("default:1".to_owned());
    config.docker.restrictions = Restrictions {
        images: vec!["ruby:*".to_owned(), "reg.tld/**/*:*".to_owned()],
        services: vec!["postgres:*".to_owned()],
        users: vec!["ci".to_owned()],
        ..Restrictions::default()
    };
    let with_user = |user: &str| {
        let mut image = image("ruby:3");
        image.executor_opts.docker.user = Some(user.to_owned());
        image
    };
    let recorder = Recorder::with([
        JobPayload { variables: vec![variable("TAG", "3")], ..job(&place, 1, "busybox:$TAG", &["echo never"]) },
        JobPayload { services: vec![image("docker:dind")], ..job(&place, 2, "ruby:3", &["echo never"]) },
        JobPayload { image: Some(with_user("$NOBODY root")), ..place.payload(3, &["echo never"]) },
        // These are allowed, and come as far as the engine that is not there.
        job(&place, 4, "default:1", &["echo never"]),
        JobPayload { image: Some(with_user("ci")), ..place.payload(5, &["echo never"]) },
        place.payload(6, &["echo never"]),
    ]);
    run(&recorder, FixedEndpoint::new("bad://endpoint"), config, 1, &CancellationToken::new()).await;
    let image = "\nERROR: The \"busybox:3\" image is not present on list of allowed images:\n- ruby:*\n- reg.tld/**/*:*\n\n\
                 Please check runner's allowed_images configuration: \
                 https://docs.gitlab.com/runner/configuration/advanced-configuration/\n";
    assert!(recorder.trace(1).contains(image), "{}", recorder.trace(1));
    assert!(recorder.trace(1).ends_with("ERROR: Job failed (system failure): disallowed image\n"), "{}", recorder.trace(1));
    assert!(recorder.trace(2).contains("ERROR: The \"docker:dind\" image is not present on list of allowed services:\n- postgres:*\n"));
    let user = "ERROR: Job failed (system failure): user \" root\" is not an allowed user: [ci]\n";
    assert!(recorder.trace(3).ends_with(user), "{}", recorder.trace(3));
    for refused in 1..=3 {
        assert_eq!(recorder.final_update(refused).failure_reason, Some(FailureReason::RunnerSystemFailure));
        assert!(!recorder.trace(refused).contains("Will be retried"), "{}", recorder.trace(refused));
    }
    for allowed in 4..=6 {
        assert!(
            recorder.trace(allowed).contains("the Docker endpoint `bad://endpoint` is of no known kind"),
            "{}",
            recorder.trace(allowed)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn privileges_users_and_entry_points_are_the_runners() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let mut config = place.config();
    config.docker.privileged = true;
    config.docker.user = Some("1000".to_owned());
    config.docker.restrictions = Restrictions {
        privileged_images: vec!["entry:*".to_owned()],
        pull_policies: vec![PullPolicy::Never],
        keep_entrypoints: true,
        ..Restrictions::default()
    };
    config.docker.pull_policies = vec![PullPolicy::Never];
    let capabilities = "grep CapBnd /proc/self/status; id -u; echo \"entry: $FROM_ENTRY_POINT.\"";
    let cleared =
        JobPayload { image: Some(Image { entrypoint: vec![String::new()], ..image("entry:1") }), ..place.payload(1, &[capabilities]) };
    let pulling = Image { pull_policy: vec!["always".to_owned()], ..image("busybox") };
    let recorder = Recorder::with([
        cleared,
        job(&place, 2, "busybox", &[capabilities]),
        JobPayload { image: Some(pulling), ..place.payload(3, &["echo never"]) },
    ]);
    run(&recorder, FixedEndpoint::new(daemon.endpoint()), config, 1, &CancellationToken::new()).await;
    let (privileged, plain, refused) = (recorder.trace(1), recorder.trace(2), recorder.trace(3));
    assert!(privileged.contains("WARNING: Entrypoint override disabled\n") && privileged.contains("entry: yes.\n"), "{privileged}");
    let bounding = |trace: &str| trace.lines().find_map(|line| line.strip_prefix("CapBnd:")).map(str::trim).map(str::to_owned);
    assert_eq!(bounding(&plain).as_deref(), Some("00000000a80425fb"), "{plain}");
    assert_ne!(bounding(&privileged), bounding(&plain), "{privileged}");
    assert!(privileged.contains("\n1000\n") && plain.contains("\n1000\n"), "{plain}");
    let policy = "ERROR: Job failed: invalid pull policy for image \"busybox\": pull_policy ([always]) defined in GitLab pipeline config \
                  is not one of the allowed_pull_policies ([never])\n";
    assert!(refused.ends_with(policy), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_reach_the_containers() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let mut config = place.config();
    let text = |text: &str| text.to_owned();
    config.docker.keep_cache_volumes = false;
    config.docker.containers = ContainerSettings {
        hostname: Some(text("ci-host")),
        dns_search: vec![text("ci.example")],
        extra_hosts: vec![text("mirror.example:192.0.2.7")],
        shm_size_bytes: 8 << 20,
        tmpfs: [(text("/fast"), text("size=1m"))].into(),
        services_tmpfs: [(text("/www/fast"), text("mode=0755"))].into(),
        cap_drop: vec![text("NET_RAW")],
        group_add: vec![text("4242")],
        sysctls: [(text("net.ipv4.ip_unprivileged_port_start"), text("81"))].into(),
        ulimits: vec![Ulimit { name: text("nofile"), soft: 123, hard: 124 }],
        oom_score_adjust: 77,
        ..ContainerSettings::default()
    };
    let script = [
        "hostname; cat /etc/hosts /etc/resolv.conf; df -k /dev/shm /fast; grep CapBnd /proc/self/status; id -G",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; echo kept >> /cache/file",
        "wc -l < /cache/file",
    ];
    let mut first = job(&place, 1, "busybox", &script);
    first.services = vec![Image { command: [text("sh"), text("-c"), text("mount; hostname")].to_vec(), ..image("deaf:1") }];
    first.variables = vec![variable("CI_DEBUG_SERVICES", "true")];
    let recorder = Recorder::with([first, job(&place, 2, "busybox", &script)]);
    config.docker.wait_for_services = std::time::Duration::from_secs(1);
    run(&recorder, FixedEndpoint::new(daemon.endpoint()), config, 1, &CancellationToken::new()).await;
    let (trace, second) = (recorder.trace(1), recorder.trace(2));
    for expected in [
        "\nci-host\n",
        "192.0.2.7\tmirror.example\n",
        "search ci.example\n",
        " 8192 ",
        " 1024 ",
        "CapBnd:\t00000000a80405fb\n",
        " 4242\n",
        "\n81\n77\n123\n124\n",
        "tmpfs on /www/fast type tmpfs",
    ] {
        assert!(trace.contains(expected), "{expected}\n---\n{trace}");
    }
    // The volume of the cache went with the job.
    assert!(second.contains("\n1\n") && second.ends_with("Job succeeded\n"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn canceling_ends_processes_and_keeps_after_script() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let mut payload = job(&place, 1, "busybox", &["trap 'echo terminated; exit 1' TERM; echo started; sleep 1000 & wait"]);
    payload.steps.push(step("after_script", &["echo \"after $CI_JOB_STATUS\""]));
    let recorder = Recorder::with([payload]);
    recorder.cancel_on("\nstarted\n", &recorder.signals.cancel);
    run_jobs(&daemon, &place, &recorder, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("terminated\n"), "{trace}");
    assert!(trace.contains("after canceled\n"), "{trace}");
    assert!(trace.ends_with("ERROR: Job failed: canceled\n"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aborting_leaves_nothing() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[]));
    let mut payload = job(&place, 1, "busybox", &["echo started; sleep 1000"]);
    payload.services = vec![image("web:1")];
    payload.steps.push(step("after_script", &["echo after"]));
    let recorder = Recorder::with([payload]);
    recorder.cancel_on("\nstarted\n", &recorder.signals.abort);
    run_jobs(&daemon, &place, &recorder, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    assert!(!trace.contains("Running after script"), "{trace}");
    assert!(trace.ends_with("ERROR: Job failed: canceled\n"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_where_nothing_listens_is_a_system_failure() {
    let place = Place::new(&[]);
    let recorder = Recorder::with([job(&place, 1, "busybox", &["echo never"])]);
    let engines = FixedEndpoint::new("unix:///nonexistent/docker.sock");
    run(&recorder, engines, place.config(), 1, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    assert!(
        trace.contains("ERROR: Job failed (system failure): connect to the Docker engine at unix:///nonexistent/docker.sock"),
        "{trace}"
    );
    assert_eq!(recorder.final_update(1).failure_reason, Some(FailureReason::RunnerSystemFailure));
}

/// Lends a daemon that has the helper in its own file system, as an engine made for one job.
struct Lender {
    endpoint: String,
    program: String,
    lent: Arc<AtomicUsize>,
}

impl EngineProvider for Lender {
    fn acquire(&self, _request: EngineRequest) -> BoxFuture<'_, Result<EngineLease, AcquireEngineError>> {
        self.lent.fetch_add(1, Ordering::SeqCst);
        let lent = Arc::clone(&self.lent);
        let release = move || async move { lent.store(0, Ordering::SeqCst) }.boxed();
        let lease = EngineLease::job_scoped(self.endpoint.clone(), release).with_program(self.program.clone());
        async move { Ok(lease) }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_the_jobs_own_is_given_back_and_brings_the_helper() {
    requires!(Root, Command("dockerd"), Command("busybox"), DockerCli);
    let (daemon, place) = (Dockerd::shared(), Place::new(&[("file", "content\n")]));
    let lent = Arc::<AtomicUsize>::default();
    let lender = |endpoint: String| Lender { endpoint, program: helper_binary().display().to_string(), lent: Arc::clone(&lent) };
    let mut config = place.config();
    // The daemon's own file system is that of this machine, where its socket is not in the usual place.
    config.docker.job_engine_socket = false;
    // Of use here, and in no container.
    config.docker.helper_binary = place.root.path().join("helper");
    fs::write(&config.docker.helper_binary, format!("#!/bin/sh\nexec {} \"$@\"\n", helper_binary().display())).expect("a script");
    fs::set_permissions(&config.docker.helper_binary, fs::Permissions::from_mode(0o755)).expect("its mode");
    let recorder = Recorder::with([job(&place, 1, "busybox", &["cat file"])]);
    run(&recorder, lender(daemon.endpoint()), config.clone(), 1, &CancellationToken::new()).await;
    let trace = recorder.trace(1);
    assert!(trace.contains("\ncontent\n") && trace.ends_with("Job succeeded\n"), "{trace}");
    assert_eq!(lent.load(Ordering::SeqCst), 0);

    let recorder = Recorder::with([job(&place, 1, "busybox", &["cat file"])]);
    run(&recorder, lender("tcp://127.0.0.1:1".to_owned()), config, 1, &CancellationToken::new()).await;
    assert_eq!(recorder.final_update(1).failure_reason, Some(FailureReason::RunnerSystemFailure));
    assert_eq!(lent.load(Ordering::SeqCst), 0, "an engine that does not answer is given back, too");
}
