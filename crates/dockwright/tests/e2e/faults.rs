//! What a killed run leaves behind.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::world::{Client, Identity, World, for_each_world, text, world};

/// A deterministic sequence of delays; the seed is printed so that a failure can be repeated.
struct Delays(u64);

impl Delays {
    fn next_millis(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Processes whose environment names this world's home, other than this test.
fn processes_of(world: &World) -> Vec<String> {
    let home = world.path().join("home");
    let needle = format!("DOCKWRIGHT_HOME={}", home.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // A zombie has neither; it ends with its parent.
        if environment.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes()) {
            found.push(format!("{pid}: {}", String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

fn host_mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("mountinfo")
}

fn host_interfaces() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .expect("/sys/class/net")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Control groups that a run left: those of its engines have its process id in their names.
fn cgroups_of(run: u32) -> Vec<String> {
    let names = format!("dockwright-*-job-{run}-*");
    let output = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &names]).output().expect("find runs");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Directories of engines; `.ids` beside them holds only the locks of id ranges.
fn scratch_directories(world: &World) -> Vec<String> {
    let jobs = fs::read_dir(world.path().join("home/jobs")).expect("runs made it");
    let names = jobs.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

fn wait_until_gone(world: &World) {
    // The kernel ends a namespace's processes after its PID 1; it is quick, and not instant.
    for _ in 0..500 {
        if processes_of(world).is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("still running:\n{}", processes_of(world).join("\n"));
}

/// `kill -9` of the run at random moments: no process, mount, interface or control group is left, the next start sweeps what lies on
/// disk, and the store is sound.
#[test]
fn killed_at_random_moments() {
    for (identity, kills) in [(Identity::Caller, 50), (Identity::OrdinaryUser, 15)] {
        // A world of its own: what it asserts must not depend on other tests' runs.
        if world(&format!("faults::killed_at_random_moments ({identity:?})"), identity, Client::Debian).is_some() {
            kill_at_random_moments(&World::separate(identity, Client::Debian), kills);
        }
    }
}

fn kill_at_random_moments(world: &World, kills: usize) {
    const SEED: u64 = 20_261_123;
    let configuration: &[u8] = b"image: docker:19.03.12
services: [\"docker:19.03.12-dind\"]
variables: {DOCKER_TLS_CERTDIR: /certs}
build:
  script:
    - docker login -u $CI_REGISTRY_USER -p $CI_REGISTRY_PASSWORD $CI_REGISTRY
    - date +%N > stamp
    - docker build -t $CI_REGISTRY_IMAGE:latest .
    - docker run -d $CI_REGISTRY_IMAGE:latest sleep 100
    - docker push $CI_REGISTRY_IMAGE:latest
";
    let dockerfile: &[u8] = b"FROM busybox\nCOPY stamp /\nRUN dd if=/dev/zero of=/zeros bs=1k count=2048\nCOPY stamp /again\n";
    let repository = world.repository("killed", &[(".gitlab-ci.yml", configuration), ("Dockerfile", dockerfile)]);
    let (mounts, interfaces) = (host_mounts(), host_interfaces());
    let mut delays = Delays(SEED);
    for kill in 0..kills {
        let mut run = world
            .dockwright()
            .arg("run")
            .current_dir(&repository)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dockwright starts");
        let delay = delays.next_millis(2_500);
        thread::sleep(Duration::from_millis(delay));
        run.kill().expect("kill");
        run.wait().expect("wait");
        wait_until_gone(world);
        assert_eq!(host_mounts(), mounts, "kill {kill} after {delay} ms left a mount");
        assert_eq!(host_interfaces(), interfaces, "kill {kill} after {delay} ms left an interface");
        assert_eq!(cgroups_of(run.id()), Vec::<String>::new(), "kill {kill} after {delay} ms left a control group");
    }
    // The next start sweeps and works.
    let printed = world.run_green(&repository, &[]);
    assert!(printed.contains("digest: sha256:"), "{printed}");
    assert_eq!(scratch_directories(world), Vec::<String>::new(), "scratch directories are left");
    let doctor = world.dockwright().args(["doctor", "--store"]).output().expect("doctor runs");
    assert!(doctor.status.success(), "{}", text(&doctor));
}

/// A job whose engine host dies fails for the system's reasons, and the next one gets an engine from another host.
#[test]
fn a_dead_engine_host_is_replaced() {
    let configuration: &[u8] = b"stages: [one, two]
image: busybox
first:
  stage: one
  script: [sleep 60]
  allow_failure: true
second:
  stage: two
  script: [echo alive]
";
    if world("faults::a_dead_engine_host_is_replaced", Identity::Caller, Client::Debian).is_none() {
        return;
    }
    let world = &World::separate(Identity::Caller, Client::Debian);
    let repository = world.repository("dead-host", &[(".gitlab-ci.yml", configuration)]);
    let mut run = world.dockwright();
    let mut run = run.arg("run").current_dir(&repository).stdout(Stdio::piped()).spawn().expect("dockwright starts");
    let mut printed = BufReader::new(run.stdout.take().expect("its output"));
    let mut line = String::new();
    while !line.contains("$ sleep 60") {
        line.clear();
        assert!(printed.read_line(&mut line).expect("text") > 0, "the first job did not begin");
    }
    let host = processes_of(world).into_iter().find(|process| process.contains("internal engine-host")).expect("an engine host");
    let host = host.split(':').next().expect("its number").to_owned();
    assert!(Command::new("kill").args(["-KILL", &host]).status().expect("kill runs").success());
    let mut rest = String::new();
    printed.read_to_string(&mut rest).expect("text");
    assert!(run.wait().expect("dockwright ends").success(), "{rest}");
    assert!(rest.contains("Job failed (system failure)") && rest.contains("alive"), "{rest}");
    // What the trace calls a system failure is a reason of its own at the coordinator.
    assert_eq!(dockwright_testing::documented_fault("a_dead_engine_host_is_replaced").failure_reason, "runner_system_failure");
}

/// A broken project and what must be said about it.
struct Broken {
    name: &'static str,
    configuration: &'static str,
    arguments: &'static [&'static str],
    exit_code: i32,
    says: &'static str,
}

const BROKEN: &[Broken] = &[
    Broken { name: "broken-yaml", configuration: "build:\n  script: [unclosed\n", arguments: &[], exit_code: 3, says: ".gitlab-ci.yml:" },
    Broken { name: "unknown-job", configuration: "build:\n  script: [\"true\"]\n", arguments: &["biuld"], exit_code: 2, says: "`build`" },
    Broken {
        name: "missing-image",
        configuration: "build:\n  image: registry.invalid/image:1\n  script: [\"true\"]\n",
        arguments: &[],
        exit_code: 1,
        says: "registry.invalid/image:1",
    },
    Broken {
        name: "dockerfile",
        configuration: "build:\n  image: docker:19.03.12\n  script: [\"docker build .\"]\n",
        arguments: &[],
        exit_code: 1,
        says: "dockerfile parse error line 2",
    },
];

/// Broken input ends with one clear message, the documented exit code, and nothing half-made.
#[test]
fn bad_input_is_explained() {
    for_each_world("faults::bad_input_is_explained", |world| {
        for case in BROKEN {
            let files: &[(&str, &[u8])] = &[(".gitlab-ci.yml", case.configuration.as_bytes()), ("Dockerfile", b"FROM busybox\nRNU true\n")];
            let output = world.run(&world.repository(case.name, files), case.arguments);
            assert_eq!(output.status.code(), Some(case.exit_code), "{}:\n{}", case.name, text(&output));
            assert!(text(&output).contains(case.says), "{} does not say `{}`:\n{}", case.name, case.says, text(&output));
        }
    });
}

/// Without a program that carries packets out, or without the right to the tun device, containers have no network, and the job's trace says
/// so with the remedy.
#[test]
fn a_job_without_a_way_out_says_so() {
    use std::os::unix::fs::PermissionsExt as _;
    const TEST: &str = "faults::a_job_without_a_way_out_says_so";
    if fs::metadata("/dev/net/tun").is_ok_and(|tun| tun.permissions().mode() & 0o006 == 0o006) {
        return dockwright_testing::skip(TEST, "every user may open /dev/net/tun");
    }
    let Some(world) = world(TEST, Identity::OrdinaryUser, Client::Debian) else { return };
    let configuration: &[u8] = b"build:\n  image: docker:19.03.12\n  script: [\"true\"]\n";
    let printed = world.run_green(&world.repository("no-network", &[(".gitlab-ci.yml", configuration)]), &[]);
    assert!(printed.contains("WARNING: this job has no network: "), "{printed}");
    assert!(printed.contains("/dev/net/tun"), "{printed}");
}
