//! Which system calls the default profile refuses, and to whom.
//!
//! Stated as the exceptions: whatever is not in the table and not newer than it is allowed. The result is that of Docker's profile of
//! mid-2026; the tests compare verdicts on calls that matter. Numbers are those of the kernel's `unistd_64.h` and `unistd_32.h`.

use rustix::thread::CapabilitySet as C;

use super::assemble::Verdict;

/// The newest system call that the policy knows (`open_tree_attr`, the same on both architectures).
const NEWEST: u32 = 467;

/// Flags of `clone` that make namespaces.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// `personality` values that only turn features off that a program can do without: the default, `PER_LINUX32` and `UNAME26` alone and
/// together, and the query.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Address families refused: interfaces to kernel cryptography and to the hypervisor.
const AF_ALG: u32 = 38;
const AF_VSOCK: u32 = 40;

/// The multiplexed call of `socketcall` that makes a socket; its arguments are in memory, where no filter sees them.
const SOCKETCALL_SOCKET: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    I386,
}

/// Who may make a call of the table.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Never,
    /// Whoever has one of these.
    With(&'static [C]),
}

use Rule::{Never, With};

/// Name, number on x86-64, number on i386, rule.
type Entry = (&'static str, Option<u32>, Option<u32>, Rule);

#[rustfmt::skip]
const TABLE: &[Entry] = &[
    ("open_by_handle_at", Some(304), Some(342), With(&[C::DAC_READ_SEARCH])),
    ("fanotify_init", Some(300), Some(338), With(&[C::SYS_ADMIN])),
    ("fsconfig", Some(431), Some(431), With(&[C::SYS_ADMIN])),
    ("fsmount", Some(432), Some(432), With(&[C::SYS_ADMIN])),
    ("fsopen", Some(430), Some(430), With(&[C::SYS_ADMIN])),
    ("fspick", Some(433), Some(433), With(&[C::SYS_ADMIN])),
    ("lookup_dcookie", Some(212), Some(253), With(&[C::SYS_ADMIN])),
    ("lsm_get_self_attr", Some(459), Some(459), With(&[C::SYS_ADMIN])),
    ("lsm_list_modules", Some(461), Some(461), With(&[C::SYS_ADMIN])),
    ("lsm_set_self_attr", Some(460), Some(460), With(&[C::SYS_ADMIN])),
    ("mount", Some(165), Some(21), With(&[C::SYS_ADMIN])),
    ("mount_setattr", Some(442), Some(442), With(&[C::SYS_ADMIN])),
    ("move_mount", Some(429), Some(429), With(&[C::SYS_ADMIN])),
    ("open_tree", Some(428), Some(428), With(&[C::SYS_ADMIN])),
    ("quotactl", Some(179), Some(131), With(&[C::SYS_ADMIN])),
    ("quotactl_fd", Some(443), Some(443), With(&[C::SYS_ADMIN])),
    ("setdomainname", Some(171), Some(121), With(&[C::SYS_ADMIN])),
    ("sethostname", Some(170), Some(74), With(&[C::SYS_ADMIN])),
    ("setns", Some(308), Some(346), With(&[C::SYS_ADMIN])),
    ("umount", None, Some(22), With(&[C::SYS_ADMIN])),
    ("umount2", Some(166), Some(52), With(&[C::SYS_ADMIN])),
    ("unshare", Some(272), Some(310), With(&[C::SYS_ADMIN])),
    ("bpf", Some(321), Some(357), With(&[C::SYS_ADMIN, C::BPF])),
    ("perf_event_open", Some(298), Some(336), With(&[C::SYS_ADMIN, C::PERFMON])),
    ("syslog", Some(103), Some(103), With(&[C::SYS_ADMIN, C::SYSLOG])),
    ("reboot", Some(169), Some(88), With(&[C::SYS_BOOT])),
    ("chroot", Some(161), Some(61), With(&[C::SYS_CHROOT])),
    ("delete_module", Some(176), Some(129), With(&[C::SYS_MODULE])),
    ("finit_module", Some(313), Some(350), With(&[C::SYS_MODULE])),
    ("init_module", Some(175), Some(128), With(&[C::SYS_MODULE])),
    ("get_mempolicy", Some(239), Some(275), With(&[C::SYS_NICE])),
    ("mbind", Some(237), Some(274), With(&[C::SYS_NICE])),
    ("set_mempolicy", Some(238), Some(276), With(&[C::SYS_NICE])),
    ("set_mempolicy_home_node", Some(450), Some(450), With(&[C::SYS_NICE])),
    ("acct", Some(163), Some(51), With(&[C::SYS_PACCT])),
    ("kcmp", Some(312), Some(349), With(&[C::SYS_PTRACE])),
    ("pidfd_getfd", Some(438), Some(438), With(&[C::SYS_PTRACE])),
    ("process_madvise", Some(440), Some(440), With(&[C::SYS_PTRACE])),
    ("ioperm", Some(173), Some(101), With(&[C::SYS_RAWIO])),
    ("iopl", Some(172), Some(110), With(&[C::SYS_RAWIO])),
    ("clock_settime", Some(227), Some(264), With(&[C::SYS_TIME])),
    ("clock_settime64", None, Some(404), With(&[C::SYS_TIME])),
    ("settimeofday", Some(164), Some(79), With(&[C::SYS_TIME])),
    ("stime", None, Some(25), With(&[C::SYS_TIME])),
    ("vhangup", Some(153), Some(111), With(&[C::SYS_TTY_CONFIG])),
    ("_sysctl", Some(156), Some(149), Never),
    ("add_key", Some(248), Some(286), Never),
    ("afs_syscall", Some(183), Some(137), Never),
    ("bdflush", None, Some(134), Never),
    ("break", None, Some(17), Never),
    ("create_module", Some(174), Some(127), Never),
    ("ftime", None, Some(35), Never),
    ("get_kernel_syms", Some(177), Some(130), Never),
    ("getpmsg", Some(181), Some(188), Never),
    ("gtty", None, Some(32), Never),
    ("idle", None, Some(112), Never),
    ("io_uring_enter", Some(426), Some(426), Never),
    ("io_uring_register", Some(427), Some(427), Never),
    ("io_uring_setup", Some(425), Some(425), Never),
    ("kexec_file_load", Some(320), None, Never),
    ("kexec_load", Some(246), Some(283), Never),
    ("keyctl", Some(250), Some(288), Never),
    ("lock", None, Some(53), Never),
    ("migrate_pages", Some(256), Some(294), Never),
    ("move_pages", Some(279), Some(317), Never),
    ("mpx", None, Some(56), Never),
    ("nfsservctl", Some(180), Some(169), Never),
    ("nice", None, Some(34), Never),
    ("oldfstat", None, Some(28), Never),
    ("oldlstat", None, Some(84), Never),
    ("oldolduname", None, Some(59), Never),
    ("oldstat", None, Some(18), Never),
    ("olduname", None, Some(109), Never),
    ("open_tree_attr", Some(467), Some(467), Never),
    ("pivot_root", Some(155), Some(217), Never),
    ("prof", None, Some(44), Never),
    ("profil", None, Some(98), Never),
    ("putpmsg", Some(182), Some(189), Never),
    ("query_module", Some(178), Some(167), Never),
    ("readdir", None, Some(89), Never),
    ("request_key", Some(249), Some(287), Never),
    ("security", Some(185), None, Never),
    ("sgetmask", None, Some(68), Never),
    ("sigaction", None, Some(67), Never),
    ("signal", None, Some(48), Never),
    ("sigpending", None, Some(73), Never),
    ("sigsuspend", None, Some(72), Never),
    ("ssetmask", None, Some(69), Never),
    ("stty", None, Some(31), Never),
    ("swapoff", Some(168), Some(115), Never),
    ("swapon", Some(167), Some(87), Never),
    ("sysfs", Some(139), Some(135), Never),
    ("tuxcall", Some(184), None, Never),
    ("ulimit", None, Some(58), Never),
    ("uprobe", Some(336), None, Never),
    ("uselib", Some(134), Some(86), Never),
    ("userfaultfd", Some(323), Some(374), Never),
    ("ustat", Some(136), Some(62), Never),
    ("vm86", None, Some(166), Never),
    ("vm86old", None, Some(113), Never),
    ("vserver", Some(236), Some(273), Never),
];

/// Calls that are judged by their first argument, or differently: number on x86-64, on i386.
const CLONE: (u32, u32) = (56, 120);
const CLONE3: u32 = 435;
const PERSONALITY: (u32, u32) = (135, 136);
const SOCKET: (u32, u32) = (41, 359);
const SOCKETCALL: u32 = 102;

/// Returns the verdicts as ranges of numbers that start at 0, each entry being the first number of a range.
pub(super) fn verdicts(architecture: Architecture, capabilities: C) -> Vec<(u32, Verdict)> {
    let pick = |(wide, narrow): (u32, u32)| if architecture == Architecture::X86_64 { wide } else { narrow };
    let administrator = capabilities.contains(C::SYS_ADMIN);
    let mut exceptions: Vec<(u32, Verdict)> = TABLE
        .iter()
        .filter(|(_, _, _, rule)| !rule.allows(capabilities))
        .filter_map(|(_, wide, narrow, _)| if architecture == Architecture::X86_64 { *wide } else { *narrow })
        .map(|number| (number, Verdict::Errno(libc::EPERM)))
        .collect();
    if !administrator {
        exceptions.push((pick(CLONE), Verdict::WithoutBits(NAMESPACE_FLAGS)));
        // Its flags are in memory. "Does not exist" makes programs use clone, which is judged.
        exceptions.push((CLONE3, Verdict::Errno(libc::ENOSYS)));
    }
    exceptions.push((pick(PERSONALITY), Verdict::ByArgument(only(&PERSONALITIES))));
    exceptions.push((pick(SOCKET), Verdict::ByArgument(all_but(&[AF_ALG, AF_VSOCK]))));
    if architecture == Architecture::I386 {
        exceptions.push((SOCKETCALL, Verdict::ByArgument(all_but(&[SOCKETCALL_SOCKET]))));
    }
    exceptions.sort_by_key(|(number, _)| *number);
    ranges(&exceptions)
}

impl Rule {
    fn allows(self, capabilities: C) -> bool {
        match self {
            Never => false,
            With(any) => any.iter().any(|one| capabilities.contains(*one)),
        }
    }
}

/// Fills the gaps between single numbers with "allowed", up to the newest call.
fn ranges(exceptions: &[(u32, Verdict)]) -> Vec<(u32, Verdict)> {
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    let mut next = 0;
    for (number, verdict) in exceptions {
        if *number > next {
            ranges.push((next, Verdict::Allow));
        }
        // Neighbours with the same verdict are one range.
        if *number == 0 || ranges.last().is_none_or(|(_, last)| last != verdict) {
            ranges.push((*number, verdict.clone()));
        }
        next = number + 1;
    }
    if next <= NEWEST {
        ranges.push((next, Verdict::Allow));
    }
    ranges.push((NEWEST + 1, Verdict::Errno(libc::ENOSYS)));
    ranges
}

fn only(values: &[u32]) -> Vec<(u32, Verdict)> {
    islands(values, &Verdict::Allow, &Verdict::Errno(libc::EPERM))
}

fn all_but(values: &[u32]) -> Vec<(u32, Verdict)> {
    islands(values, &Verdict::Errno(libc::EPERM), &Verdict::Allow)
}

/// Returns ranges in which ascending single values have one verdict and everything else another.
fn islands(values: &[u32], on: &Verdict, off: &Verdict) -> Vec<(u32, Verdict)> {
    let mut ranges = Vec::new();
    let mut next = Some(0);
    for value in values {
        if next.is_some_and(|next| *value > next) {
            ranges.extend(next.map(|next| (next, off.clone())));
        }
        ranges.push((*value, on.clone()));
        next = value.checked_add(1);
    }
    ranges.extend(next.map(|next| (next, off.clone())));
    ranges
}
