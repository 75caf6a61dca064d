//! A sandbox with a command line: runs one container from a directory and exits as it did.
//!
//! ```sh
//! cargo run -p dockwright-container --example probe -- run ROOT COMMAND...
//! ```
//!
//! It is also what the integration tests execute as a sandbox's binary: the role `internal relay` hands its spawner connection to the test,
//! and then does what only a process in the sandbox's network can do.

#![expect(clippy::print_stderr, reason = "it is a command line tool")]

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::channel,
};

use dockwright_container::{
    internal,
    network::{self, Bridge},
    process::{ContainerSpec, Limits, ProcessSpec, Rootfs},
    rootless,
    sandbox::{self, IdMapping, Sandbox, SandboxSpec, SharedPath},
    socket,
    spawner::{SpawnerClient, Stdio},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["internal", "sandbox"] => internal::sandbox_main(),
        ["internal", "engine", root, command @ ..] => engine(root, command),
        ["internal", "init", ..] => internal::init_main(env::args_os().skip(3)),
        ["internal", "relay"] => relay(),
        ["run", root, command @ ..] => run(root, command),
        _ => {
            eprintln!("usage: probe run ROOT COMMAND...");
            ExitCode::from(2)
        }
    }
}

fn run(root: &str, command: &[&str]) -> ExitCode {
    if let Err(error) = rootless::enter_host_namespace() {
        eprintln!("error: {error}\nhint: {}", error.remedy().unwrap_or_default());
        return ExitCode::FAILURE;
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let root = PathBuf::from(root);
    let is_root = rootless::is_host_root();
    let spec = SandboxSpec {
        id: "probe".to_owned(),
        binary: sandbox::open_program("/proc/self/exe".as_ref(), &scratch.path().join("program")).expect("the own binary"),
        sandbox_arguments: vec!["internal".into(), "sandbox".into()],
        ids: if is_root { IdMapping::Range { first: 1 << 20 } } else { IdMapping::Identity },
        hostname: String::new(),
        scratch: scratch.path().to_owned(),
        shared: vec![SharedPath { source: root.clone(), target: root.clone(), owner: 0, read_only: false }],
        resolv_conf: String::new(),
        engine_arguments: ["internal", "engine", root.to_str().expect("a UTF-8 path")].iter().chain(command).map(Into::into).collect(),
        engine_environment: Vec::new(),
        // The log is for messages; what the container prints is the probe's output.
        descriptors: vec![("stdout".to_owned(), std::io::stdout().as_fd().try_clone_to_owned().expect("copy standard output"))],
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
    let stdout = sandbox::inherited("stdout").expect("the engine is given a standard output");
    let (stdin, stderr) = (std::io::stdin(), std::io::stderr());
    let stdio = Stdio { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() };
    if let Err(error) = client.start(&spec, Some(stdio), &[]) {
        eprintln!("{error}");
        return ExitCode::from(125);
    }
    let event = receiver.recv().expect("the container ends");
    ExitCode::from(u8::try_from(event.status.code()).unwrap_or(255))
}

/// Gives the test the spawner connection, then obeys lines: `bridge NAME ADDRESS PREFIX`, `delete NAME`, `dial ADDRESS:PORT`,
/// `read PATH`. Ends with the test's connection.
fn relay() -> ExitCode {
    let spawner = sandbox::inherited("spawner").expect("the engine is given a spawner");
    let test = sandbox::inherited("test").expect("the test gave a socket");
    socket::send_with_fds(&test, b"", &[spawner.as_fd()]).expect("the test listens");
    drop(spawner);
    let mut answers = fs::File::from(test.try_clone().expect("copy the socket"));
    for line in BufReader::new(fs::File::from(test)).lines() {
        let Ok(line) = line else { break };
        let words: Vec<&str> = line.split(' ').collect();
        let result = obey(&words).map_or_else(|error| format!("error: {error:#?}"), |answer| format!("ok {answer}"));
        if writeln!(answers, "{}", result.replace('\n', " | ")).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn obey(words: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    match words {
        ["bridge", name, address, prefix] => {
            let bridge = Bridge { name: (*name).to_owned(), addresses: vec![(address.parse()?, prefix.parse()?)], mtu: None };
            network::create_bridge(&bridge)?;
            Ok(String::new())
        }
        ["delete", name] => {
            network::delete_link(name)?;
            Ok(network::link_exists(name).to_string())
        }
        ["dial", address] => {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut std::net::TcpStream::connect(address)?, &mut text)?;
            Ok(text)
        }
        ["read", path] => Ok(fs::read_to_string(path)?),
        ["write", path, text] => {
            fs::write(path, text)?;
            Ok(String::new())
        }
        _ => Err(format!("unknown request {words:?}").into()),
    }
}
