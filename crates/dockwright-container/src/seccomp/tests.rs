//! Runs compiled filters in a small BPF machine and compares verdicts with those of Docker's profile.

use super::{
    assemble::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64},
    *,
};

const DEFAULT: CapabilitySet = CapabilitySet::from_bits_retain(0xa804_25fb);

/// Executes a filter as the kernel does.
fn run(filter: &[libc::sock_filter], architecture: u32, number: u32, argument: u32) -> u32 {
    let mut accumulator = 0;
    let mut at = 0;
    for _ in 0..filter.len() {
        let one = filter[at];
        at += 1;
        match u32::from(one.code) {
            0x20 => {
                accumulator = match one.k {
                    0 => number,
                    4 => architecture,
                    16 => argument,
                    other => panic!("load from {other}"),
                };
            }
            0x15 => at += usize::from(if accumulator == one.k { one.jt } else { one.jf }),
            0x35 => at += usize::from(if accumulator >= one.k { one.jt } else { one.jf }),
            0x05 => at += one.k as usize,
            0x54 => accumulator &= one.k,
            0x06 => return one.k,
            other => panic!("instruction {other:#x}"),
        }
    }
    panic!("the filter does not end");
}

fn verdict(filter: &[libc::sock_filter], architecture: u32, number: i64, argument: u32) -> String {
    match run(filter, architecture, u32::try_from(number).unwrap(), argument) {
        0x7fff_0000 => "allow".to_owned(),
        0x0005_0001 => "EPERM".to_owned(),
        0x0005_0026 => "ENOSYS".to_owned(),
        other => format!("{other:#x}"),
    }
}

#[track_caller]
fn check(capabilities: CapabilitySet, cases: &[(i64, u32, &str)]) {
    let filter = default_filter(capabilities);
    for (number, argument, expected) in cases {
        assert_eq!(verdict(&filter, AUDIT_ARCH_X86_64, *number, *argument), *expected, "call {number} with {argument:#x}");
    }
}

#[test]
fn ordinary_container() {
    check(
        DEFAULT,
        &[
            (libc::SYS_read, 0, "allow"),
            (libc::SYS_openat2, 0, "allow"),
            (libc::SYS_chroot, 0, "allow"),
            (libc::SYS_ptrace, 0, "allow"),
            (libc::SYS_seccomp, 0, "allow"),
            (libc::SYS_mount, 0, "EPERM"),
            (libc::SYS_unshare, 0, "EPERM"),
            (libc::SYS_setns, 0, "EPERM"),
            (libc::SYS_keyctl, 0, "EPERM"),
            (libc::SYS_bpf, 0, "EPERM"),
            (libc::SYS_io_uring_setup, 0, "EPERM"),
            (libc::SYS_userfaultfd, 0, "EPERM"),
            (libc::SYS_open_by_handle_at, 0, "EPERM"),
            (libc::SYS_pivot_root, 0, "EPERM"),
            (libc::SYS_reboot, 0, "EPERM"),
            (libc::SYS_clone3, 0, "ENOSYS"),
            (libc::SYS_clone, 0x11, "allow"),
            (libc::SYS_clone, 0x1000_0011, "EPERM"),
            (libc::SYS_clone, 0x0002_0000, "EPERM"),
            (libc::SYS_personality, 0, "allow"),
            (libc::SYS_personality, 8, "allow"),
            (libc::SYS_personality, 0x2_0008, "allow"),
            (libc::SYS_personality, 0xffff_ffff, "allow"),
            (libc::SYS_personality, 0x4_0000, "EPERM"),
            (libc::SYS_socket, 2, "allow"),
            (libc::SYS_socket, 16, "allow"),
            (libc::SYS_socket, 38, "EPERM"),
            (libc::SYS_socket, 39, "allow"),
            (libc::SYS_socket, 40, "EPERM"),
            (467, 0, "EPERM"),
            (462, 0, "allow"),
            (468, 0, "ENOSYS"),
            (100_000, 0, "ENOSYS"),
            (0x4000_0000, 0, "EPERM"),
        ],
    );
}

#[test]
fn capabilities_open_what_they_stand_for() {
    let open = |capability: CapabilitySet, number: i64| check(DEFAULT | capability, &[(number, 0, "allow")]);
    open(CapabilitySet::SYS_ADMIN, libc::SYS_mount);
    open(CapabilitySet::SYS_ADMIN, libc::SYS_clone3);
    open(CapabilitySet::SYSLOG, libc::SYS_syslog);
    open(CapabilitySet::BPF, libc::SYS_bpf);
    open(CapabilitySet::SYS_TIME, libc::SYS_settimeofday);
    check(DEFAULT | CapabilitySet::SYS_ADMIN, &[(libc::SYS_clone, 0x1000_0011, "allow"), (libc::SYS_keyctl, 0, "EPERM")]);
    check(CapabilitySet::empty(), &[(libc::SYS_chroot, 0, "EPERM")]);
}

#[test]
fn other_architectures() {
    let filter = default_filter(DEFAULT);
    let narrow = |number, argument| verdict(&filter, AUDIT_ARCH_I386, number, argument);
    assert_eq!(narrow(3, 0), "allow", "read");
    assert_eq!(narrow(21, 0), "EPERM", "mount");
    assert_eq!(narrow(120, 0x1000_0000), "EPERM", "clone");
    assert_eq!(narrow(359, 38), "EPERM", "socket");
    assert_eq!(narrow(102, 1), "EPERM", "socketcall(socket)");
    assert_eq!(narrow(102, 3), "allow", "socketcall(connect)");
    assert_eq!(verdict(&filter, 0xc000_00b7, 0, 0), "EPERM", "aarch64 numbers mean nothing here");
}

#[test]
fn a_verdict_takes_few_instructions() {
    let filter = default_filter(DEFAULT);
    assert!(filter.len() < 1000, "{} instructions", filter.len());
    // The kernel refuses jumps beyond the end; running every number shows there are none.
    for number in 0..600 {
        for architecture in [AUDIT_ARCH_X86_64, AUDIT_ARCH_I386] {
            run(&filter, architecture, number, 0);
        }
    }
}
