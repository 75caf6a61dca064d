//! The last steps of every process: streams, limits, user, capabilities, filter, exec. Runs inside the container's root.

use std::{
    ffi::{CString, OsStr},
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    process::{DumpableBehavior, Gid, Pid, Resource, Uid, set_dumpable_behavior},
    thread::{CapabilitySet, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::{
    ProcessSpec, Refusal, Reporter, Rlimit, Seccomp, TerminalSize, capabilities,
    report::{Doing as _, describe},
    user::{self, Identity},
};
use crate::{
    internal::INIT_ARGUMENTS,
    sandbox::init::{c_path, c_strings},
    seccomp,
    sys::{self, Fork},
};

/// What Docker assumes when an image sets no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Standard streams of the process.
pub(crate) enum Streams {
    /// Three descriptors.
    Given(Vec<OwnedFd>),
    /// The process's end of a terminal.
    Terminal(OwnedFd),
}

/// Becomes the process, or reports why not. With `init`, the binary for that, a child becomes the process and this one reaps for it.
pub(crate) fn execute(spec: &ProcessSpec, streams: &Streams, init: Option<OwnedFd>, reporter: Reporter) -> ! {
    match prepare(spec, streams, init.as_ref()) {
        Ok(Prepared::Process(refusal)) | Err(refusal) => {
            reporter.failed(refusal);
            sys::exit_now(127)
        }
        Ok(Prepared::Init { child, identity }) => {
            // Otherwise PID 1 of the sandbox would wait for this copy to close.
            drop(reporter);
            become_init(init, child, &identity)
        }
    }
}

enum Prepared {
    /// The process was not executed after all.
    Process(Refusal),
    /// This is the reaper.
    Init { child: Pid, identity: Identity },
}

fn prepare(spec: &ProcessSpec, streams: &Streams, init: Option<&OwnedFd>) -> Result<Prepared, Refusal> {
    let wanted = spec.capabilities.resolve()?;
    let identity = user::look_up(&spec.user, &spec.additional_groups)?;
    raise_oom_score(spec.oom_score_adj);
    sys::close_on_exec_from(3).doing(|| "close descriptors on exec".to_owned())?;
    set_limits(&spec.rlimits)?;
    if init.is_some() {
        // Before the filter, which does not let processes fork the way we do.
        // SAFETY: this process has one thread.
        if let Fork::Parent(child, _) = unsafe { sys::fork(0) }.doing(|| "fork the process".to_owned())? {
            return Ok(Prepared::Init { child, identity });
        }
    }
    connect_streams(streams, &identity)?;
    let directory = if spec.cwd.is_empty() { "/" } else { &spec.cwd };
    let entered = enter_directory(directory);
    capabilities::limit_bounding_set(wanted).doing(|| "drop capabilities".to_owned())?;
    become_user(&identity).doing(|| format!("switch to uid {}", identity.uid))?;
    if entered.is_err() {
        // Root of the container may not enter what its user may, for example on a network file system.
        enter_directory(directory)?;
    }
    capabilities::apply(wanted, CapabilitySet::SYS_ADMIN).doing(|| "set capabilities".to_owned())?;
    if spec.no_new_privileges {
        rustix::thread::set_no_new_privs(true).doing(|| "forbid new privileges".to_owned())?;
    }
    let environment = environment(spec, &identity)?;
    let arguments = c_strings(spec.args.iter().map(|argument| argument.clone().into_bytes()));
    let arguments = arguments.map_err(|_| Refusal::invalid("an argument contains a zero byte"))?;
    if spec.seccomp == Seccomp::Default && !spec.capabilities.privileged {
        // Without no_new_privs this takes CAP_SYS_ADMIN, which is given up right after.
        sys::install_filter(&seccomp::default_filter(wanted)).doing(|| "install the system call filter".to_owned())?;
    }
    capabilities::apply(wanted, CapabilitySet::empty()).doing(|| "set capabilities".to_owned())?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::reset_signals();
    Ok(Prepared::Process(run(spec, &arguments, &environment)))
}

/// The score of a process starts as the sandbox's; only a raise is possible without privilege, so that is what is tried.
fn raise_oom_score(score: Option<i32>) {
    if let Some(score) = score {
        // Refused when it would be a reduction, which Docker's own documentation calls best effort in user namespaces.
        let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
    }
}

fn set_limits(limits: &[Rlimit]) -> Result<(), Refusal> {
    for limit in limits {
        let resource = resource(&limit.name)?;
        let had = rustix::process::getrlimit(resource);
        let value = |value: i64| u64::try_from(value).ok();
        let lower = |wanted: Option<u64>, bound: Option<u64>| match (wanted, bound) {
            (Some(wanted), Some(bound)) => Some(wanted.min(bound)),
            (wanted, bound) => wanted.or(bound),
        };
        let hard = lower(value(limit.hard), had.maximum);
        let soft = lower(value(limit.soft), hard);
        rustix::process::setrlimit(resource, rustix::process::Rlimit { current: soft, maximum: hard })
            .doing(|| format!("set the limit {}", limit.name))?;
    }
    Ok(())
}

fn resource(name: &str) -> Result<Resource, Refusal> {
    Ok(match name.to_ascii_lowercase().trim_start_matches("rlimit_") {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return Err(Refusal::invalid(format!("invalid ulimit type: {name}"))),
    })
}

fn connect_streams(streams: &Streams, identity: &Identity) -> Result<(), Refusal> {
    // Its own session, so that a terminal can be its controlling one and no signal of another reaches it.
    rustix::process::setsid().doing(|| "make a session".to_owned())?;
    let connect = |stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>| {
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)
    };
    let connected = match streams {
        Streams::Terminal(terminal) => {
            rustix::process::ioctl_tiocsctty(terminal).and_then(|()| connect(terminal.as_fd(), terminal.as_fd(), terminal.as_fd()))
        }
        Streams::Given(given) => connect(given[0].as_fd(), given[1].as_fd(), given[2].as_fd()),
    };
    connected.doing(|| "connect the standard streams".to_owned())?;
    // So that the process may open /dev/stdout anew. Streams that belong to nobody here (a host's terminal) stay as they are.
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(identity.uid)), None);
    }
    Ok(())
}

fn enter_directory(path: &str) -> Result<(), Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::invalid(format!("the working directory '{path}' is invalid, it needs to be an absolute path")));
    }
    if let Err(error) = rustix::process::chdir(path) {
        if error != rustix::io::Errno::NOENT {
            return Err(error).doing(|| format!("chdir to cwd (\"{path}\") set in config.json failed"));
        }
        fs::create_dir_all(path).doing(|| format!("mkdir {path}"))?;
        rustix::process::chdir(path).doing(|| format!("chdir to cwd (\"{path}\") set in config.json failed"))?;
    }
    // A directory that was entered through a descriptor of the host (`/proc/self/fd/7`) has no path in this root.
    let inside = rustix::process::getcwd(Vec::new()).is_ok_and(|path| path.as_bytes().starts_with(b"/"));
    if inside { Ok(()) } else { Err(Refusal::invalid(format!("the working directory '{path}' is outside of the container"))) }
}

fn become_user(identity: &Identity) -> rustix::io::Result<()> {
    // Until the exec, nobody in the container may look into this process, which still is a copy of the sandbox's PID 1.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_keep_capabilities(true)?;
    set_thread_res_uid(uid, uid, uid)?;
    rustix::thread::set_keep_capabilities(false)
}

fn environment(spec: &ProcessSpec, identity: &Identity) -> Result<Vec<CString>, Refusal> {
    let mut variables = spec.env.clone();
    if !variables.iter().any(|variable| variable.starts_with("HOME=")) {
        variables.push(format!("HOME={}", identity.home));
    }
    c_strings(variables.into_iter().map(String::into_bytes)).map_err(|_| Refusal::invalid("an environment variable contains a zero byte"))
}

fn run(spec: &ProcessSpec, arguments: &[CString], environment: &[CString]) -> Refusal {
    let Some(command) = spec.args.first().filter(|command| !command.is_empty()) else {
        return Refusal::invalid("no command specified");
    };
    let path = spec.env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let file = match find(command, path) {
        Ok(file) => file,
        Err(refusal) => return refusal,
    };
    let error = match c_path(&file) {
        Ok(file) => sys::execute(&file, arguments, environment),
        Err(error) => error,
    };
    Refusal::exec(format!("exec {}: {}", file.display(), describe(&error)))
}

/// Finds the file to execute, with the messages that Docker's client recognises.
fn find(command: &str, path: &str) -> Result<PathBuf, Refusal> {
    let refused = |reason: String| Refusal::exec(format!("exec: \"{command}\": {reason}"));
    if command.contains('/') {
        let metadata = fs::metadata(command).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => refused("permission denied".to_owned()),
            _ => refused(format!("stat {command}: {}", describe(&error))),
        })?;
        return match (metadata.is_dir(), metadata.permissions().mode() & 0o111) {
            (true, _) => Err(refused("is a directory".to_owned())),
            (_, 0) => Err(refused("permission denied".to_owned())),
            _ => Ok(PathBuf::from(command)),
        };
    }
    let mut denied = false;
    for directory in path.split(':') {
        let file = Path::new(if directory.is_empty() { "." } else { directory }).join(command);
        match fs::metadata(&file) {
            Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => return Ok(file),
            Ok(metadata) => denied |= metadata.is_file(),
            Err(error) => denied |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    Err(refused(if denied { "permission denied" } else { "executable file not found in $PATH" }.to_owned()))
}

/// Becomes PID 1 of a container that asked for one. The binary is executed anew, so that nothing of the sandbox's PID 1, of which this is
/// a copy, can be read through `/proc/1` of the container.
fn become_init(binary: Option<OwnedFd>, child: Pid, identity: &Identity) -> ! {
    // The process's user suffices to signal it, and nothing else is needed any more.
    let lowered = capabilities::limit_bounding_set(CapabilitySet::empty())
        .and_then(|()| become_user(identity))
        .and_then(|()| capabilities::apply(CapabilitySet::empty(), CapabilitySet::empty()));
    let arguments = ["docker-init"].into_iter().chain(INIT_ARGUMENTS).map(str::to_owned).chain([child.as_raw_nonzero().to_string()]);
    if let (Ok(()), Some(binary), Ok(arguments)) = (lowered, binary, c_strings(arguments.map(String::into_bytes))) {
        sys::execute_descriptor(binary.as_fd(), &arguments);
    }
    sys::exit_now(127)
}

/// Opens a terminal in a mounted devpts: the engine's end and the process's.
pub(crate) fn open_terminal(devpts: impl AsFd, size: TerminalSize) -> Result<(OwnedFd, OwnedFd), Refusal> {
    use rustix::{fs::OFlags, pty::OpenptFlags, termios};
    let open = || {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let engine_end = rustix::fs::openat(devpts, "ptmx", flags, rustix::fs::Mode::empty())?;
        rustix::pty::unlockpt(&engine_end)?;
        let own_end = rustix::pty::ioctl_tiocgptpeer(&engine_end, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        if (size.rows, size.columns) != (0, 0) {
            let size = termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
            termios::tcsetwinsize(&engine_end, size)?;
        }
        rustix::io::Result::Ok((engine_end, own_end))
    };
    open().doing(|| "open a terminal".to_owned())
}

/// Takes the streams that came with a request.
pub(crate) fn given_streams(descriptors: &mut Vec<OwnedFd>) -> Result<Streams, Refusal> {
    if descriptors.len() < 3 {
        return Err(Refusal::invalid("a process that is not on a terminal needs three standard streams"));
    }
    Ok(Streams::Given(descriptors.drain(..3).collect()))
}

/// Returns a path's bytes as text for messages.
pub(crate) fn shown(path: impl AsRef<OsStr>) -> String {
    String::from_utf8_lossy(path.as_ref().as_bytes()).into_owned()
}
