//! The default system call filter: what Docker's default profile allows, compiled to BPF.
//!
//! A filter runs on every system call, and the kernel runs it once for every number when it is installed; a list of 300 comparisons costs
//! a millisecond there. This one is a binary search over ranges of numbers with the same verdict.
//!
//! | Caller | Verdict |
//! |---|---|
//! | x86-64, i386 | by the [`policy`] of the architecture |
//! | x32 | `EPERM`: kernels hardly offer it, and its numbers overlap with ours |
//! | anything else | `EPERM` |
//!
//! A system call newer than the policy gets `ENOSYS`, so that programs use what came before it.

mod assemble;
mod policy;

use rustix::thread::CapabilitySet;

use self::assemble::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Program, Verdict};

/// Bit that x32 sets in the number of a system call of the x86-64 architecture.
const X32_BIT: u32 = 0x4000_0000;

/// Compiles the default filter for a process with these capabilities.
pub(crate) fn default_filter(capabilities: CapabilitySet) -> Vec<libc::sock_filter> {
    let wide = policy::verdicts(policy::Architecture::X86_64, capabilities);
    let narrow = policy::verdicts(policy::Architecture::I386, capabilities);
    let wide = assemble::search(0, &[wide, vec![(X32_BIT, Verdict::Errno(libc::EPERM))]].concat());
    let narrow = assemble::search(0, &narrow);
    let mut program = Program::new();
    program.load_architecture();
    program.case(AUDIT_ARCH_X86_64, &[vec![assemble::load_number()], wide].concat());
    program.case(AUDIT_ARCH_I386, &[vec![assemble::load_number()], narrow].concat());
    program.finish(Verdict::Errno(libc::EPERM))
}

#[cfg(test)]
mod tests;
