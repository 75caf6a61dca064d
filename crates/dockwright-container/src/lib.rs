//! Sandboxes and containers on Linux: one sandbox per engine, any number of containers in it.
//!
//! A *sandbox* is a process tree in its own user, pid, mount, net, ipc, uts and cgroup namespaces. Its PID 1 is single-threaded, starts
//! and reaps every process inside, and is the clean-up: when it dies, for whatever reason, the kernel ends everything else.
//! The engine runs in the sandbox as an ordinary child and asks PID 1, over the [`spawner`] protocol, to start *containers*.
//!
//! ```text
//! engine host                     Sandbox::spawn(SandboxSpec)
//!  └─ sandbox PID 1               internal::sandbox_main
//!      ├─ engine                  spawner::SpawnerClient
//!      └─ containers              ContainerSpec
//! ```
//!
//! Everything is synchronous. This crate knows no images, names or HTTP, and it is the only one with `unsafe`: system calls that rustix
//! does not offer are in `sys`, each with its reason.

pub mod internal;
pub mod network;
pub mod process;
pub mod rootless;
pub mod sandbox;
pub mod socket;
pub mod spawner;

mod cgroup;
mod mount;
mod seccomp;
mod starter;
mod sys;
