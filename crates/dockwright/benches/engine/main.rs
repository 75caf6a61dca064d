//! The promised figures of the engine, beside a real Docker daemon in the same run. Run it with `cargo xtask bench`.
//!
//! Everything goes over HTTP on a unix socket on both sides, so what is compared is the daemon, not a client. The daemon of the
//! comparison is warm: it was started before, and its rebuild finds its own cache. Ours starts a new engine for every rebuild.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

mod docker;
mod dockerd;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dockwright_engine::host::{EngineHost, EngineSpec, HostConfig, IdPool, PublishMode, TrustScope};
use tokio::runtime::Runtime;

use crate::{docker::Docker, dockerd::Dockerd};

/// How often each thing is measured.
#[derive(Debug, clap::Parser)]
struct Arguments {
    #[arg(long, default_value_t = 1000)]
    engines: usize,
    #[arg(long, default_value_t = 100)]
    containers: usize,
    #[arg(long, default_value_t = 20)]
    builds: usize,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = <Arguments as clap::Parser>::parse();
    if let Some(reason) = dockwright_testing::Requirement::Root.missing() {
        println!("SKIPPED: the bench of the engine: {reason}");
        return;
    }
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("no other provider is installed");
    let ours = Ours::start();
    println!("| Figure | Dockwright | dockerd 20.10 | ratio |");
    println!("|---|---|---|---|");
    // Before there is a daemon beside ours: what is resident is counted over all children of this process.
    engine_starts(&ours, arguments.engines);
    match &Dockerd::start() {
        Ok(dockerd) => {
            dockerd.docker().import(&busybox(), "busybox");
            containers(&ours, Some(&dockerd.docker()), arguments.containers);
            rebuilds(&ours, Some(&dockerd.docker()), arguments.builds);
        }
        Err(reason) => {
            println!("SKIPPED: comparison with dockerd: {reason}");
            containers(&ours, None, arguments.containers);
            rebuilds(&ours, None, arguments.builds);
        }
    }
}

/// An engine host in this process, as `dockwright internal engine-host` has one.
struct Ours {
    runtime: Runtime,
    host: EngineHost,
    directory: tempfile::TempDir,
}

impl Ours {
    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("dockwright-bench-").tempdir().expect("temporary directory");
        let home = directory.path().join("home");
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_dockwright"));
        let status = std::process::Command::new(&binary)
            .args(["image", "import", "--change", "CMD [\"sh\"]", "busybox:latest"])
            .arg(busybox())
            .env("DOCKWRIGHT_HOME", &home)
            .status()
            .expect("dockwright starts");
        assert!(status.success(), "the image was not imported: {status}");
        let runtime = Runtime::new().expect("tokio runtime");
        let config = HostConfig { home, binary, registry: None, ids: IdPool::default() };
        let host = EngineHost::start(config).expect("the engine host starts");
        Self { runtime, host, directory }
    }

    /// Starts an engine of a new job and returns its API.
    fn engine(&self, id: &str) -> Docker {
        let socket_dir = self.directory.path().join("sockets").join(id);
        fs::create_dir_all(&socket_dir).expect("directory");
        let spec = EngineSpec {
            id: id.to_owned(),
            name: String::new(),
            scope: TrustScope { project: "bench/bench".to_owned(), protected: false },
            credentials: Vec::new(),
            registry_user: None,
            shared_paths: Vec::new(),
            shared_owner: 0,
            socket_dir: socket_dir.clone(),
            owner_apart: false,
            egress: false,
            publish: PublishMode::Sandbox,
        };
        self.runtime.block_on(self.host.create_engine(spec)).expect("an engine starts");
        Docker::at(socket_dir.join("docker.sock"))
    }

    fn remove(&self, id: &str) {
        assert!(self.runtime.block_on(self.host.remove_engine(id)), "engine {id} was not there");
    }
}

fn busybox() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/stand-ins/busybox.tar")
}

/// From asking for a job's engine to the answer of the first `docker info`.
fn engine_starts(ours: &Ours, count: usize) {
    let mut failures = 0;
    let mut resident = 0;
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let id = format!("start-{number}");
        let begin = Instant::now();
        let docker = ours.engine(&id);
        match docker.info() {
            Ok(200) => times.push(begin.elapsed()),
            _ => failures += 1,
        }
        if number + 1 == count {
            resident = resident_bytes();
        }
        ours.remove(&id);
    }
    println!(
        "| first `docker info` in a new job, {count} starts, {failures} failures: median / 99th percentile | {} / {} | – | – |",
        millis(percentile(&mut times, 50)),
        millis(percentile(&mut times, 99))
    );
    println!("| idle engine of a job, resident (engine and PID 1) | {:.1} MB | – | – |", resident as f64 / 1e6);
}

/// Resident bytes of all processes in sandboxes of this bench: descendants of this process.
fn resident_bytes() -> u64 {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        parents.push((pid, field("PPid:").unwrap_or(0) as u32, field("VmRSS:").unwrap_or(0) * 1024));
    }
    let mut family = vec![std::process::id()];
    let mut bytes = 0;
    while let Some(parent) = family.pop() {
        for (pid, _, resident) in parents.iter().filter(|(_, of, _)| *of == parent) {
            bytes += resident;
            family.push(*pid);
        }
    }
    bytes
}

/// Create, start, wait and remove of `true`.
fn containers(ours: &Ours, theirs: Option<&Docker>, count: usize) {
    let docker = ours.engine("containers");
    docker.pull("busybox");
    let mut our_times: Vec<Duration> = (0..count).map(|_| docker.run_true()).collect();
    ours.remove("containers");
    let mut their_times: Vec<Duration> = theirs.map(|docker| (0..count).map(|_| docker.run_true()).collect()).unwrap_or_default();
    row(&format!("create, start, wait, remove of `true`, median of {count}"), &mut our_times, &mut their_times);
}

/// Building again what did not change; ours in a new job each time.
fn rebuilds(ours: &Ours, theirs: Option<&Docker>, count: usize) {
    let context = context();
    let build = |number: usize| {
        let id = format!("build-{number}");
        let docker = ours.engine(&id);
        let begin = Instant::now();
        docker.pull("busybox");
        let (_, printed) = docker.build(&context);
        let took = begin.elapsed();
        ours.remove(&id);
        (took, printed)
    };
    build(count);
    let mut our_times = Vec::new();
    for number in 0..count {
        let (took, printed) = build(number);
        assert_eq!(printed.matches("Using cache").count(), STEPS, "{printed}");
        our_times.push(took);
    }
    let mut their_times = Vec::new();
    if let Some(docker) = theirs {
        docker.build(&context);
        for _ in 0..count {
            let (took, printed) = docker.build(&context);
            assert_eq!(printed.matches("Using cache").count(), STEPS, "{printed}");
            their_times.push(took);
        }
    }
    row(
        &format!("rebuild of {STEPS} unchanged steps (ours in a new job, with the pull), median of {count}"),
        &mut our_times,
        &mut their_times,
    );
}

/// Steps of the context's Dockerfile after `FROM`.
const STEPS: usize = 5;

/// A context of 200 files of 4 KiB.
fn context() -> Vec<u8> {
    let dockerfile =
        "FROM busybox\nWORKDIR /app\nCOPY files /app/files\nRUN find /app -type f | wc -l > /app/count\nENV A=b\nCMD [\"true\"]\n";
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::create_dir(directory.path().join("files")).expect("directory");
    fs::write(directory.path().join("Dockerfile"), dockerfile).expect("file");
    for number in 0..200_u32 {
        let content: Vec<u8> = (0..4096_u32).map(|byte| byte.wrapping_mul(number).to_le_bytes()[0]).collect();
        fs::write(directory.path().join("files").join(number.to_string()), content).expect("file");
    }
    let output = std::process::Command::new("tar")
        .args(["--sort=name", "--mtime=@0", "-cf", "-", "."])
        .current_dir(directory.path())
        .output()
        .expect("tar runs");
    assert!(output.status.success(), "tar ended with {}", output.status);
    output.stdout
}

fn row(what: &str, ours: &mut [Duration], theirs: &mut [Duration]) {
    let our_median = percentile(ours, 50);
    if theirs.is_empty() {
        println!("| {what} | {} | – | – |", millis(our_median));
        return;
    }
    let their_median = percentile(theirs, 50);
    let ratio = their_median.as_secs_f64() / our_median.as_secs_f64();
    println!("| {what} | {} | {} | {ratio:.1} times faster |", millis(our_median), millis(their_median));
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(rank).copied().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
