//! BPF: the few instructions that a filter needs, and a search tree made of them.
//!
//! All code here is position-independent and ends in a return, so pieces can be put behind one another.

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

pub(super) const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
pub(super) const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// What happens to a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Errno(i32),
    /// Allowed if the first argument has none of these bits.
    WithoutBits(u32),
    /// By the first argument: each entry is the first value of a range and the verdict on it.
    ByArgument(Vec<(u32, Verdict)>),
}

pub(super) struct Program(Vec<sock_filter>);

impl Program {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn load_architecture(&mut self) {
        self.0.push(load(ARCHITECTURE));
    }

    /// Runs `code` if the loaded value is this one.
    pub(super) fn case(&mut self, value: u32, code: &[sock_filter]) {
        // A jump over the code can be longer than a conditional one reaches.
        self.0.push(instruction(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, value));
        self.0.push(jump(code.len()));
        self.0.extend_from_slice(code);
    }

    pub(super) fn finish(mut self, otherwise: Verdict) -> Vec<sock_filter> {
        self.0.extend(verdict(&otherwise));
        self.0
    }
}

pub(super) fn load_number() -> sock_filter {
    load(NUMBER)
}

/// Returns code that finds the verdict on the loaded value. Each entry is the first value of a range, in ascending order, the first of
/// them being `lowest`.
pub(super) fn search(lowest: u32, ranges: &[(u32, Verdict)]) -> Vec<sock_filter> {
    debug_assert!(ranges.first().is_some_and(|(first, _)| *first == lowest), "the ranges start where the values do");
    match ranges {
        [] => verdict(&Verdict::Errno(libc::EPERM)),
        [(_, only)] => verdict(only),
        _ => {
            let (below, from) = ranges.split_at(ranges.len() / 2);
            let pivot = from[0].0;
            let (below, from) = (search(lowest, below), search(pivot, from));
            let mut code = match u8::try_from(below.len()) {
                Ok(distance) => vec![instruction(BPF_JMP | BPF_JGE | BPF_K, distance, 0, pivot)],
                Err(_) => vec![instruction(BPF_JMP | BPF_JGE | BPF_K, 0, 1, pivot), jump(below.len())],
            };
            code.extend(below);
            code.extend(from);
            code
        }
    }
}

fn verdict(verdict: &Verdict) -> Vec<sock_filter> {
    match verdict {
        Verdict::Allow => vec![end(libc::SECCOMP_RET_ALLOW)],
        Verdict::Errno(errno) => vec![end(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())],
        Verdict::WithoutBits(bits) => vec![
            load(FIRST_ARGUMENT),
            instruction(BPF_ALU | BPF_AND | BPF_K, 0, 0, *bits),
            instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
            end(libc::SECCOMP_RET_ALLOW),
            end(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
        ],
        Verdict::ByArgument(ranges) => [vec![load(FIRST_ARGUMENT)], search(0, ranges)].concat(),
    }
}

/// Loads the low half: the arguments that are examined are 32-bit integers to the kernel.
fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
}

fn jump(distance: usize) -> sock_filter {
    instruction(BPF_JMP | BPF_JA, 0, 0, u32::try_from(distance).expect("filters are short"))
}

fn end(action: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, 0, 0, action)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).expect("operation codes have 16 bits"), jt, jf, k }
}
