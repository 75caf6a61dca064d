//! System calls that rustix lacks or marks unsafe, behind safe functions. Everything here that runs between a fork and an exec in a
//! process with threads allocates nothing and takes no lock.

use std::{
    ffi::{CStr, CString, c_int, c_long},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::{
    process::Pid,
    thread::{UnshareFlags, unshare_unsafe},
};

/// What a fork returned.
pub(crate) enum Fork {
    /// In the child.
    Child,
    /// In the parent: the child's pid, and a descriptor for it.
    Parent(Pid, OwnedFd),
}

/// `clone3` with nothing shared and a pid descriptor; `flags` are new namespaces, or `CLONE_PARENT`.
///
/// # Safety
///
/// In a process with threads the child may only make system calls: another thread may have held any lock (the allocator's too) at the
/// moment of the fork. A single-threaded caller has no such restriction.
// Needed because std's `Command` cannot run our code in the child, and libc's `fork` cannot create namespaces in one step.
pub(crate) unsafe fn fork(flags: c_int) -> io::Result<Fork> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which all zeroes is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (flags | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = ptr::from_mut(&mut pidfd) as u64;
    // A child of the caller's parent gets its exit signal from the caller; the kernel insists on zero here.
    arguments.exit_signal = if flags & libc::CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    // SAFETY: no memory is shared (no CLONE_VM), so the child continues on its own copy of this stack, as with fork. The kernel writes
    // only `pidfd`. What the child may do is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_clone3, ptr::from_ref(&arguments), size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            let pid = Pid::from_raw(i32::try_from(pid).expect("a pid fits")).expect("the child's pid is positive");
            // SAFETY: the kernel has just stored a new descriptor there, which nobody else knows.
            Ok(Fork::Parent(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
        }
    }
}

/// Ends the process at once, without running exit handlers, which belong to the process that was forked.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes no pointer and does not return.
    unsafe { libc::_exit(code) }
}

/// Moves the calling, only thread into new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "the descriptor table is never unshared");
    // SAFETY: the one danger rustix names is descriptors of an unshared table, which the assertion excludes.
    unsafe { unshare_unsafe(flags) }
}

/// Marks every descriptor from `first` on as closed by exec.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    let first = u32::try_from(first).expect("descriptors are not negative");
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed now, so no owner of a descriptor notices.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Attributes of a mount that [`set_mount_attributes`] changes.
#[derive(Clone, Copy, Default)]
pub(crate) struct MountAttributes<'fd> {
    pub set: u64,
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, …, or 0.
    pub propagation: u64,
    /// Maps ids as this user namespace does.
    pub id_map: Option<BorrowedFd<'fd>>,
}

/// `mount_setattr` on the mount that a descriptor is of.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, attributes: MountAttributes<'_>, recursive: bool) -> rustix::io::Result<()> {
    let id_map = if attributes.id_map.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: attributes.set | id_map,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: attributes.id_map.map_or(0, |namespace| namespace.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, the attributes a structure of the given size; both live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Makes `new_root`, where the process is, the root of its mount namespace and stacks the old root over it at the same place.
pub(crate) fn pivot_into_working_directory() -> rustix::io::Result<()> {
    rustix::process::pivot_root(c".", c".")
}

/// Replaces the process. Returns only the error.
pub(crate) fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    // SAFETY: the path is a C string and both arrays are null-terminated arrays of C strings, all alive until exec has copied them.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces the process by the program in an opened file, without environment. Returns only if that fails.
pub(crate) fn execute_descriptor(program: BorrowedFd<'_>, arguments: &[CString]) {
    let arguments = pointers(arguments);
    let environment: [*const libc::c_char; 1] = [ptr::null()];
    reset_signals();
    // SAFETY: as for `execute`; the empty path with AT_EMPTY_PATH means the descriptor itself.
    unsafe {
        libc::execveat(program.as_raw_fd(), c"".as_ptr(), arguments.as_ptr().cast(), environment.as_ptr().cast(), libc::AT_EMPTY_PATH);
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Takes ownership of a descriptor that the process was started with.
///
/// # Safety
///
/// The number must be that of an open descriptor that nothing else in the process owns or will take.
pub(crate) unsafe fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Blocks every signal and returns a descriptor that reports children's ends.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: sigset_t is plain integers; the functions fill and read only that set.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()).into())?;
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        let descriptor = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(descriptor as RawFd))
    }
}

/// Gives a process about to be executed the signal state of a fresh one: nothing blocked, nothing ignored.
pub(crate) fn reset_signals() {
    // SAFETY: sigset_t is plain integers; SIG_DFL installs no code of ours. Signals that cannot be changed are refused harmlessly.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Installs a system call filter. Needs `no_new_privs` or `CAP_SYS_ADMIN`.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads `len` instructions from `filter`, which is that long, and writes nothing.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, ptr::from_ref(&program)) }).map(drop)
}

/// Sends a signal by number; real-time signals, which rustix's type does not name, included.
pub(crate) fn kill(pid: Pid, signal: c_int) -> rustix::io::Result<()> {
    // SAFETY: kill takes no pointer.
    if unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) } == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Sets the host or domain name.
pub(crate) fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: the kernel reads `len` bytes of the string.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// Returns a descriptor's number in text, as `/proc/self/fd` names it.
pub(crate) fn descriptor_path(descriptor: impl AsFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd())
}

fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&io::Error::last_os_error()).expect("the last error came from the system")
}

fn check(result: c_long) -> io::Result<c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Hands every signal on to `child`, reaps all children, and exits as `child` did. For a container's own PID 1.
pub(crate) fn forward_signals_until_exit(child: Pid) -> ! {
    let pid = child.as_raw_nonzero().get();
    // SAFETY: the sets and the status are plain integers that the functions fill; every signal is blocked first, so none is lost.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
        loop {
            let mut status = 0;
            match libc::waitpid(-1, &raw mut status, libc::WNOHANG) {
                0 => match libc::sigwaitinfo(&raw const set, ptr::null_mut()) {
                    -1 | libc::SIGCHLD => {}
                    signal => _ = libc::kill(pid, signal),
                },
                ended if ended == pid && libc::WIFEXITED(status) => exit_now(libc::WEXITSTATUS(status)),
                ended if ended == pid && libc::WIFSIGNALED(status) => exit_now(128 + libc::WTERMSIG(status)),
                -1 if io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) => exit_now(0),
                _ => {}
            }
        }
    }
}
