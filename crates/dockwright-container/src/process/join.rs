//! Clones of PID 1 that enter a running container: to execute a process in it, or to do one thing in its namespaces and end.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};

use super::{
    ExecSpec, Refusal, Reporter, SocketProtocol, SocketSpec,
    execute::{execute, given_streams, open_terminal},
    report::Doing as _,
};
use crate::{cgroup::Group, process::execute::Streams};

/// Length of the queue of connections that nobody accepted yet.
const BACKLOG: i32 = 1024;

/// What a clone needs to know about the container it joins.
pub(crate) struct Target<'a> {
    pub pidfd: BorrowedFd<'a>,
    pub group: &'a Group,
}

/// Becomes a process of a container. The clone was made in the container's pid namespace.
pub(crate) fn run_exec(spec: &ExecSpec, target: &Target<'_>, mut descriptors: Vec<OwnedFd>, reporter: Reporter) -> ! {
    match enter(spec, target, &mut descriptors, &reporter) {
        Ok(streams) => execute(&spec.process, &streams, None, reporter),
        Err(refusal) => {
            reporter.failed(refusal);
            crate::sys::exit_now(127)
        }
    }
}

fn enter(spec: &ExecSpec, target: &Target<'_>, descriptors: &mut Vec<OwnedFd>, reporter: &Reporter) -> Result<Streams, Refusal> {
    target.group.enter(0).doing(|| "enter the container's cgroup".to_owned())?;
    let namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    move_into_thread_name_spaces(target.pidfd, namespaces).doing(|| format!("enter container {}", spec.container))?;
    let Some(size) = spec.process.terminal else { return given_streams(descriptors) };
    let devpts = rustix::fs::openat(CWD, "/dev/pts", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let (engine_end, own_end) = open_terminal(devpts.doing(|| "open /dev/pts".to_owned())?, size)?;
    reporter.opened(true, &[engine_end.as_fd()])?;
    Ok(Streams::Terminal(own_end))
}

/// Does something in a container's mount namespace, where `/` is the container's root.
pub(crate) fn run_in_mounts(
    target: BorrowedFd<'_>,
    action: impl FnOnce(BorrowedFd<'_>) -> Result<OwnedFd, Refusal>,
) -> Result<Vec<OwnedFd>, Refusal> {
    move_into_thread_name_spaces(target, ThreadNameSpaceType::MOUNT).doing(|| "enter the container's mounts".to_owned())?;
    let root = rustix::fs::openat(CWD, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = root.doing(|| "open the container's root".to_owned())?;
    Ok(vec![action(root.as_fd())?])
}

/// Enters a container's network namespace.
pub(crate) fn join_network(target: BorrowedFd<'_>) -> Result<(), Refusal> {
    move_into_thread_name_spaces(target, ThreadNameSpaceType::NETWORK).doing(|| "enter the container's network".to_owned())
}

/// Opens sockets in the network namespace the process is in.
pub(crate) fn open_sockets(specs: &[SocketSpec]) -> Result<Vec<OwnedFd>, Refusal> {
    specs.iter().map(|spec| open_socket(spec).doing(|| format!("open a socket at {}:{}", spec.address, spec.port))).collect()
}

fn open_socket(spec: &SocketSpec) -> io::Result<OwnedFd> {
    let family = if spec.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match spec.protocol {
        SocketProtocol::TcpListener => SocketType::STREAM,
        SocketProtocol::Udp => SocketType::DGRAM,
    };
    // The engine waits for it with epoll.
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if spec.protocol == SocketProtocol::TcpListener {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(spec.address, spec.port))?;
    if spec.protocol == SocketProtocol::TcpListener {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}
