//! A sandbox with a command line: runs one container from a directory and exits as it did.
//!
//! ```sh
//! cargo run -p dockwright-container --example probe -- run ROOT COMMAND...
//! ```
//!
//! It is also what the integration tests execute as a sandbox's binary, so it plays all the roles that the `dockwright` binary plays.

use std::{env, fs, os::fd::AsFd as _, path::PathBuf, process::ExitCode, sync::mpsc::channel};

use dockwright_container::{
    internal,
    process::{ContainerSpec, Limits, ProcessSpec, Rootfs},
    rootless,
    sandbox::{self, IdMapping, Sandbox, SandboxSpec, SharedPath},
    spawner::{SpawnerClient, Stdio},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["internal", "sandbox"] => internal::sandbox_main(),
        ["internal", "engine", root, command @ ..] => engine(root, command),
        ["run", root, command @ ..] => run(root, command),
        _ => {
            eprintln!("usage: probe run ROOT COMMAND...");
            ExitCode::from(2)
        }
    }
}

fn run(root: &str, command: &[&str]) -> ExitCode {
    rootless::enter_host_namespace().expect("enter the engine host's namespace");
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let root = PathBuf::from(root);
    let is_root = rootless::is_host_root();
    let spec = SandboxSpec {
        id: "probe".to_owned(),
        binary: fs::File::open("/proc/self/exe").expect("the own binary").into(),
        sandbox_arguments: vec!["internal".into(), "sandbox".into()],
        ids: if is_root { IdMapping::Range { first: 1 << 20 } } else { IdMapping::Identity },
        hostname: String::new(),
        scratch: scratch.path().to_owned(),
        shared: vec![SharedPath { source: root.clone(), target: root.clone(), owner: 0, read_only: false }],
        resolv_conf: String::new(),
        engine_arguments: ["internal", "engine", root.to_str().expect("a UTF-8 path")].iter().chain(command).map(Into::into).collect(),
        engine_environment: Vec::new(),
        descriptors: Vec::new(),
        log: Some(std::io::stderr().as_fd().try_clone_to_owned().expect("copy standard error")),
        limits: Limits::default(),
    };
    let sandbox = match Sandbox::spawn(spec) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            eprintln!("{error}: {:?}", std::error::Error::source(&error));
            return ExitCode::FAILURE;
        }
    };
    sandbox.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    let status = sandbox.wait().expect("wait for the sandbox");
    ExitCode::from(u8::try_from(status.code()).unwrap_or(255))
}

fn engine(root: &str, command: &[&str]) -> ExitCode {
    let (sender, receiver) = channel();
    let spawner = sandbox::inherited("spawner").expect("the engine is given a spawner");
    let client = SpawnerClient::new(spawner, move |event| sender.send(event).expect("the receiver lives as long")).expect("a thread");
    let spec = ContainerSpec::new("probe", Rootfs::Directory(root.into()), ProcessSpec::new(command.iter().copied()));
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let stdio = Stdio { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() };
    if let Err(error) = client.start(&spec, Some(stdio), &[]) {
        eprintln!("{error}");
        return ExitCode::from(125);
    }
    let event = receiver.recv().expect("the container ends");
    ExitCode::from(u8::try_from(event.status.code()).unwrap_or(255))
}
