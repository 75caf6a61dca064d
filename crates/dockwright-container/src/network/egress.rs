//! The way out of a sandbox: a user-mode network stack of the host's, if one is installed and usable.
//!
//! `slirp4netns` or `pasta` runs beside the engine host, with a tap interface in the sandbox's network namespace, and turns what arrives
//! there into ordinary connections of its user. Both are set to the same addresses, so nothing inside depends on which it is:
//!
//! | Address | What |
//! |---|---|
//! | 10.0.2.100/24 | the sandbox, on `tap0` |
//! | 10.0.2.2 | gateway |
//! | 10.0.2.3 | name server, answering as the host would |
//!
//! Without either, a sandbox has no network but its own, which its job should be told.

use std::{
    fs, io,
    io::Read as _,
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{io::FdFlags, process::Signal};

use crate::{rootless, sandbox::Sandbox, starter};

/// The interface in the sandbox.
pub const INTERFACE: &str = "tap0";

/// The name server that the sandbox's `/etc/resolv.conf` should name when there is a way out.
pub const NAMESERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

const ADDRESS: &str = "10.0.2.100";
const GATEWAY: &str = "10.0.2.2";
/// Large packets make user-mode networking several times faster.
const MTU: &str = "65520";
/// How long a program may take to set up its interface, which is a matter of milliseconds.
const SETUP_LIMIT_SECS: u64 = 10;
/// Between two looks for an interface, where the program does not say when it is ready.
const LOOK_INTERVAL_MILLIS: u64 = 5;

/// A sandbox has no way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this job has no network: {}", .reasons.join("; "))]
pub struct NoEgress {
    /// Why, for each program that could have provided it.
    pub reasons: Vec<String>,
}

impl NoEgress {
    /// Returns what to do about it.
    pub fn remedy(&self) -> &'static str {
        "install `slirp4netns` or `passt` (`sudo apt-get install slirp4netns`), and let users open the tun device: `sudo chmod 0666 /dev/net/tun`"
    }
}

/// A running user-mode network stack. It ends with the sandbox, with this value, or with the process.
#[derive(Debug)]
pub struct Egress {
    program: &'static str,
    child: Child,
    /// slirp4netns ends when the other end of this closes.
    _lifeline: Option<OwnedFd>,
}

impl Egress {
    /// Connects a sandbox to the host's network.
    pub fn start(sandbox: &Sandbox) -> Result<Self, NoEgress> {
        let mut reasons = Vec::new();
        for (program, start) in [("slirp4netns", slirp4netns as fn(&Sandbox, PathBuf) -> io::Result<Self>), ("pasta", pasta)] {
            let Some(path) = find(program) else {
                reasons.push(format!("{program} is not installed"));
                continue;
            };
            match start(sandbox, path) {
                Ok(egress) => return Ok(egress),
                Err(error) => reasons.push(format!("{program}: {error}")),
            }
        }
        Err(NoEgress { reasons })
    }

    /// Returns the program's name.
    pub fn program(&self) -> &'static str {
        self.program
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin:/usr/sbin".into());
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|candidate| candidate.is_file())
}

fn slirp4netns(sandbox: &Sandbox, path: PathBuf) -> io::Result<Egress> {
    let (ready, readying) = io::pipe()?;
    let (exit, lifeline) = io::pipe()?;
    let mut command = Command::new(path);
    command.args(["--configure", "--mtu", MTU, "--disable-host-loopback", "--netns-type", "path"]);
    if !rootless::is_host_root() {
        command.arg("--userns-path").arg(format!("/proc/{}/ns/user", sandbox.pid()));
    }
    // The numbers are kept through the exec; both programs' ends are closed here right after.
    command.arg(format!("--ready-fd={}", readying.as_raw_fd())).arg(format!("--exit-fd={}", exit.as_raw_fd()));
    command.arg(format!("/proc/{}/ns/net", sandbox.pid())).arg(INTERFACE);
    let mut child = spawn(command, vec![readying.into(), exit.into()])?;
    let mut word = [0];
    let mut ready = ready;
    if ready.read(&mut word)? == 0 {
        return Err(complaint(&mut child));
    }
    Ok(Egress { program: "slirp4netns", child, _lifeline: Some(lifeline.into()) })
}

fn pasta(sandbox: &Sandbox, path: PathBuf) -> io::Result<Egress> {
    let mut command = Command::new(path);
    command.args(["--foreground", "--quiet", "--config-net", "--ns-ifname", INTERFACE, "--mtu", MTU]);
    command.args(["--address", ADDRESS, "--netmask", "24", "--gateway", GATEWAY, "--dns-forward", &NAMESERVER.to_string()]);
    command.args(["--no-map-gw", "--ipv4-only", "--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"]);
    if rootless::is_host_root() {
        // It would become nobody, who may not enter the namespace.
        command.args(["--runas", "0"]);
    }
    command.arg("--userns").arg(format!("/proc/{}/ns/user", sandbox.pid()));
    command.arg("--netns").arg(format!("/proc/{}/ns/net", sandbox.pid()));
    let mut child = spawn(command, Vec::new())?;
    let devices = format!("/proc/{}/net/route", sandbox.pid());
    let deadline = Instant::now() + Duration::from_secs(SETUP_LIMIT_SECS);
    loop {
        if child.try_wait()?.is_some() {
            return Err(complaint(&mut child));
        }
        // The default route is the last thing it makes.
        if fs::read_to_string(&devices).is_ok_and(|routes| routes.lines().any(|line| line.starts_with(INTERFACE))) {
            return Ok(Egress { program: "pasta", child, _lifeline: None });
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no interface after {SETUP_LIMIT_SECS} s")));
        }
        std::thread::sleep(Duration::from_millis(LOOK_INTERVAL_MILLIS));
    }
}

/// Starts a program that gets some descriptors and dies with this process.
fn spawn(mut command: Command, descriptors: Vec<OwnedFd>) -> io::Result<Child> {
    starter::run(move || {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let numbers: Vec<i32> = descriptors.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
        // SAFETY: between fork and exec this only makes system calls that are safe there: fcntl and prctl.
        unsafe {
            command.pre_exec(move || {
                for number in &numbers {
                    let descriptor = std::os::fd::BorrowedFd::borrow_raw(*number);
                    rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
                }
                Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
            });
        }
        let child = command.spawn();
        drop(descriptors);
        child
    })
}

/// Returns what a program said before it ended.
fn complaint(child: &mut Child) -> io::Error {
    // It may still be about to end, and with it what it holds open.
    let _ = child.kill();
    let _ = child.wait();
    let mut text = String::new();
    if let Some(stderr) = &mut child.stderr {
        // What could be read is what there is to say.
        let _ = stderr.read_to_string(&mut text);
    }
    let line = text.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with("Failed to send")).unwrap_or("it ended");
    io::Error::other(line.trim().to_owned())
}
